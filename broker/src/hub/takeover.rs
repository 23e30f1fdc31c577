//! Session takeover: the packets on the earlier connection are handled before a new connection takes its session over.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::sessions::Hub;
use crate::access::{Denial, Principal};
use crate::counters::Counters;
use crate::link::Link;
use crate::session::{Session, SessionState};

/// Maximum time that a new connection waits for the earlier connection of its client.
const MAX_TAKEOVER_WAIT: Duration = Duration::from_secs(1);

impl Hub {
    /// Returns whether a client may use the client id of an existing session.
    ///
    /// A session belongs to the user who created it. While that user may log in, and while a connection uses the
    /// session, no other user gets its client id. Any other session that is not the client's own, such as that of a
    /// client that did not log in, ends when the client connects, and is not resumed. The broker's own process gets
    /// every client id.
    pub(super) fn may_take_over(&self, state: &SessionState, principal: &Principal) -> bool {
        let (access, owner) = (&self.shared.access, &*state.principal);
        if principal.local || access.owns(principal, owner) {
            return true;
        }
        let is_somebodys = owner.local || owner.user.is_some() && access.knows(owner);
        access.generation() == 0 || state.link.is_none() && !is_somebodys
    }

    /// Returns whether a client may use this client id, considering an existing session with that id.
    pub(crate) fn is_free_for(&self, client_id: &str, principal: &Principal) -> bool {
        let session = self.sessions.lock().by_client.get(client_id).cloned();
        session.is_none_or(|session| self.may_take_over(&session.state.lock(), principal))
    }

    /// Returns the refusal of a CONNECT whose client id belongs to the session of another client, and counts the
    /// refusal.
    pub(crate) fn session_of_another(&self) -> Denial {
        Counters::add(&self.shared.counters.refused_client_ids, 1);
        Denial::client_id("there is a session of another client with this client id; take another one")
    }

    /// Returns the session of a client and its current connection.
    pub(crate) fn connection_of(&self, client_id: &str) -> Option<(Arc<Session>, Arc<Link>)> {
        let session = self.sessions.lock().by_client.get(client_id)?.clone();
        let link = session.state.lock().link.clone()?;
        Some((session, link))
    }

    /// Waits until a connection has handled the bytes in its socket, for at most 1 s. The caller holds the result
    /// until the waiting client is connected.
    ///
    /// The two connections of a client that sends DISCONNECT and reconnects at once are read by two tasks. Without
    /// this wait, the second could take over before the first has read the client's last messages, or its DISCONNECT,
    /// which discards the will and may end the session.
    pub(crate) async fn read_out(
        self: &Arc<Self>,
        session: &Arc<Session>,
        link: &Arc<Link>,
    ) -> ConnectWaiter {
        let (done, told) = oneshot::channel();
        let waiter = ConnectWaiter { hub: self.clone(), client_id: session.client_id.clone() };
        {
            let mut waiting = self.taking_over.lock();
            let waiting = waiting.entry(session.client_id.clone()).or_default();
            waiting.count += 1;
            waiting.told.push(done);
        }
        link.ask_to_read_out();
        // Checked after the request was set, as the connection may have ended in between.
        let connected = session.state.lock().link.as_ref().is_some_and(|now| Arc::ptr_eq(now, link));
        if connected && !link.is_closing() {
            let _ = timeout(MAX_TAKEOVER_WAIT, told).await;
        }
        waiter
    }

    /// Records that a connection has ended, or has handled the bytes that were in its socket at the time of the
    /// request.
    pub(crate) fn has_read_out(&self, session: &Session, link: &Link) {
        link.not_asked_to_read_out();
        if let Some(waiting) = self.taking_over.lock().get_mut(&session.client_id) {
            for done in waiting.told.drain(..) {
                let _ = done.send(());
            }
        }
    }

    /// Returns whether the CONNECT with this number may take over the session of its client, and records it as the
    /// latest. It may not if a later CONNECT, which did not have to wait, has had the session since.
    pub(super) fn is_latest_connect(&self, client_id: &ByteString, number: u64) -> bool {
        let mut waiting = self.taking_over.lock();
        let Some(waiting) = waiting.get_mut(client_id) else { return true };
        waiting.latest = waiting.latest.max(number);
        waiting.latest == number
    }
}

/// CONNECTs of one client that wait for its earlier connection.
#[derive(Debug, Default)]
pub(super) struct WaitingConnects {
    count: usize,
    told: Vec<oneshot::Sender<()>>,
    /// Number of the last CONNECT that took the session over while others waited.
    latest: u64,
}

/// A CONNECT that waits for the earlier connection of its client, or that has waited and is not connected yet.
#[derive(Debug)]
pub(crate) struct ConnectWaiter {
    hub: Arc<Hub>,
    client_id: ByteString,
}

impl Drop for ConnectWaiter {
    fn drop(&mut self) {
        let mut all = self.hub.taking_over.lock();
        if let Some(waiting) = all.get_mut(&self.client_id) {
            waiting.count -= 1;
            waiting.told.retain(|done| !done.is_closed());
            if waiting.count == 0 {
                all.remove(&self.client_id);
            }
        }
    }
}
