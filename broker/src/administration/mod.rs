//! Administration of a running broker: lists of sessions, subscriptions and retained messages, and their removal.

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

/// Maximum number of requests that wait for the broker.
const MAX_WAITING_REQUESTS: usize = 16;
/// Maximum number of items of a list in one answer.
const MAX_PAGE_ITEMS: usize = 1_000;
/// Number of bytes of text in one answer above which the remaining items are left for the next page.
const MAX_ANSWER_BYTES: usize = 256 << 10;

type AnswerFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type AdministrationRequest = Box<dyn FnOnce(Arc<Hub>) -> AnswerFuture + Send>;

/// Handle for administering a broker. Cheap to clone; does not keep the broker running.
///
/// Requests are answered one after the other by a task of the broker, on its own runtime. The task works for a few
/// hundred microseconds at a time and then yields, so that a list of a hundred thousand clients does not delay other
/// tasks. Dropping the future of a request cancels it. Changes are not logged here: the caller logs them with the user
/// who asked.
#[derive(Clone, Debug)]
pub struct Administration {
    questions: mpsc::Sender<AdministrationRequest>,
    hub: Weak<Hub>,
}

/// Error of administering a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdministrationError {
    /// The broker has stopped.
    #[error("the broker has stopped")]
    Stopped,
    /// Too many earlier requests are not answered yet.
    #[error("the broker has not answered {MAX_WAITING_REQUESTS} earlier requests; try again later")]
    Busy,
    /// [`Page::after`] is not from an earlier answer.
    #[error("the list has no such page; start again without `after`")]
    NoSuchPage,
    /// The filter is not a valid topic filter, or a shared one.
    #[error(
        "not a topic filter: `+` has to be a whole level and `#` the last one, and `$share/GROUP/` is left out"
    )]
    NoFilter,
}

/// Part of a list that is requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// [`Listed::next`] of the previous page; `None` for the first page.
    pub after: Option<String>,
    /// Maximum number of items, from 1 to 1,000.
    pub most: usize,
}

/// Page of a list. Sessions that begin or end while a list is read may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// Items of the page. Fewer than requested if they are long.
    pub items: Vec<T>,
    /// Value of [`Page::after`] for the next page; `None` on the last page.
    pub next: Option<String>,
}

/// Result of ending a connection or session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndResult {
    /// It was ended.
    Ended,
    /// There is no connection or session with this client id.
    None,
    /// It belongs to the broker's own process, and was not ended.
    Own,
}

impl Administration {
    /// Starts the task that answers requests, on the current runtime.
    pub(crate) fn start(hub: &Arc<Hub>) -> Self {
        let (questions, waiting) = mpsc::channel(MAX_WAITING_REQUESTS);
        tokio::spawn(answer(hub.clone(), waiting));
        Self { questions, hub: Arc::downgrade(hub) }
    }

    /// Returns whether the access rules allow a user, or for `None` clients that did not log in, to administer the
    /// broker. Without rules, everyone may; access to the administrative object is then limited by address (see
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
    /// The broker has stopped or is busy, or [`Page::after`] is not from an earlier answer.
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
    pub async fn disconnect(&self, client_id: String) -> Result<EndResult, AdministrationError> {
        self.ask(async move |hub| sessions::disconnect(&hub, &client_id)).await
    }

    /// Ends the session of a client with its queue and its subscriptions, and its connection if there is one. Its will is
    /// published.
    ///
    /// # Errors
    ///
    /// As for [`session`](Self::session).
    pub async fn drop_session(&self, client_id: String) -> Result<EndResult, AdministrationError> {
        self.ask(async move |hub| hub.drop_session(&client_id)).await
    }

    /// Lists the subscriptions whose filters match at least one topic that `filter` matches.
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

    /// Lists the retained messages whose topics match `filter`, sorted by topic.
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

    /// Deletes at most `most` retained messages whose topics match `filter`, except for the broker's own below `$SYS`.
    /// Subscribers receive an empty message for each, as if a client had deleted it.
    ///
    /// # Errors
    ///
    /// As for [`subscriptions`](Self::subscriptions).
    pub async fn delete_retained(&self, filter: String, most: usize) -> Result<Deleted, AdministrationError> {
        check_filter(&filter)?;
        self.ask(move |hub| retained::delete(hub, filter, most)).await
    }

    /// Returns the limits in effect, and the usage of those that the broker counts.
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
        let question: AdministrationRequest = Box::new(move |hub| {
            let answering = question(hub);
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = sender.closed() => {}
                    answer = answering => {
                        // Fails if the request was cancelled.
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

async fn answer(hub: Arc<Hub>, mut questions: mpsc::Receiver<AdministrationRequest>) {
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
        // Other tasks run before the next request is answered.
        tokio::task::yield_now().await;
    }
}

fn check_filter(filter: &str) -> Result<(), AdministrationError> {
    let is_shared = crate::topic::shared(filter).is_some();
    if rantai_topics::is_filter(filter) && !is_shared { Ok(()) } else { Err(AdministrationError::NoFilter) }
}

/// Items collected for one page.
#[derive(Debug)]
struct PageBuilder<T> {
    items: Vec<T>,
    most: usize,
    bytes: usize,
}

impl<T> PageBuilder<T> {
    fn new(most: usize) -> Self {
        Self { items: Vec::new(), most: most.clamp(1, MAX_PAGE_ITEMS), bytes: 0 }
    }

    /// Returns whether the page is full.
    fn is_full(&self) -> bool {
        self.items.len() >= self.most || self.bytes >= MAX_ANSWER_BYTES
    }

    /// Adds an item with `bytes` of text. Only the last item of a page may exceed [`MAX_ANSWER_BYTES`].
    fn push(&mut self, item: T, bytes: usize) {
        self.bytes += bytes;
        self.items.push(item);
    }
}

#[cfg(test)]
mod tests;
