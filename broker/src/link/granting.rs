//! Reply grants for what is sent on a connection.

use std::sync::Arc;

use bytestring::ByteString;

use super::Link;
use crate::access::Action;
use crate::bus::{BusKind, BusTopic};
use crate::caller;
use crate::counters::Counters;
use crate::grants::{Asked, Given};
use crate::message::Message;
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
        let is_reply = || shared.bus.is_reply(topic);
        if shared.access.generation() == 0 || !is_reply() {
            return false;
        }
        let Some(source) = self.source.upgrade() else { return false };
        let of = Identity { principal: &self.principal, client_id: source.client_id() };
        if !self.is_asked(of, message, shared_filter) {
            return false;
        }
        let wanted = of.reply(topic, &message.properties);
        let given = shared.grants.give(&wanted, || asked(message), (expires(message, now), again), now);
        Counters::add(&shared.counters.refused_grants, u64::from(given == Given::Refused));
        given == Given::Added
    }

    /// The message was not sent.
    pub(crate) fn take_back_reply(&self, message: &Message) {
        if let Some(topic) = &message.properties.response_topic
            && let Some(source) = self.source.upgrade()
        {
            let of = Identity { principal: &self.principal, client_id: source.client_id() };
            self.shared.grants.take_back(&of.reply(topic, &message.properties));
        }
    }

    /// Whether a message is a request to this client. Who looks on is not asked, from outside the group of the object or in
    /// a group of its own: it could reply in the object's place, by grants that count for the caller.
    fn is_asked(&self, client: Identity<'_>, message: &Message, shared_filter: Option<&ByteString>) -> bool {
        let Some(of) = self.shared.bus.topic(&message.topic) else { return false };
        match of.kind {
            BusKind::Call => {
                let group = shared_filter.and_then(|filter| topic::shared(filter)?);
                group.is_some_and(|group| group.name == of.object)
            }
            BusKind::At => of.node == &**client.client_id,
            BusKind::All => self.may_serve(client, &of),
            BusKind::Reply | BusKind::Other => false,
        }
    }

    /// Whether the client may join the group of an object.
    fn may_serve(&self, client: Identity<'_>, topic: &BusTopic<'_>) -> bool {
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
