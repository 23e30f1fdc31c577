//! Publish rights of a client: cached decisions per topic, valid as long as the rules do not change.

use std::sync::Arc;

use super::Connection;
use crate::access::{Action, Allowed, Decisions, Denial};
use crate::codec::{Publish, Reason};
use crate::counters::Counters;
use crate::grants::Asked;
use crate::log::ClientText;
use crate::logged::ReachedLimit;
use crate::peer::Identity;
use crate::session::Scratch;
use crate::topic;

/// Routing steps charged for a refusal, which is decided and logged for each message but not routed.
const STEPS_PER_DENIAL: usize = 8;
/// Routing steps charged for a decision that is not cached.
const STEPS_PER_DECISION: usize = 16;

/// Cached decisions about the topics of one client.
#[derive(Debug, Default)]
pub(super) struct PublishRights {
    topics: Decisions,
    response_topics: Decisions,
    /// Asker of the client's requests; `None` before the first request.
    pub(super) asks: Option<Arc<Asked>>,
}

/// Parts of a message that need a reply grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NeededGrants {
    /// Whether publishing needs a grant, because the message is a reply.
    pub(super) reply: bool,
    /// Whether its Response Topic needs a grant, because the message passes a request on.
    pub(super) response: bool,
}

impl Connection {
    /// Checks whether a message may be published, and whether its Response Topic may be used.
    pub(super) fn check_publish(
        &mut self,
        publish: &Publish,
        scratch: &mut Scratch,
    ) -> Result<NeededGrants, Denial> {
        let message = &publish.message;
        if !topic::valid_name(&message.topic, self.hub.shared.limits().topic_levels) {
            return Err(Reason::TOPIC_NAME_INVALID.into());
        }
        let access = &self.hub.shared.access;
        let generation = access.generation();
        if generation == 0 && !message.topic.starts_with('$') {
            return Ok(NeededGrants::default());
        }
        let client = Identity { principal: &self.link.principal, client_id: &self.session.client_id };
        let decide = || {
            scratch.route_steps += STEPS_PER_DECISION;
            access.authorize(client, Action::Publish, &message.topic)
        };
        let topics = &mut self.rights.get_or_insert_default().topics;
        let allowed = topics.of(generation, &message.topic, decide)?;
        let mut needed = NeededGrants { reply: allowed == Allowed::WithReplyGrant, response: false };
        if let Some(topic) = &message.properties.response_topic {
            match self.may_be_replied_to(topic) {
                Ok(allowed) => needed.response = allowed == Allowed::WithReplyGrant,
                Err(_) => return Err(self.no_response_of(message)),
            }
        }
        Ok(needed)
    }

    /// Checks whether the client may ask for replies on `topic`.
    pub(super) fn may_be_replied_to(&mut self, topic: &str) -> Result<Allowed, Denial> {
        let access = &self.hub.shared.access;
        let client = Identity { principal: &self.link.principal, client_id: &self.session.client_id };
        let decide = || access.authorize(client, Action::ReplyTo, topic);
        self.rights.get_or_insert_default().response_topics.of(access.generation(), topic, decide)
    }

    /// Refuses a message that may not be published: with 0x87 in MQTT 5. In MQTT 3.1.1 it is acknowledged and dropped
    /// \[MQTT-3.3.5-2], as in mosquitto: a client that sends it again after each reconnect would otherwise never make
    /// progress.
    pub(super) fn deny(&self, publish: &Publish, denial: &Denial, scratch: &mut Scratch) {
        let shared = &self.hub.shared;
        Counters::add(&shared.counters.refused_access, 1);
        scratch.route_steps += STEPS_PER_DENIAL;
        if denial.reason == Reason::NOT_AUTHORIZED
            && shared.may_log_limit(&mut self.session.state.lock().logged, ReachedLimit::Access)
        {
            tracing::warn!(
                client = %ClientText(&self.session.client_id), user = %ClientText(self.link.principal.name()),
                peer = %self.link.peer.address, topic = %ClientText(&publish.message.topic),
                "refused: messages that the rules do not allow"
            );
        }
        self.answer_because(publish, (denial.reason, &denial.text), 0, scratch);
    }
}
