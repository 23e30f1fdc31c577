//! An object on a node: what it is allowed, and what is known of the calls to it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::object::{Description, Emitter, Object};
use rantai_client::shares::{CallerKey, ShareLimits, ShareLog, Shares};
use rantai_client::wire::entry::Entry;
use rantai_client::wire::name::ObjectName;
use rantai_client::wire::request::LONGEST_TTL_MS;
use rantai_client::wire::topic::ReplyTopic;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::cancelling::{Cancellable, Cancellables};
use super::duplicates::Duplicates;
use super::stats::Stats;
use super::streams::Streams;

/// What an object is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls that may wait for something at the same time; further ones are answered with -32005.
    pub concurrent: usize,
    /// The largest result, in bytes.
    pub result: usize,
    /// Items of a trail that may be passed on.
    pub trail: usize,
    /// Whether requests that name no reply topic are answered on `{root}/reply/{object}`.
    pub public_replies: bool,
    /// Waiting calls of one caller, instead of its fair share of `concurrent`: see [`rantai_client::shares`].
    pub per_caller: Option<usize>,
    /// The longest time a call may wait, whatever deadline its caller sets.
    pub max_deadline: Duration,
    /// A call that waits for longer tells its caller which node carries it out.
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
            max_deadline: Duration::from_millis(LONGEST_TTL_MS),
            accepted_after: Duration::from_millis(250),
        }
    }
}

/// An object, and what is known of the calls to it.
pub struct Served {
    /// The name it is served by.
    pub name: ObjectName,
    pub(crate) object: Arc<dyn Object>,
    pub(crate) description: Description,
    pub(crate) limits: Limits,
    /// What the registry says of it now.
    pub(crate) entry: Mutex<Option<Entry>>,
    /// The name is to be given up.
    pub(crate) yielded: Notify,
    /// By which the object says something unasked, once a node has taken it in.
    pub(super) emitter: OnceLock<Emitter>,
    pub(super) stats: Stats,
    /// Places of calls that wait for something.
    pub(super) places: Arc<Shares<CallerKey>>,
    pub(super) share_log: ShareLog,
    pub(super) duplicates: Mutex<Duplicates>,
    /// Calls that wait and may be cancelled.
    pub(super) cancellable: Mutex<Cancellables>,
    pub(super) streams: Streams,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Served({})", self.name)
    }
}

impl Served {
    /// Under this name.
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

    /// How many calls wait for something.
    pub fn running(&self) -> usize {
        self.places.taken()
    }

    /// Begins what the object does unasked; it ends when this is dropped.
    pub(crate) fn begin(&self) -> Option<Begun> {
        let emitter = self.emitter.get()?.clone();
        Some(Begun(tokio::spawn(self.object.clone().run(emitter)).abort_handle()))
    }

    /// Calls that end when nobody subscribes to this reply topic any more.
    pub(super) fn unheard(&self, topic: &ReplyTopic) -> Vec<Arc<Cancellable>> {
        self.cancellable.lock().unheard(topic)
    }

    /// Its node ends: streams that have begun end, which may have no end of their own.
    pub(crate) fn end_streams(&self) {
        let keys = self.streams.begun();
        let waiting = self.cancellable.lock();
        for key in &keys {
            waiting.leave(key);
        }
    }

    /// Its node ends: what still waits ends with it, and its callers are told.
    pub(crate) fn end_calls(&self) {
        self.cancellable.lock().leave_all();
    }

    pub(super) fn method_names(&self) -> impl Iterator<Item = &str> {
        self.description.methods.iter().map(|m| &*m.name)
    }
}

/// What an object does unasked.
#[derive(Debug)]
pub(crate) struct Begun(AbortHandle);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.abort();
    }
}
