//! Administration of a running broker: lists of what it holds, and the ends of sessions and retained messages.

mod limits;
mod retained;
mod sessions;
mod subscriptions;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use bytestring::ByteString;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::access::Principal;
use crate::hub::Hub;
use crate::peer::Identity;

pub use limits::LimitInfo;
pub use retained::{Deleted, RetainedInfo};
pub use sessions::{ConnectionInfo, SessionInfo};
pub use subscriptions::SubscriptionInfo;

/// Maximum number of questions that wait for the broker.
const WAITING: usize = 16;
/// Maximum number of items of a list in one answer.
const MOST: usize = 1_000;
/// Bytes of texts in one answer above which the rest of a list is left for the next one.
const BYTES: usize = 256 << 10;

type Answering = Pin<Box<dyn Future<Output = ()> + Send>>;
type Question = Box<dyn FnOnce(Arc<Hub>) -> Answering + Send>;

/// Handle that administers a broker. Cheap to clone; does not keep the broker running.
///
/// Questions are answered one after the other by a task of the broker, on its own runtime. It works in parts of a few
/// hundred microseconds and yields in between, so that a list of a hundred thousand clients delays nobody. A question
/// whose future is dropped is given up. What is changed here is not logged: log it together with who asked for it.
#[derive(Clone, Debug)]
pub struct Administration {
    questions: mpsc::Sender<Question>,
    hub: Weak<Hub>,
}

/// Error of administering a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdministrationError {
    /// The broker has stopped.
    #[error("the broker has stopped")]
    Stopped,
    /// The broker has not answered earlier questions.
    #[error("the broker has not answered {WAITING} earlier questions; ask again later")]
    Busy,
    /// [`Page::after`] is not from an earlier answer.
    #[error("there is no such page; begin again without one")]
    NoSuchPage,
    /// The filter is not a valid topic filter, or a shared one.
    #[error(
        "not a topic filter: `+` has to be a whole level and `#` the last one, and `$share/GROUP/` is left out"
    )]
    NoFilter,
}

/// Part of a list to be returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// [`Listed::next`] of the part before; `None` for the beginning.
    pub after: Option<String>,
    /// Maximum number of items, from 1 to 1,000.
    pub most: usize,
}

/// Part of a list. What begins or ends while a list is read may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items. Fewer than asked for if they are long.
    pub items: Vec<T>,
    /// [`Page::after`] for the next part; `None` at the end.
    pub next: Option<String>,
}

/// Outcome of ending a connection or session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It has been ended.
    Ended,
    /// There is none with this client id.
    None,
    /// It belongs to the broker's own process, and goes on.
    Own,
}

impl Administration {
    /// Starts the task that answers, on the current runtime.
    pub(crate) fn start(hub: &Arc<Hub>) -> Self {
        let (questions, waiting) = mpsc::channel(WAITING);
        tokio::spawn(answer(hub.clone(), waiting));
        Self { questions, hub: Arc::downgrade(hub) }
    }

    /// Checks whether the access rules allow a user, or for `None` whoever did not log in, to administer the broker.
    /// Without rules they allow everybody: who reaches the administrative object is then decided by address (see
    /// [`Config::administrative_object`](crate::Config::administrative_object)).
    pub fn may_administer(&self, user: Option<&str>) -> bool {
        let Some(hub) = self.hub.upgrade() else { return false };
        let principal = user.map_or_else(Principal::default, |user| Principal::of_user(user.into()));
        let client_id = ByteString::new();
        let client = Identity { principal: &principal, client_id: &client_id };
        hub.shared.access.authorize_administration(client).is_ok()
    }

    /// Lists the connected clients, in the order in which their sessions began.
    ///
    /// # Errors
    ///
    /// The broker has stopped or is busy, or there is no such page; so for all lists.
    pub async fn clients(&self, page: Page) -> Result<Listed<SessionInfo>, AdministrationError> {
        self.ask(move |hub| sessions::list(hub, page, true)).await?
    }

    /// Lists the sessions, connected or not, in the order in which they began.
    ///
    /// # Errors
    ///
    /// As for [`clients`](Self::clients).
    pub async fn sessions(&self, page: Page) -> Result<Listed<SessionInfo>, AdministrationError> {
        self.ask(move |hub| sessions::list(hub, page, false)).await?
    }

    /// Returns the session of a client; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The broker has stopped or is busy.
    pub async fn session(&self, client_id: String) -> Result<Option<SessionInfo>, AdministrationError> {
        self.ask(async move |hub| {
            let session = hub.sessions.lock().by_client.get(&client_id).cloned();
            session.and_then(|session| session.info())
        })
        .await
    }

