//! Admission of new sessions.

use std::net::IpAddr;

use bytestring::ByteString;

use super::sessions::Hub;
use crate::access::Principal;
use crate::codec::{Reason, Will};
use crate::counters::Counters;
use crate::holdings::may_hold_another;
use crate::memory::Stage;
use crate::owner::Owner;
use crate::session::SessionState;

impl Hub {
    /// Checks whether memory and the number of sessions allow a client to connect. The broker's own process is always
    /// admitted.
    ///
    /// # Errors
    ///
    /// The reason code of the refusal, which is counted.
    pub(crate) fn admit(
        &self,
        client_id: &str,
        principal: &Principal,
        address: IpAddr,
    ) -> Result<(), Reason> {
        if principal.local {
            return Ok(());
        }
        if self.shared.memory.at(Stage::Connections) {
            Counters::add(&self.shared.counters.refused_memory, 1);
            return Err(Reason::SERVER_BUSY);
        }
        let limits = self.shared.limits();
        let (known, count) = {
            let sessions = self.sessions.lock();
            (sessions.by_client.contains(client_id), sessions.by_client.len())
        };
        if known {
            return Ok(());
        }
        let owner = self.session_owner(principal, Some(address));
        let own = owner.as_ref().map_or(0, |owner| self.owners.lock().sessions_of(owner));
        let share = owner.is_some() && !may_hold_another(own, count, limits.sessions);
        if count >= limits.sessions || own >= limits.sessions_per_user || share {
            Counters::add(&self.shared.counters.refused_sessions, 1);
            Counters::add(&self.shared.counters.refused_shares, u64::from(share && count < limits.sessions));
            return Err(Reason::QUOTA_EXCEEDED);
        }
        Ok(())
    }

    /// Returns whether the will of a connecting client exceeds the limit for wills. The new will replaces an earlier
    /// one of the client's session.
    pub(crate) fn has_no_room_for(&self, will: &Will, client_id: &str) -> bool {
        let session = self.sessions.lock().by_client.get(client_id).cloned();
        let replaced =
            session.and_then(|session| session.state.lock().will.as_ref().map(|will| will.bytes()));
        self.shared.wills.are_full_for(will, replaced, self.shared.limits().will_bytes)
    }

    /// Returns whether a session with this client id exists and belongs to this user.
    pub(crate) fn has_session(&self, client_id: &str, user: &str) -> bool {
        let session = self.sessions.lock().by_client.get(client_id).cloned();
        session.is_some_and(|session| session.state.lock().principal.user.as_deref() == Some(user))
    }

    /// Returns the owner whose limits a session counts against; `None` for the broker's own process, and for a session
    /// without a user that was restored from disk.
    fn session_owner(&self, principal: &Principal, address: Option<IpAddr>) -> Option<Owner> {
        if principal.local {
            return None;
        }
        match &principal.user {
            Some(user) if self.shared.access.has_users() => Some(Owner::User(ByteString::from(&**user))),
            _ => address.map(Owner::at),
        }
    }

    /// Counts a new session for its owner.
    pub(super) fn count_session(
        &self,
        state: &mut SessionState,
        principal: &Principal,
        address: Option<IpAddr>,
    ) {
        let Some(owner) = self.session_owner(principal, address) else { return };
        let account = self.owners.lock().add(owner);
        // A session restored from disk was not counted for any owner until now.
        let filters = state.filters_held();
        self.shared.filters.give_back(None, filters);
        self.shared.filters.add(Some(&account.owner), filters);
        state.begin_account(account, &self.shared);
    }

    /// Uncounts an ended session, whose contents were removed before, from its owner.
    pub(super) fn forget_session(&self, state: &mut SessionState) {
        if let Some(account) = state.account.take() {
            self.owners.lock().remove(&account.owner);
        }
    }

    /// Returns the number of users and addresses that have sessions.
    #[cfg(test)]
    pub(crate) fn owner_count(&self) -> usize {
        self.owners.lock().len()
    }
}
