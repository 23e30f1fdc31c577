//! What an examination leaves on a broker, and how it is removed.

use std::cell::RefCell;

use super::identity::Identity;
use super::link::{Limits, Link, message};
use super::trouble::Trouble;

/// Connections for one client's traces, where the broker ends them.
const ATTEMPTS: usize = 3;

/// Retained messages and sessions that may be on the broker. Whatever makes one notes it here before, so that it is removed
/// also after an error or Ctrl-C. What is not removed, because the process is killed, expires.
#[derive(Default)]
pub(super) struct Traces {
    sessions: RefCell<Vec<Identity>>,
    retained: RefCell<Vec<(Identity, String)>>,
}

impl Traces {
    /// A client that may leave a session or a will.
    pub(super) fn session(&self, identity: &Identity) {
        self.sessions.borrow_mut().push(identity.clone());
    }

    /// A topic with a retained message, and who may remove it.
    pub(super) fn retained(&self, identity: &Identity, topic: &str) {
        self.retained.borrow_mut().push((identity.clone(), topic.to_owned()));
    }

    /// Ends the sessions, whose wills are then published if they have not been, and then removes the retained messages.
    ///
    /// # Errors
    ///
    /// The first trouble; the rest is tried all the same.
    pub(super) async fn remove(&self, limits: &Limits) -> Result<(), Trouble> {
        let mut first = Ok(());
        for identity in self.sessions.take() {
            // A clean start without an expiry: the session ends with this connection.
            first = first.and(attempt(&identity, limits, Vec::new()).await);
        }
        let mut retained = self.retained.take();
        retained.sort_by(|(one, _), (other, _)| one.id.as_str().cmp(other.id.as_str()));
        for topics in retained.chunk_by(|(one, _), (other, _)| one.id == other.id) {
            let topics_of = topics.iter().map(|(_, topic)| topic.as_str()).collect();
            // What may not be removed was not allowed before: nothing is there.
            match attempt(&topics[0].0, limits, topics_of).await {
                Ok(()) | Err(Trouble::Denied { .. }) => {}
                Err(trouble) => first = first.and(Err(trouble)),
            }
        }
        first
    }
}

/// Connects and removes retained messages, again where the connection ends meanwhile.
async fn attempt(identity: &Identity, limits: &Limits, topics: Vec<&str>) -> Result<(), Trouble> {
    let mut done = Ok(());
    for _ in 0..ATTEMPTS {
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