    /// Ends the connection of a client (DISCONNECT 0x98 in MQTT 5). Its session stays, and its will is published; a client
    /// that connects again is let in.
    ///
    /// # Errors
    ///
    /// As for [`session`](Self::session).
    pub async fn disconnect(&self, client_id: String) -> Result<Found, AdministrationError> {
        self.ask(async move |hub| sessions::disconnect(&hub, &client_id)).await
    }

    /// Ends the session of a client with its queue and its subscriptions, and its connection if there is one. Its will is
    /// published.
    ///
    /// # Errors
    ///
    /// As for [`session`](Self::session).
    pub async fn drop_session(&self, client_id: String) -> Result<Found, AdministrationError> {
        self.ask(async move |hub| hub.drop_session(&client_id)).await
    }

    /// Lists the subscriptions that get messages on topics which `filter` matches, or some of them.
    ///
    /// # Errors
    ///
    /// As for [`clients`](Self::clients), and `filter` is invalid.
    pub async fn subscriptions(
        &self,
        filter: String,
        page: Page,
    ) -> Result<Listed<SubscriptionInfo>, AdministrationError> {
        check_filter(&filter)?;
        self.ask(move |hub| subscriptions::list(hub, filter, page)).await?
    }

    /// Lists the retained messages whose topics `filter` matches, by topic.
    ///
    /// # Errors
    ///
    /// As for [`subscriptions`](Self::subscriptions).
    pub async fn retained(
        &self,
        filter: String,
        page: Page,
    ) -> Result<Listed<RetainedInfo>, AdministrationError> {
        check_filter(&filter)?;
        self.ask(move |hub| retained::list(hub, filter, page)).await
    }

    /// Deletes at most `most` retained messages whose topics `filter` matches, but for the broker's own below `$SYS`.
    /// Subscribers are told by an empty message, as if a client had deleted them.
    ///
    /// # Errors
    ///
    /// As for [`subscriptions`](Self::subscriptions).
    pub async fn delete_retained(&self, filter: String, most: usize) -> Result<Deleted, AdministrationError> {
        check_filter(&filter)?;
        self.ask(move |hub| retained::delete(hub, filter, most)).await
    }

    /// Returns the limits in effect, and how far some of them are used.
    ///
    /// # Errors
    ///
    /// As for [`session`](Self::session).
    pub async fn limits(&self) -> Result<Vec<LimitInfo>, AdministrationError> {
        self.ask(async move |hub| limits::list(&hub)).await
    }

    async fn ask<T, F>(
        &self,
        question: impl FnOnce(Arc<Hub>) -> F + Send + 'static,
    ) -> Result<T, AdministrationError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (mut sender, answer) = oneshot::channel();
        let question: Question = Box::new(move |hub| {
            let answering = question(hub);
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = sender.closed() => {}
                    answer = answering => {
                        // An error means that nobody waits any more.
                        let _ = sender.send(answer);
                    }
                }
            })
        });
        self.questions.try_send(question).map_err(|error| match error {
            TrySendError::Full(_) => AdministrationError::Busy,
            TrySendError::Closed(_) => AdministrationError::Stopped,
        })?;
        answer.await.map_err(|_| AdministrationError::Stopped)
    }
}

async fn answer(hub: Arc<Hub>, mut questions: mpsc::Receiver<Question>) {
    let mut stopping = hub.shared.stopping.subscribe();
    loop {
        let question = tokio::select! {
            biased;
            _ = stopping.wait_for(|&stop| stop) => return,
            question = questions.recv() => question,
        };
        let Some(question) = question else { return };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|&stop| stop) => return,
            () = question(hub.clone()) => {}
        }
        // Others have their turn before the next question.
        tokio::task::yield_now().await;
    }
}

fn check_filter(filter: &str) -> Result<(), AdministrationError> {
    let is_shared = crate::topic::shared(filter).is_some();
    if rantai_topics::is_filter(filter) && !is_shared { Ok(()) } else { Err(AdministrationError::NoFilter) }
}

/// Items gathered for one answer.
#[derive(Debug)]
struct Gathered<T> {
    items: Vec<T>,
    most: usize,
    bytes: usize,
}

impl<T> Gathered<T> {
    fn new(most: usize) -> Self {
        Self { items: Vec::new(), most: most.clamp(1, MOST), bytes: 0 }
    }

    /// Checks whether nothing more fits.
    fn is_full(&self) -> bool {
        self.items.len() >= self.most || self.bytes >= BYTES
    }

    /// Adds an item with texts of so many bytes. An answer is longer than [`BYTES`] by its last item at most.
    fn push(&mut self, item: T, bytes: usize) {
        self.bytes += bytes;
        self.items.push(item);
    }
}

#[cfg(test)]
mod tests;
