//! Accounting of a session in the budgets that all sessions share.

use std::sync::Arc;

use super::SessionState;
use crate::absent::AbsentQueues;
use crate::config::Limits;
use crate::counters::Counters;
use crate::holdings::Amount;
use crate::in_flight_budget::MIN_IN_FLIGHT_BYTES;
use crate::log::ClientText;
use crate::logged::ReachedLimit;
use crate::owner::{Account, Owner};
use crate::shared::BrokerState;
use crate::tally::Held;

impl SessionState {
    /// Returns the owner whose limits the session counts against, if any.
    pub(crate) fn owner(&self) -> Option<&Arc<Owner>> {
        self.account.as_ref().map(|account| &account.owner)
    }

    /// Counts the session for `account` from now on. It must not have been counted for any owner before.
    pub(crate) fn begin_account(&mut self, account: Arc<Account>, shared: &BrokerState) {
        shared.absent.change(None, std::mem::take(&mut self.counted), Held::default());
        shared.in_flight.change(None, std::mem::take(&mut self.in_flight.counted), 0);
        self.account = Some(account);
        self.count_held(shared);
    }

    /// Returns the number and size of the session's filters, as counted in the budget of all sessions.
    pub(crate) fn filters_held(&self) -> Amount {
        Amount { count: self.subscriptions.len(), bytes: self.subscription_bytes }
    }

    /// Returns the number and size of the messages queued at QoS 1 and 2.
    pub(crate) fn held(&self) -> Held {
        Held { messages: self.queue.len(), bytes: self.queue_bytes }
    }

    /// Updates the counts of queued messages and of messages in flight. Must be called whenever a session becomes
    /// absent, is resumed, or ends.
    pub(crate) fn count_held(&mut self, shared: &BrokerState) {
        self.count_absent(&shared.absent);
        let bytes = if self.ended { 0 } else { self.in_flight.bytes() };
        self.set_in_flight_counted(bytes, shared);
    }

    /// Updates the count of absent sessions' messages. Must be called after each change to the queue of an absent
    /// session.
    pub(crate) fn count_absent(&mut self, absent: &AbsentQueues) {
        let held = if self.link.is_some() || self.ended { Held::default() } else { self.held() };
        let own = self.account.as_ref().map(|account| &account.absent);
        absent.change(own, std::mem::replace(&mut self.counted, held), held);
    }

    /// Returns whether the session is absent and the limits for absent sessions leave no room for another message.
    pub(super) fn above_share(&self, absent: &AbsentQueues, limits: &Limits) -> bool {
        let own = self.account.as_ref().map(|account| &account.absent);
        self.link.is_none() && absent.no_room_for(self.held(), own, limits)
    }

    /// Updates the shared count of bytes in flight after a message was sent or acknowledged, if the bytes have changed
    /// by [`MIN_IN_FLIGHT_BYTES`]: updating a count that all sessions share is too expensive for each message.
    pub(super) fn count_in_flight(&mut self, client: &str, shared: &BrokerState) {
        let (bytes, counted) = (self.in_flight.bytes(), self.in_flight.counted);
        if bytes.abs_diff(counted) < MIN_IN_FLIGHT_BYTES
            && (bytes > 0 || counted == 0)
            && !self.in_flight.capped
        {
            return;
        }
        self.set_in_flight_counted(bytes, shared);
        self.look_whether_capped(client, shared);
    }

    /// Updates `capped` before a message of more than [`MIN_IN_FLIGHT_BYTES`] bytes is sent: a large message must not
    /// rely on an outdated value.
    pub(super) fn update_capped_for(&mut self, client: &str, size: usize, shared: &BrokerState) {
        if size > MIN_IN_FLIGHT_BYTES {
            self.look_whether_capped(client, shared);
        }
    }

    fn look_whether_capped(&mut self, client: &str, shared: &BrokerState) {
        let own = self.account.as_ref().map(|account| &account.in_flight);
        let capped =
            !self.principal.local && shared.in_flight.is_full_for(own, shared.memory.in_flight_bytes);
        let begins = capped && !self.in_flight.capped;
        self.in_flight.capped = capped;
        if !begins {
            return;
        }
        Counters::add(&shared.counters.in_flight_capped, 1);
        if shared.may_log_limit(&mut self.logged, ReachedLimit::InFlight) {
            tracing::warn!(
                client = %ClientText(client),
                user = %ClientText(self.principal.user.as_deref().unwrap_or("-")),
                bytes = self.in_flight.bytes(),
                "little is sent until messages in flight are acknowledged: all clients have as much in flight as they may, or \
                 its owner its share"
            );
        }
    }

    fn set_in_flight_counted(&mut self, bytes: usize, shared: &BrokerState) {
        let own = self.account.as_ref().map(|account| &account.in_flight);
        shared.in_flight.change(own, std::mem::replace(&mut self.in_flight.counted, bytes), bytes);
    }

    /// Returns whether a message of `size` bytes that could be sent now has to wait because too much is in flight to
    /// all clients.
    pub(super) fn is_held_back(&self, size: usize, shared: &BrokerState) -> bool {
        let held_back = self.in_flight.capped && self.in_flight.bytes() + size > MIN_IN_FLIGHT_BYTES;
        if held_back && self.in_flight.bytes() == 0 {
            // Without messages in flight, no acknowledgement of the client will trigger the next attempt.
            shared.in_flight.note_held_back();
        }
        held_back
    }

    /// Returns whether messages wait for a connected client although nothing is in flight to it.
    pub(crate) fn waits_for_others(&self) -> bool {
        self.link.is_some() && self.in_flight.capped && self.in_flight.bytes() == 0 && !self.queue.is_empty()
    }
}
