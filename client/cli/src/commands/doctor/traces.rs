//! Traces that an examination leaves on a broker, and their removal.

use std::cell::RefCell;

use super::identity::Identity;
use super::link::{Limits, Link, message};
use super::trouble::Trouble;

/// Maximum number of connections for removing one client's traces, if the broker closes them.
const MAX_ATTEMPTS: usize = 3;

/// Retained messages and sessions that may be on the broker. They are recorded here before they are created, so that they
/// are removed even after an error or Ctrl-C. If the process is killed, they expire.
#[derive(Default)]
pub(super) struct Traces {
    sessions: RefCell<Vec<Identity>>,
    retained: RefCell<Vec<(Identity, String)>>,
}

impl Traces {
    /// Records a client that may leave a session or a will.
    pub(super) fn session(&self, identity: &Identity) {
        self.sessions.borrow_mut().push(identity.clone());
    }

    /// Records the topic of a retained message, and the identity that may remove it.
    pub(super) fn retained(&self, identity: &Identity, topic: &str) {
        self.retained.borrow_mut().push((identity.clone(), topic.to_owned()));
    }

    /// Ends the sessions, upon which pending wills are published, and then removes the retained messages.
    ///
    /// # Errors
    ///
    /// The first error; the removal of the rest is still attempted.
    pub(super) async fn remove(&self, limits: &Limits) -> Result<(), Trouble> {
        let mut first = Ok(());
        for identity in self.sessions.take() {
            // A clean start without a session expiry: the session ends with this connection.
            first = first.and(attempt(&identity, limits, Vec::new()).await);
        }
        let mut retained = self.retained.take();
        retained.sort_by(|(one, _), (other, _)| one.id.as_str().cmp(other.id.as_str()));
        for topics in retained.chunk_by(|(one, _), (other, _)| one.id == other.id) {
            let topics_of = topics.iter().map(|(_, topic)| topic.as_str()).collect();
            // If removing is denied, publishing was denied too: there is no message.
            match attempt(&topics[0].0, limits, topics_of).await {
                Ok(()) | Err(Trouble::Denied { .. }) => {}
                Err(trouble) => first = first.and(Err(trouble)),
            }
        }
        first
    }
}

/// Connects and removes retained messages; tries again if the connection ends.
async fn attempt(identity: &Identity, limits: &Limits, topics: Vec<&str>) -> Result<(), Trouble> {
    let mut done = Ok(());
    for _ in 0..MAX_ATTEMPTS {
        done = async {
            let mut link = Link::connect(identity, identity.connect(), limits.clone()).await?;
            let removals = topics.iter().map(|topic| {
                let mut removal = message(topic, "");
                removal.retain = true;
                removal
            });
            link.publish_all(removals).await?;
            link.close().await;
            Ok(())
        }
        .await;
        if !matches!(done, Err(Trouble::Closed { .. })) {
            break;
        }
    }
    done
}
