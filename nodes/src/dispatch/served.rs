//! Served object: its limits, and the state of its calls.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::object::{Description, Emitter, Object};
use rantai_client::shares::{CallerKey, ShareLimits, ShareLog, Shares};
use rantai_client::wire::entry::Entry;
use rantai_client::wire::name::ObjectName;
use rantai_client::wire::request::MAX_TTL_MS;
use rantai_client::wire::topic::ReplyTopic;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::cancelling::{Cancellable, Cancellables};
use super::duplicates::Duplicates;
use super::stats::Stats;
use super::streams::Streams;

/// Limits of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of waiting calls; further ones are answered with -32005.
    pub concurrent: usize,
    /// Maximum size of a result, in bytes.
    pub result: usize,
    /// Maximum number of trail items of a forwarded request.
    pub trail: usize,
    /// Whether requests that name no reply topic are answered on `{root}/reply/{object}`.
    pub public_replies: bool,
    /// Maximum number of waiting calls of one caller, instead of its fair share of `concurrent`; see
    /// [`rantai_client::shares`].
    pub per_caller: Option<usize>,
    /// Maximum time that a call may wait, whatever deadline its caller sets.
    pub max_deadline: Duration,
    /// Time after which a waiting call notifies its caller which node executes it.
    pub accepted_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent: 256,
            result: 1 << 20,
            trail: 16,
            public_replies: true,
            per_caller: None,
            max_deadline: Duration::from_millis(MAX_TTL_MS),
            accepted_after: Duration::from_millis(250),
        }
    }
}

/// Served object, and the state of its calls.
pub struct Served {
    /// Name that it is served under.
    pub name: ObjectName,
    pub(crate) object: Arc<dyn Object>,
    pub(crate) description: Description,
    pub(crate) limits: Limits,
    /// Its present registry entry.
    pub(crate) entry: Mutex<Option<Entry>>,
    /// Notified when the name is to be given up.
    pub(crate) yielded: Notify,
    /// Emitter for the object's events, set when a node adds the object.
    pub(super) emitter: OnceLock<Emitter>,
    pub(super) stats: Stats,
    /// Places of waiting calls.
    pub(super) places: Arc<Shares<CallerKey>>,
    pub(super) share_log: ShareLog,
    pub(super) duplicates: Mutex<Duplicates>,
    /// Waiting calls that may be cancelled.
    pub(super) cancellable: Mutex<Cancellables>,
    pub(super) streams: Streams,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Served({})", self.name)
    }
}

impl Served {
    /// Creates an object that is served under this name.
    pub fn new(name: ObjectName, object: Arc<dyn Object>, limits: Limits) -> Arc<Self> {
        let description = object.description();
        let places = ShareLimits {
            limit: limits.concurrent as u64,
            per_caller: limits.per_caller.map(|most| most as u64),
        };
        Arc::new(Self {
            name,
            object,
            description,
            limits,
            entry: Mutex::default(),
            yielded: Notify::new(),
            emitter: OnceLock::new(),
            stats: Stats::default(),
            places: Shares::new(places),
            share_log: ShareLog::default(),
            duplicates: Mutex::default(),
            cancellable: Mutex::default(),
            streams: Streams::default(),
        })
    }

    /// Returns the number of waiting calls.
    pub fn running(&self) -> usize {
        self.places.taken()
    }

    /// Starts the object's background task, which ends when the returned guard is dropped.
    pub(crate) fn begin(&self) -> Option<Begun> {
        let emitter = self.emitter.get()?.clone();
        Some(Begun(tokio::spawn(self.object.clone().run(emitter)).abort_handle()))
    }

    /// Returns the calls that end when nobody subscribes to this reply topic any more.
    pub(super) fn unheard(&self, topic: &ReplyTopic) -> Vec<Arc<Cancellable>> {
        self.cancellable.lock().unheard(topic)
    }

    /// Ends all streams that have begun, because the node ends: they may have no end of their own.
    pub(crate) fn end_streams(&self) {
        let keys = self.streams.begun();
        let waiting = self.cancellable.lock();
        for key in &keys {
            waiting.leave(key);
        }
    }

    /// Ends all waiting calls because the node ends, and notifies their callers.
    pub(crate) fn end_calls(&self) {
        self.cancellable.lock().leave_all();
    }

    pub(super) fn method_names(&self) -> impl Iterator<Item = &str> {
        self.description.methods.iter().map(|m| &*m.name)
    }
}

/// Running background task of an object; dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Begun(AbortHandle);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.abort();
    }
}
