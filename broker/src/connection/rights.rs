//! What a client may publish: asked once for each topic while the rules stay what they are.

use std::sync::Arc;

use super::Connection;
use crate::access::{Action, Allowed, Decisions, Denial};
use crate::codec::{Publish, Reason};
use crate::counters::Counters;
use crate::grants::Asked;
use crate::log::ClientText;
use crate::logged::Met;
use crate::peer::Identity;
use crate::session::Scratch;
use crate::topic;

/// Steps of routing that a refusal counts for: it is decided and told for each message, and routed nowhere.
const STEPS_A_DENIAL: usize = 8;

/// Decisions about one client's topics.
#[derive(Debug, Default)]
pub(super) struct PublishRights {
    topics: Decisions,
    response_topics: Decisions,
    /// Who its requests ask for; none before the first.
    pub(super) asks: Option<Arc<Asked>>,
}

/// What a message may do by a reply grant only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needed {
    /// Be published: it is a reply.
    pub(super) reply: bool,
    /// Ask for a reply on its Response Topic: it is a request that is passed on.
    pub(super) response: bool,
}

impl Connection {
    /// Whether a message may be published, and replied to where it asks for that.
    pub(super) fn check_publish(&mut self, publish: &Publish) -> Result<Needed, Denial> {
        let message = &publish.message;
        if !topic::valid_name(&message.topic, self.hub.shared.config.limits.topic_levels) {
            return Err(Reason::TOPIC_NAME_INVALID.into());
        }
        let access = &self.hub.shared.access;
        let generation = access.generation();
        if generation == 0 && !message.topic.starts_with('$') {
            return Ok(Needed::default());
        }
        let client = Identity { principal: &self.link.principal, client_id: &self.session.client_id };
        let decide = || access.authorize(client, Action::Publish, &message.topic);
        let topics = &mut self.rights.get_or_insert_default().topics;
        let allowed = topics.of(generation, &message.topic, decide)?;
        let mut needed = Needed { reply: allowed == Allowed::WithReplyGrant, response: false };
        if let Some(topic) = &message.properties.response_topic {
            match self.may_be_replied_to(topic) {
                Ok(allowed) => needed.response = allowed == Allowed::WithReplyGrant,
                Err(_) => return Err(self.no_response_of(message)),
            }
        }
        Ok(needed)
    }

    /// Whether the client may ask for replies on `topic`.
    pub(super) fn may_be_replied_to(&mut self, topic: &str) -> Result<Allowed, Denial> {
        let access = &self.hub.shared.access;
        let client = Identity { principal: &self.link.principal, client_id: &self.session.client_id };
        let decide = || access.authorize(client, Action::ReplyTo, topic);
        self.rights.get_or_insert_default().response_topics.of(access.generation(), topic, decide)
    }

    /// Refuses a message that may not be published: 0x87 in MQTT 5. In 3.1.1 it is acknowledged and dropped
    /// \[MQTT-3.3.5-2], as mosquitto does: a client that sends it again after each connection would never get on.
    pub(super) fn deny(&self, publish: &Publish, denial: &Denial, scratch: &mut Scratch) {
        let shared = &self.hub.shared;
        Counters::add(&shared.counters.refused_access, 1);
        scratch.route_steps += STEPS_A_DENIAL;
        if denial.reason == Reason::NOT_AUTHORIZED
            && shared.may_log_limit(&mut self.session.state.lock().logged, Met::Access)
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
