//! Accounting of a session in the budgets that all sessions share.

use std::sync::Arc;

use super::State;
use crate::absent::AbsentQueues;
use crate::config::Limits;
use crate::counters::Counters;
use crate::holdings::Amount;
use crate::in_flight_budget::IN_FLIGHT_ALWAYS;
use crate::log::ClientText;
use crate::logged::Met;
use crate::owner::{Account, Owner};
use crate::shared::Shared;
use crate::tally::Held;

impl State {
    /// Returns the owner whose limits the session counts against, if any.
    pub(crate) fn owner(&self) -> Option<&Arc<Owner>> {
        self.account.as_ref().map(|account| &account.owner)
    }

    /// Counts the session against `account` from now on. It must not have counted against any owner before.
    pub(crate) fn begin_account(&mut self, account: Arc<Account>, shared: &Shared) {
        shared.absent.change(None, std::mem::take(&mut self.counted), Held::default());
        shared.in_flight.change(None, std::mem::take(&mut self.in_flight.counted), 0);
        self.account = Some(account);
        self.count_held(shared);
    }

    /// Returns the number and size of the session's filters, as they are counted among those of all sessions.
    pub(crate) fn filters_held(&self) -> Amount {
        Amount { count: self.subscriptions.len(), bytes: self.subscription_bytes }
    }

    /// Returns the number and size of the messages queued at QoS 1 and 2.
    pub(crate) fn held(&self) -> Held {
        Held { messages: self.queue.len(), bytes: self.queue_bytes }
    }

    /// Updates the counts of queued messages and of messages in flight: to be called whenever a session becomes absent,
    /// is resumed, or ends.
    pub(crate) fn count_held(&mut self, shared: &Shared) {
        self.count_absent(&shared.absent);
        let bytes = if self.ended { 0 } else { self.in_flight.bytes() };
        self.set_in_flight_counted(bytes, shared);
    }

    /// Updates the count of absent sessions' messages: to be called after each change to the queue of an absent
    /// session.
    pub(crate) fn count_absent(&mut self, absent: &AbsentQueues) {
        let held = if self.link.is_some() || self.ended { Held::default() } else { self.held() };
        let own = self.account.as_ref().map(|account| &account.absent);
        absent.change(own, std::mem::replace(&mut self.counted, held), held);
    }

    /// Checks whether the session is absent and the limits for absent sessions leave no room for another message of it.
    pub(super) fn above_share(&self, absent: &AbsentQueues, limits: &Limits) -> bool {
        let own = self.account.as_ref().map(|account| &account.absent);
        self.link.is_none() && absent.no_room_for(self.held(), own, limits)
    }

    /// Updates the shared count of bytes in flight after a message was sent or acknowledged, once the bytes have
    /// changed by [`IN_FLIGHT_ALWAYS`]: updating a count that all sessions share is too expensive for each message.
    pub(super) fn count_in_flight(&mut self, client: &str, shared: &Shared) {
        let (bytes, counted) = (self.in_flight.bytes(), self.in_flight.counted);
        if bytes.abs_diff(counted) < IN_FLIGHT_ALWAYS && (bytes > 0 || counted == 0) && !self.in_flight.capped
        {
            return;
        }
        self.set_in_flight_counted(bytes, shared);
        self.look_whether_capped(client, shared);
    }

    /// Refreshes `capped` before a message of more than [`IN_FLIGHT_ALWAYS`] bytes is sent: a large message must not
    /// rely on an outdated value.
    pub(super) fn look_at_large(&mut self, client: &str, size: usize, shared: &Shared) {
        if size > IN_FLIGHT_ALWAYS {
            self.look_whether_capped(client, shared);
        }
    }

    fn look_whether_capped(&mut self, client: &str, shared: &Shared) {
        let own = self.account.as_ref().map(|account| &account.in_flight);
        let capped =
            !self.principal.local && shared.in_flight.is_full_for(own, shared.memory.in_flight_bytes);
        let begins = capped && !self.in_flight.capped;
        self.in_flight.capped = capped;
        if !begins {
            return;
        }
        Counters::add(&shared.counters.in_flight_capped, 1);
        if shared.may_log_limit(&mut self.logged, Met::InFlight) {
            tracing::warn!(
                client = %ClientText(client),
                user = %ClientText(self.principal.user.as_deref().unwrap_or("-")),
                bytes = self.in_flight.bytes(),
                "little is sent until messages in flight are acknowledged: all clients have as much in flight as they may, or \
                 its owner its share"
            );
        }
    }

    fn set_in_flight_counted(&mut self, bytes: usize, shared: &Shared) {
        let own = self.account.as_ref().map(|account| &account.in_flight);
        shared.in_flight.change(own, std::mem::replace(&mut self.in_flight.counted, bytes), bytes);
    }

    /// Checks whether a message of `size` bytes that could be sent now has to wait because too much is in flight to all
    /// clients.
    pub(super) fn is_held_back(&self, size: usize, shared: &Shared) -> bool {
        let held_back = self.in_flight.capped && self.in_flight.bytes() + size > IN_FLIGHT_ALWAYS;
        if held_back && self.in_flight.bytes() == 0 {
            // Without messages in flight, no acknowledgement of the client itself will trigger the next attempt.
            shared.in_flight.note_held_back();
        }
        held_back
    }

    /// Checks whether messages wait for a connected client although nothing is in flight to it.
    pub(crate) fn waits_for_others(&self) -> bool {
        self.link.is_some() && self.in_flight.capped && self.in_flight.bytes() == 0 && !self.queue.is_empty()
    }
}
