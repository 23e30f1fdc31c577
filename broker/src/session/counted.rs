//! What a session counts for in the budgets that all sessions share.

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
    /// Who the session counts for, if for anyone.
    pub(crate) fn owner(&self) -> Option<&Arc<Owner>> {
        self.account.as_ref().map(|account| &account.owner)
    }

    /// It counts for `account` from now on, and has counted for nobody.
    pub(crate) fn begin_account(&mut self, account: Arc<Account>, shared: &Shared) {
        shared.absent.change(None, std::mem::take(&mut self.counted), Held::default());
        shared.in_flight.change(None, std::mem::take(&mut self.in_flight.counted), 0);
        self.account = Some(account);
        self.count_held(shared);
    }

    /// Its filters, as they are counted among those of all sessions.
    pub(crate) fn filters_held(&self) -> Amount {
        Amount { count: self.subscriptions.len(), bytes: self.subscription_bytes }
    }

    /// What its queue holds at QoS 1 and 2.
    pub(crate) fn held(&self) -> Held {
        Held { messages: self.queue.len(), bytes: self.queue_bytes }
    }

    /// Brings both counts up to date: to be called whenever a session becomes absent, is resumed, or ends.
    pub(crate) fn count_held(&mut self, shared: &Shared) {
        self.count_absent(&shared.absent);
        let bytes = if self.ended { 0 } else { self.in_flight.bytes() };
        self.set_in_flight_counted(bytes, shared);
    }

    /// Brings the count of the absent up to date with what this session holds: to be called after each change to the
    /// queue of an absent session.
    pub(crate) fn count_absent(&mut self, absent: &AbsentQueues) {
        let held = if self.link.is_some() || self.ended { Held::default() } else { self.held() };
        let own = self.account.as_ref().map(|account| &account.absent);
        absent.change(own, std::mem::replace(&mut self.counted, held), held);
    }

    /// Whether it is absent, and the absent have no room for more of its messages.
    pub(super) fn above_share(&self, absent: &AbsentQueues, limits: &Limits) -> bool {
        let own = self.account.as_ref().map(|account| &account.absent);
        self.link.is_none() && absent.no_room_for(self.held(), own, limits)
    }

    /// Something was sent or acknowledged: counts what is in flight once it has changed by [`IN_FLIGHT_ALWAYS`], as a
    /// count that all sessions share is dear for each message.
    pub(super) fn count_in_flight(&mut self, client: &str, shared: &Shared) {
        let (bytes, counted) = (self.in_flight.bytes(), self.in_flight.counted);
        if bytes.abs_diff(counted) < IN_FLIGHT_ALWAYS && (bytes > 0 || counted == 0) && !self.in_flight.capped
        {
            return;
        }
        self.set_in_flight_counted(bytes, shared);
        self.look_whether_capped(client, shared);
    }

    /// Before a message of `size` bytes is sent: a large one must not rely on what was true when this was looked at last.
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

    /// Whether a message of `size` bytes that could be sent now has to wait, as too much is in flight to all clients.
    pub(super) fn is_held_back(&self, size: usize, shared: &Shared) -> bool {
        let held_back = self.in_flight.capped && self.in_flight.bytes() + size > IN_FLIGHT_ALWAYS;
        if held_back && self.in_flight.bytes() == 0 {
            // No acknowledgement of its own client brings it on.
            shared.in_flight.note_held_back();
        }
        held_back
    }

    /// Whether nothing is in flight to a connected client though messages wait for it.
    pub(crate) fn waits_for_others(&self) -> bool {
        self.link.is_some() && self.in_flight.capped && self.in_flight.bytes() == 0 && !self.queue.is_empty()
    }
}
