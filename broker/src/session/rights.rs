//! Access checks at delivery, for filters wider than the client's read rights.

use std::sync::Arc;

use bytestring::ByteString;

use super::entry::{PENDING, QueueEntry};
use super::{Scratch, SessionState};
use crate::access::{Action, Allowed, Decisions};
use crate::counters::Counters;
use crate::message::Message;
use crate::parted::PartedMap;
use crate::peer::Identity;
use crate::shared::BrokerState;
use crate::store::Op;

/// Filters of a session that are wider than its client's read rights, and cached decisions about topics.
#[derive(Debug, Default)]
pub(super) struct DeliveryRights {
    filters: PartedMap<ByteString, ()>,
    decisions: Decisions,
}

impl SessionState {
    /// Records that the subscriptions were checked with the rules of this generation.
    pub(crate) fn note_checked(&mut self, generation: u64) {
        self.checked = generation as u32;
    }

    /// Records how far a subscription is allowed, after a decision about it.
    pub(crate) fn note_allowed(&mut self, filter: &ByteString, allowed: Allowed) {
        if allowed == Allowed::AtDelivery {
            self.rights.get_or_insert_default().filters.insert(filter.clone(), ());
        } else {
            self.forget_allowed(filter);
        }
    }

    /// Removes the record about an ended subscription.
    pub(crate) fn forget_allowed(&mut self, filter: &str) {
        if let Some(rights) = &mut self.rights {
            rights.filters.remove(filter);
        }
    }

    /// Returns whether a message on `topic` may be sent to the client. Access rules are only consulted if one of the
    /// client's filters is wider than its read rights, or if the rules have changed and its filters are not checked
    /// yet.
    pub(crate) fn may_get(&mut self, client_id: &ByteString, topic: &str, shared: &BrokerState) -> bool {
        let generation = shared.access.generation();
        let has_wide_filters = || self.rights.as_ref().is_some_and(|rights| !rights.filters.is_empty());
        if generation == 0 || self.checked == generation as u32 && !has_wide_filters() {
            return true;
        }
        self.may_ever_get(client_id, topic, shared)
    }

    /// Same as [`may_get`](Self::may_get), regardless of the client's filters.
    fn may_ever_get(&mut self, client_id: &ByteString, topic: &str, shared: &BrokerState) -> bool {
        let generation = shared.access.generation();
        let client = Identity { principal: &self.principal, client_id };
        let decide = || shared.access.authorize(client, Action::Receive, topic);
        self.rights.get_or_insert_default().decisions.of(generation, topic, decide).is_ok()
    }

    /// Drops queued messages that may no longer be sent. Returns those of shared subscriptions that the session no
    /// longer has, for the other members of the groups.
    pub(crate) fn drop_forbidden(
        &mut self,
        (key, client_id): (u64, &ByteString),
        shared: &BrokerState,
        scratch: &mut Scratch,
    ) -> Vec<(ByteString, Arc<Message>)> {
        let mut left = Vec::new();
        if shared.access.generation() == 0 {
            return left;
        }
        let mut withheld = 0;
        for entry in std::mem::take(&mut self.queue) {
            // An entry cannot be deleted from the store before it was passed to the store.
            if entry.ticket == PENDING || self.may_stay(&entry, client_id, shared) {
                self.queue.push_back(entry);
                continue;
            }
            self.queue_bytes -= entry.size();
            if self.durable {
                scratch.ops.push(Op::Dequeue { key, seq: entry.seq });
            }
            match entry.shared {
                Some(filter) => left.push((filter, entry.message)),
                None => withheld += 1,
            }
        }
        for entry in std::mem::take(&mut self.queue_qos0) {
            if self.may_stay(&entry, client_id, shared) {
                self.queue_qos0.push_back(entry);
                continue;
            }
            self.queue_qos0_bytes -= entry.size();
            withheld += 1;
        }
        Counters::add(&shared.counters.withheld_access, withheld);
        left
    }

    /// Returns whether a queued message may be sent under the current rules.
    fn may_stay(&mut self, entry: &QueueEntry, client_id: &ByteString, shared: &BrokerState) -> bool {
        match &entry.shared {
            Some(filter) => self.subscriptions.contains_key(filter),
            None => self.may_ever_get(client_id, &entry.message.topic, shared),
        }
    }
}
