//! Simulated node: its lives, each with its own dispatcher, on one disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rantai_client::Environment;
use rantai_client::object::Calls;
use rantai_client::session::{Publish, Unsent};
use rantai_client::wire::entry::{Entry, Mode, VERSION};
use rantai_client::wire::name::{ClientId, ObjectName, Root};
use rantai_commit::{Commits, DiskError};
use tokio::time::Instant;

use super::disk::Disk;
use super::odds::Fate;
use super::work::{Runs, Worker};
use crate::dispatch::{Dispatcher, Limits, Out, Served};

/// Client id of the node.
pub(super) const NODE: &str = "pi";
/// Names of the served objects.
pub(super) const OBJECTS: [&str; 2] = ["desk", "vault"];
/// Maximum payload size of the broker, in bytes.
const MAX_PAYLOAD_BYTES: usize = 20_000;

/// Message that the node has sent.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) publish: Publish,
    /// Token; not 0 if the dispatcher wants its result.
    pub(super) token: u128,
    pub(super) at: Instant,
}

/// Connection of one life of the node to its environment.
#[derive(Debug, Default)]
pub(super) struct Outside {
    said: Mutex<Vec<Said>>,
    pub(super) backlog: AtomicUsize,
    /// Registry state of the next object of a chain.
    pub(super) served: Mutex<Option<bool>>,
    is_over: Arc<AtomicBool>,
}

impl Outside {
    pub(super) fn take(&self) -> Vec<Said> {
        std::mem::take(&mut *self.said.lock())
    }
}

struct Sink(Arc<Outside>);

impl Out for Sink {
    fn send(&self, publish: Publish, token: u128) -> Result<(), Unsent> {
        let size = publish.payload.len();
        if size > MAX_PAYLOAD_BYTES {
            return Err(Unsent::TooLarge { size, limit: MAX_PAYLOAD_BYTES });
        }
        if !self.0.is_over.load(Ordering::Relaxed) {
            self.0.said.lock().push(Said { publish, token, at: Instant::now() });
        }
        Ok(())
    }

    fn backlog(&self) -> usize {
        self.0.backlog.load(Ordering::Relaxed)
    }

    fn is_served(&self, _: &ObjectName) -> Option<bool> {
        *self.0.served.lock()
    }
}

/// Life of the node, from its start to its end.
pub(super) struct Node {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) outside: Arc<Outside>,
    pub(super) objects: Vec<Arc<Served>>,
    commits: Commits,
    disk: Disk,
}

impl Node {
    pub(super) fn start(
        disk: Disk,
        runs: &Runs,
        life: u64,
        limits: Limits,
        environment: &Environment,
    ) -> Self {
        let outside = Arc::new(Outside::default());
        let node = ClientId::new(NODE).expect("an id");
        let dispatcher =
            Dispatcher::new(Root::default(), node, Box::new(Sink(outside.clone())), Calls::default());
        let (journal, commits) = disk.open(environment.clone());
        dispatcher.keep_journal(journal);
        let serve = |name: &str| {
            let worker = Worker { runs: runs.clone(), life, is_over: outside.is_over.clone() };
            let served = Served::new(ObjectName::new(name).expect("a name"), Arc::new(worker), limits);
            *served.entry.lock() = Some(entry(name));
            assert!(dispatcher.add(served.clone()), "its name is its own");
            served
        };
        let objects = OBJECTS.into_iter().map(serve).collect();
        Self { dispatcher, outside, objects, commits, disk }
    }

    /// Commits what the journal waits for, or fails to. Returns the number of writes.
    pub(super) fn commit(&mut self, fate: Fate) -> usize {
        let doubt = DiskError::Unknown(Arc::new(redb::Error::PreviousIo));
        match fate {
            Fate::Committed => self.commits.commit(),
            Fate::CommittedInDoubt => self.commits.commit_but_tell(&doubt),
            Fate::Refused => self.commits.refuse(&DiskError::Stalled),
            Fate::RefusedInDoubt => self.commits.refuse(&doubt),
        }
    }

    /// Limits the disk to this many further operations.
    pub(super) fn crash_after(&self, operations: u64) {
        self.disk.crash_after(operations);
    }

    /// Ends the node as by kill -9. Returns the disk as the next start finds it.
    pub(super) fn kill(self) -> Disk {
        self.outside.is_over.store(true, Ordering::Relaxed);
        self.disk.after_crash()
    }

    /// Describes the calls that are left after all of them are over; empty if there are none.
    pub(super) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut look = |is_left: bool, what: String| {
            if is_left {
                left.push(what);
            }
        };
        look(!self.dispatcher.forwards.is_empty(), "requests that were passed on".to_owned());
        look(!self.dispatcher.departed.is_empty(), "refusals without an acknowledgement".to_owned());
        for served in &self.objects {
            let name = &served.name;
            look(served.running() > 0, format!("{name}: {} places", served.running()));
            look(!served.cancellable.lock().is_empty(), format!("{name}: calls that may be cancelled"));
            look(!served.streams.is_empty(), format!("{name}: streams, or bytes of them"));
            look(served.duplicates.lock().has_running(), format!("{name}: identities of running calls"));
        }
        left
    }
}

fn entry(object: &str) -> Entry {
    Entry {
        v: VERSION,
        object: object.to_owned(),
        node: NODE.to_owned(),
        epoch: "0192f7c4".to_owned(),
        mode: Mode::Exclusive,
        settled: true,
        form: None,
        version: String::new(),
        summary: String::new(),
        tags: Vec::new(),
        methods: Vec::new(),
        events: Vec::new(),
    }
}
