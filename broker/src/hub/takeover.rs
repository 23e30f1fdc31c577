//! What a connection has sent comes before the connection that takes its session over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::sessions::Hub;
use crate::access::{Denial, Principal};
use crate::counters::Counters;
use crate::link::Link;
use crate::session::{Session, State};

/// How long a new connection waits for the earlier one of its client.
const PATIENCE: Duration = Duration::from_secs(1);

impl Hub {
    /// Whether a client may have the client id of a session that is there.
    ///
    /// A session belongs to the user who made it. While that user may log in, and while a connection uses the session,
    /// nobody else gets its client id. Anything else that is not the client's own, such as what a client that did not log in
    /// has left, ends where it connects, and is never resumed by it. The broker's own process gets every client id.
    pub(super) fn may_take_over(&self, state: &State, principal: &Principal) -> bool {
        let (access, owner) = (&self.shared.access, &*state.principal);
        if principal.local || access.owns(principal, owner) {
            return true;
        }
        let is_somebodys = owner.local || owner.user.is_some() && access.knows(owner);
        access.generation() == 0 || state.link.is_none() && !is_somebodys
    }

    /// Whether a client may have this client id, as far as the session of that id goes.
    pub(crate) fn is_free_for(&self, client_id: &str, principal: &Principal) -> bool {
        let session = self.sessions.lock().by_client.get(client_id).cloned();
        session.is_none_or(|session| self.may_take_over(&session.state.lock(), principal))
    }

    /// The refusal of a CONNECT whose client id has a session that is somebody else's.
    pub(crate) fn session_of_another(&self) -> Denial {
        Counters::add(&self.shared.counters.refused_client_ids, 1);
        Denial::client_id("there is a session of another client with this client id; take another one")
    }

    /// The session of a client, and the connection that it has now.
    pub(crate) fn connection_of(&self, client_id: &str) -> Option<(Arc<Session>, Arc<Link>)> {
        let session = self.sessions.lock().by_client.get(client_id)?.clone();
        let link = session.state.lock().link.clone()?;
        Some((session, link))
    }

    /// Lets a connection work through what its socket holds, for a second at most.
    ///
    /// A client that says DISCONNECT and connects again at once has its two connections read by two tasks: without this,
    /// the second may take over before the first has read that its will is not to be published and its session is to end,
    /// or the last messages it sent.
    pub(crate) async fn read_out(&self, session: &Arc<Session>, link: &Arc<Link>) {
        let (done, told) = oneshot::channel();
        self.taking_over.lock().entry(session.key).or_default().push(done);
        link.ask_to_read_out();
        // After it was asked, for it may have ended before.
        let connected = session.state.lock().link.as_ref().is_some_and(|now| Arc::ptr_eq(now, link));
        if connected && !link.is_closing() {
            let _ = timeout(PATIENCE, told).await;
        } else {
            drop(told);
        }
        let mut waiting = self.taking_over.lock();
        if let Some(others) = waiting.get_mut(&session.key) {
            others.retain(|done| !done.is_closed());
            if others.is_empty() {
                waiting.remove(&session.key);
            }
        }
    }

    /// A connection has worked through what its socket held when it was asked to, or has ended.
    pub(crate) fn has_read_out(&self, session: &Session, link: &Link) {
        link.not_asked_to_read_out();
        for done in self.taking_over.lock().remove(&session.key).unwrap_or_default() {
            let _ = done.send(());
        }
    }
}
