//! Reply grants for messages sent on a connection.

use std::sync::Arc;

use bytestring::ByteString;

use super::Link;
use crate::access::Action;
use crate::bus::{BusKind, BusTopic};
use crate::caller;
use crate::counters::Counters;
use crate::grants::{Asked, Given, Wanted};
use crate::message::{Message, Properties};
use crate::peer::Identity;
use crate::topic;

impl Link {
    /// Gives the client a reply grant, if the message is a request to it. Called before the message is sent, so that
    /// the client cannot have read the request without the grant. Returns whether the client may send one more reply
    /// than before.
    pub(crate) fn grant_reply(
        &self,
        message: &Message,
        (shared_filter, again): (Option<&ByteString>, bool),
        now: u64,
    ) -> bool {
        let Some(topic) = &message.properties.response_topic else { return false };
        let shared = &*self.shared;
        // Messages with a known asker were checked when they were published: they ask for a reply on the bus.
        let is_reply = || message.asked.is_some() || shared.bus.is_reply(topic);
        if shared.access.generation() == 0 || !is_reply() {
            return false;
        }
        let Some(source) = self.source.upgrade() else { return false };
        let client_id = source.client_id();
        if !self.is_asked(client_id, message, shared_filter) {
            return false;
        }
        let wanted = self.reply_of(client_id, topic, &message.properties);
        let given = shared.grants.give(&wanted, || asked(message), (expires(message, now), again), now);
        Counters::add(&shared.counters.refused_grants, u64::from(given == Given::Refused));
        given == Given::Added
    }

    /// Withdraws a grant, because the message was not sent.
    pub(crate) fn take_back_reply(&self, message: &Message) {
        if let Some(topic) = &message.properties.response_topic
            && let Some(source) = self.source.upgrade()
        {
            let wanted = self.reply_of(source.client_id(), topic, &message.properties);
            self.shared.grants.take_back(&wanted);
        }
    }

    /// Returns the grant that this client needs to reply on `topic` to the request with these properties.
    pub(crate) fn reply_of<'a>(
        &'a self,
        client_id: &'a ByteString,
        topic: &'a str,
        properties: &'a Properties,
    ) -> Wanted<'a> {
        let correlation = properties.correlation_data.as_deref().unwrap_or_default();
        Wanted { principal: &self.principal, client_id, topic, correlation }
    }

    /// Returns whether a message is a request to this client. Subscribers that only monitor requests, outside the
    /// object's group or in a group of their own, get no grant: they could reply in the object's place, with grants
    /// that count against the caller.
    fn is_asked(
        &self,
        client_id: &ByteString,
        message: &Message,
        shared_filter: Option<&ByteString>,
    ) -> bool {
        let Some(of) = self.shared.bus.topic(&message.topic) else { return false };
        match of.kind {
            BusKind::Call => {
                let group = shared_filter.and_then(|filter| topic::shared(filter)?);
                group.is_some_and(|group| group.name == of.object)
            }
            BusKind::At => of.node == &**client_id,
            BusKind::All => self.may_serve(client_id, &of),
            _ => false,
        }
    }

    /// Checks whether the client may join the group of an object.
    fn may_serve(&self, client_id: &ByteString, topic: &BusTopic<'_>) -> bool {
        let client = Identity { principal: &self.principal, client_id };
        self.shared.access.authorize(client, Action::Subscribe, &topic.group_filter()).is_ok()
    }
}

/// Returns the asker of a message. A message from disk has only the caller.
fn asked(message: &Message) -> Arc<Asked> {
    message.asked.clone().unwrap_or_else(|| {
        let caller = caller::of(message).map(|caller| ByteString::from(&*caller));
        Arc::new(Asked { caller, ..Asked::default() })
    })
}

/// Returns the expiry time of a request, from its Message Expiry Interval or its user property `ttl_ms`.
fn expires(message: &Message, now: u64) -> Option<u64> {
    let ttl = || message.user("ttl_ms").and_then(|ttl| ttl.parse::<u64>().ok());
    message.expires.or_else(|| Some(now.saturating_add(ttl()?)))
}
