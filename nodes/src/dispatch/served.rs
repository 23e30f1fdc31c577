//! An object on a node: what it is allowed, and what is known of the calls to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rantai_client::object::{Description, Emitter, Object};
use rantai_client::wire::entry::Entry;
use rantai_client::wire::name::ObjectName;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::duplicates::Duplicates;
use super::stats::Stats;

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
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrent: 256, result: 1 << 20, trail: 16, public_replies: true }
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
    pub(super) running: AtomicUsize,
    pub(super) duplicates: Mutex<Duplicates>,
    /// Calls that wait and may be cancelled, by the fingerprint of their correlation.
    pub(super) cancellable: Mutex<HashMap<Vec<u8>, Arc<Notify>>>,
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
        Arc::new(Self {
            name,
            object,
            description,
            limits,
            entry: Mutex::default(),
            yielded: Notify::new(),
            emitter: OnceLock::new(),
            stats: Stats::default(),
            running: AtomicUsize::new(0),
            duplicates: Mutex::default(),
            cancellable: Mutex::default(),
        })
    }

    /// How many calls wait for something.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Begins what the object does unasked; it ends when this is dropped.
    pub(crate) fn begin(&self) -> Option<Begun> {
        let emitter = self.emitter.get()?.clone();
        Some(Begun(tokio::spawn(self.object.clone().run(emitter)).abort_handle()))
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
