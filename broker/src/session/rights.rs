//! What a session may be sent, where its filters are wider than that.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashSet;

use super::entry::{Entry, PENDING};
use super::{Scratch, State};
use crate::access::{Action, Allowed, Decisions};
use crate::counters::Counters;
use crate::message::Message;
use crate::peer::Identity;
use crate::shared::Shared;
use crate::store::Op;

/// Where a session's filters are wider than what its client may read.
#[derive(Debug, Default)]
pub(super) struct DeliveryRights {
    filters: HashSet<ByteString>,
    decisions: Decisions,
}

impl State {
    /// Its subscriptions were looked at by the rules of this generation.
    pub(crate) fn note_checked(&mut self, generation: u64) {
        self.checked = generation as u32;
    }

    /// Remembers how far a subscription is allowed, which was decided just now.
    pub(crate) fn note_allowed(&mut self, filter: &ByteString, allowed: Allowed) {
        if allowed == Allowed::AtDelivery {
            self.rights.get_or_insert_default().filters.insert(filter.clone());
        } else {
            self.forget_allowed(filter);
        }
    }

    /// A subscription has ended.
    pub(crate) fn forget_allowed(&mut self, filter: &str) {
        if let Some(rights) = &mut self.rights
            && rights.filters.remove(filter)
            && rights.filters.is_empty()
        {
            rights.filters = HashSet::new();
        }
    }

    /// Whether a message on `topic` may be sent to the client: asked where one of its filters is wider than what it may
    /// read, and between a change of the rules and the look at its filters.
    pub(crate) fn may_get(&mut self, client_id: &ByteString, topic: &str, shared: &Shared) -> bool {
        let generation = shared.access.generation();
        let has_wide_filters = || self.rights.as_ref().is_some_and(|rights| !rights.filters.is_empty());
        if generation == 0 || self.checked == generation as u32 && !has_wide_filters() {
            return true;
        }
        self.may_ever_get(client_id, topic, shared)
    }

    /// [`may_get`](Self::may_get), whatever its filters are.
    fn may_ever_get(&mut self, client_id: &ByteString, topic: &str, shared: &Shared) -> bool {
        let generation = shared.access.generation();
        let client = Identity { principal: &self.principal, client_id };
        let decide = || shared.access.authorize(client, Action::Receive, topic);
        self.rights.get_or_insert_default().decisions.of(generation, topic, decide).is_ok()
    }

    /// Takes out what is queued and may not be sent any more. Returns what came by shared subscriptions that the session
    /// has no more, for the groups' other members.
    pub(crate) fn drop_forbidden(
        &mut self,
        (key, client_id): (u64, &ByteString),
        shared: &Shared,
        scratch: &mut Scratch,
    ) -> Vec<(ByteString, Arc<Message>)> {
        let mut left = Vec::new();
        if shared.access.generation() == 0 {
            return left;
        }
        let mut withheld = 0;
        for entry in std::mem::take(&mut self.queue) {
            // What the store does not know yet it cannot be told to forget.
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

    /// Whether what is queued may be sent by the rules of now.
    fn may_stay(&mut self, entry: &Entry, client_id: &ByteString, shared: &Shared) -> bool {
        match &entry.shared {
            Some(filter) => self.subscriptions.contains_key(filter),
            None => self.may_ever_get(client_id, &entry.message.topic, shared),
        }
    }
}
