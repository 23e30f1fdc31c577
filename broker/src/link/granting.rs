//! Reply grants for what is sent on a connection.

use std::sync::Arc;

use bytestring::ByteString;

use super::Link;
use crate::bus::BusKind;
use crate::caller;
use crate::counters::Counters;
use crate::grants::{Asked, Given};
use crate::message::Message;

impl Link {
    /// The client is about to be sent a message, as a member of a shared group or not. Where that is a request to it, it may
    /// reply from now on: before it can have read it. True where one more reply is allowed than before.
    pub(crate) fn grant_reply(&self, message: &Message, (in_group, again): (bool, bool), now: u64) -> bool {
        let Some(topic) = &message.properties.response_topic else { return false };
        let shared = &*self.shared;
        if shared.access.generation() == 0 || !self.is_asked(message, in_group) || !shared.bus.is_reply(topic)
        {
            return false;
        }
        let wanted = self.identity.reply(topic, &message.properties);
        let given = shared.grants.give(&wanted, || asked(message), (expires(message, now), again), now);
        Counters::add(&shared.counters.refused_grants, u64::from(given == Given::Refused));
        given == Given::Added
    }

    /// The message was not sent.
    pub(crate) fn take_back_reply(&self, message: &Message) {
        if let Some(topic) = &message.properties.response_topic {
            self.shared.grants.take_back(&self.identity.reply(topic, &message.properties));
        }
    }

    /// Whether a message is a request to this client. Who looks on from outside the group of an object is not asked: it
    /// would be given grants that nobody uses up, and that count for the caller.
    fn is_asked(&self, message: &Message, in_group: bool) -> bool {
        let Some(topic) = self.shared.bus.topic(&message.topic) else { return false };
        match topic.kind {
            BusKind::Call => in_group,
            BusKind::At => topic.node == &*self.identity.client_id,
            BusKind::All => true,
            BusKind::Reply | BusKind::Other => false,
        }
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
