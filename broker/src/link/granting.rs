//! Reply grants for what is sent on a connection.

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
    /// The client is about to be sent a message, by a shared filter or not. Where that is a request to it, it may reply
    /// from now on: before it can have read it. True where one more reply is allowed than before.
    pub(crate) fn grant_reply(
        &self,
        message: &Message,
        (shared_filter, again): (Option<&ByteString>, bool),
        now: u64,
    ) -> bool {
        let Some(topic) = &message.properties.response_topic else { return false };
        let shared = &*self.shared;
        // Who asks for a reply is known of messages that were looked at: those do.
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

    /// The message was not sent.
    pub(crate) fn take_back_reply(&self, message: &Message) {
        if let Some(topic) = &message.properties.response_topic
            && let Some(source) = self.source.upgrade()
        {
            let wanted = self.reply_of(source.client_id(), topic, &message.properties);
            self.shared.grants.take_back(&wanted);
        }
    }

    /// This client's reply on `topic`, to the request with these properties.
    pub(crate) fn reply_of<'a>(
        &'a self,
        client_id: &'a ByteString,
        topic: &'a str,
        properties: &'a Properties,
    ) -> Wanted<'a> {
        let correlation = properties.correlation_data.as_deref().unwrap_or_default();
        Wanted { principal: &self.principal, client_id, topic, correlation }
    }

    /// Whether a message is a request to this client. Who looks on is not asked, from outside the group of the object or in
    /// a group of its own: it could reply in the object's place, by grants that count for the caller.
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
            BusKind::Reply | BusKind::Other => false,
        }
    }

    /// Whether the client may join the group of an object.
    fn may_serve(&self, client_id: &ByteString, topic: &BusTopic<'_>) -> bool {
        let client = Identity { principal: &self.principal, client_id };
        self.shared.access.authorize(client, Action::Subscribe, &topic.group_filter()).is_ok()
    }
}

/// Who has asked. A message from disk says only who called.
fn asked(message: &Message) -> Arc<Asked> {
    message.asked.clone().unwrap_or_else(|| {
        let caller = caller::of(message).map(|caller| ByteString::from(&**caller));
        Arc::new(Asked { caller, ..Asked::default() })
    })
}

/// When a request expires: by its Message Expiry Interval, or by what it says itself.
fn expires(message: &Message, now: u64) -> Option<u64> {
    let ttl = || message.user("ttl_ms").and_then(|ttl| ttl.parse::<u64>().ok());
    message.expires.or_else(|| Some(now.saturating_add(ttl()?)))
}
