//! When each registry entry of another node was published, and by which user, by the word of a broker that stamps
//! `caller`.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::wire::user::User;
use tokio::time::Instant;

/// How long a claim counts that does not settle.
pub(crate) const CLAIM_LIFETIME: Duration = Duration::from_secs(5);

/// Stamps by the topic of the entry.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    by_topic: Mutex<HashMap<String, Stamp>>,
}

#[derive(Debug)]
struct Stamp {
    /// `None` for a client that has not logged in.
    user: Option<User>,
    seen: Instant,
}

impl Stamps {
    /// Notes an entry, and who published it. A stored copy of one that is known already says nothing new.
    pub(crate) fn note(&self, topic: &str, user: Option<User>, stored: bool) {
        let mut by_topic = self.by_topic.lock();
        if !(stored && by_topic.contains_key(topic)) {
            by_topic.insert(topic.to_owned(), Stamp { user, seen: Instant::now() });
        }
    }

    /// Forgets an entry that is gone.
    pub(crate) fn remove(&self, topic: &str) {
        self.by_topic.lock().remove(topic);
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        self.by_topic.lock().clear();
    }

    /// Whether an entry was published by this user; `None` is a client that has not logged in.
    pub(crate) fn is_by(&self, topic: &str, user: Option<&User>) -> bool {
        self.by_topic.lock().get(topic).is_some_and(|stamp| stamp.user.as_ref() == user)
    }

    /// Whether a claim has come within [`CLAIM_LIFETIME`].
    pub(crate) fn is_fresh(&self, topic: &str) -> bool {
        self.by_topic.lock().get(topic).is_some_and(|stamp| stamp.seen.elapsed() < CLAIM_LIFETIME)
    }
}
