//! Time and publisher of each registry entry of other nodes; the publisher is known if the broker stamps the user property
//! `caller`.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::wire::user::User;
use tokio::time::Instant;

/// Time for which a claim counts that does not settle.
pub(crate) const CLAIM_LIFETIME: Duration = Duration::from_secs(5);

/// Time and publisher of entries, by topic.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    by_topic: Mutex<HashMap<String, Stamp>>,
}

#[derive(Debug)]
struct Stamp {
    /// Publisher of the entry; `None` if it was not logged in.
    user: Option<User>,
    seen: Instant,
}

impl Stamps {
    /// Records an entry and its publisher. Ignores a retained copy of an entry that is known already.
    pub(crate) fn note(&self, topic: &str, user: Option<User>, stored: bool) {
        let mut by_topic = self.by_topic.lock();
        if !(stored && by_topic.contains_key(topic)) {
            by_topic.insert(topic.to_owned(), Stamp { user, seen: Instant::now() });
        }
    }

    /// Forgets an entry that was removed.
    pub(crate) fn remove(&self, topic: &str) {
        self.by_topic.lock().remove(topic);
    }

    /// Forgets all entries.
    pub(crate) fn clear(&self) {
        self.by_topic.lock().clear();
    }

    /// Checks whether an entry was published by this user; `None` is a client that has not logged in.
    pub(crate) fn is_by(&self, topic: &str, user: Option<&User>) -> bool {
        self.by_topic.lock().get(topic).is_some_and(|stamp| stamp.user.as_ref() == user)
    }

    /// Checks whether a claim arrived within [`CLAIM_LIFETIME`].
    pub(crate) fn is_fresh(&self, topic: &str) -> bool {
        self.by_topic.lock().get(topic).is_some_and(|stamp| stamp.seen.elapsed() < CLAIM_LIFETIME)
    }
}
