//! The node of the simulation: its lives, each with a dispatcher of its own, on one disk.

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

/// Its MQTT client id.
pub(super) const NODE: &str = "pi";
/// The objects that it serves.
pub(super) const OBJECTS: [&str; 2] = ["desk", "vault"];
/// The largest payload that the broker takes, in bytes.
const LARGEST_PAYLOAD: usize = 20_000;

/// A message of the node.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) publish: Publish,
    /// Not 0 where the dispatcher wants to know what becomes of it.
    pub(super) token: u128,
    pub(super) at: Instant,
}

/// What a life of the node says, and is told.
#[derive(Debug, Default)]
pub(super) struct Outside {
    said: Mutex<Vec<Said>>,
    pub(super) backlog: AtomicUsize,
    /// What the registry says of the next object of a chain.
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
        if size > LARGEST_PAYLOAD {
            return Err(Unsent::TooLarge { size, limit: LARGEST_PAYLOAD });
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

/// One life of the node, from its start to its end.
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

    /// Writes what the journal waits for, or does not. Returns the number of writes.
    pub(super) fn commit(&mut self, fate: Fate) -> usize {
        let doubt = DiskError::Unknown(Arc::new(redb::Error::PreviousIo));
        match fate {
            Fate::Committed => self.commits.commit(),
            Fate::CommittedInDoubt => self.commits.commit_but_tell(&doubt),
            Fate::Refused => self.commits.refuse(&DiskError::Stalled),
            Fate::RefusedInDoubt => self.commits.refuse(&doubt),
        }
    }

    /// From now on the disk keeps what is written by so many operations more, and no others.
    pub(super) fn crash_after(&self, operations: u64) {
        self.disk.crash_after(operations);
    }

    /// Ends it as kill -9 does. Returns the disk as the next start finds it.
    pub(super) fn kill(self) -> Disk {
        self.outside.is_over.store(true, Ordering::Relaxed);
        self.disk.after_crash()
    }

    /// What is left of calls once all of them are over; empty where nothing is.
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
