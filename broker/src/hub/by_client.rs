//! Index of sessions by client id.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::parted::PartedTable;
use crate::session::Session;

/// Finds sessions by client id. The id is read from the session itself: a copy in the index would cost about 50 bytes
/// more for each of a hundred thousand idle clients.
#[derive(Debug, Default)]
pub(crate) struct ByClient {
    hasher: DefaultHashBuilder,
    sessions: PartedTable<Arc<Session>>,
}

impl ByClient {
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn get(&self, client_id: &str) -> Option<&Arc<Session>> {
        self.sessions.find(self.hasher.hash_one(client_id), |session| session.client_id == client_id)
    }

    pub(crate) fn contains(&self, client_id: &str) -> bool {
        self.get(client_id).is_some()
    }

    /// Returns all sessions, in no particular order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.iter()
    }

    /// Adds a session, replacing the existing session of the same client id.
    pub(crate) fn insert(&mut self, session: Arc<Session>) {
        let hasher = |session: &Arc<Session>| self.hasher.hash_one(&*session.client_id);
        let is_same = |other: &Arc<Session>| other.client_id == session.client_id;
        let entry = self.sessions.find_or_insert(hasher(&session), is_same, hasher, || session.clone());
        *entry = session;
    }

    /// Removes a session, unless its client already has another one.
    pub(crate) fn remove(&mut self, session: &Arc<Session>) {
        let hash = self.hasher.hash_one(&*session.client_id);
        self.sessions.remove(hash, |other| Arc::ptr_eq(other, session));
    }

    pub(crate) fn clear(&mut self) {
        self.sessions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_one_session_and_remove_spares_a_newer_one() {
        let mut sessions = ByClient::default();
        for key in 0..100 {
            sessions.insert(Session::new(key, format!("client {key}").into()));
        }
        let first = sessions.get("client 7").cloned().expect("added");
        let second = Session::new(200, "client 7".into());
        sessions.insert(second.clone());
        assert_eq!(sessions.len(), 100);
        sessions.remove(&first);
        assert!(sessions.get("client 7").is_some_and(|session| session.key == 200), "another one by now");
        sessions.remove(&second);
        assert!(!sessions.contains("client 7") && sessions.contains("client 8"));
        assert_eq!(sessions.values().count(), 99);
        sessions.clear();
        assert_eq!((sessions.len(), sessions.get("client 8").is_none()), (0, true));
    }
}
