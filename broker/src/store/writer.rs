//! The writer: one thread that commits whatever has gathered while it committed the last time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem, ptr};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::batch::Batch;
use super::disk::Disk;
use super::{Committed, Op, ROOM, SessionRecord, Ticket};

/// Longest wait for a group to fill.
const GATHER: Duration = Duration::from_millis(2);
/// The first pause after a failed write, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the handles and the writer share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    durable: AtomicU64,
    backlog: AtomicUsize,
    failed: AtomicBool,
    closed: AtomicBool,
    written: Notify,
}

/// What was put and not yet taken by the writer.
#[derive(Debug, Default)]
struct Waiting {
    ops: Vec<Op>,
    wake: Vec<u64>,
    puts: usize,
    bytes: usize,
    last: Ticket,
    closed: bool,
}

impl Shared {
    pub(super) fn put(&self, ops: impl IntoIterator<Item = Op>, wake: Option<u64>) -> Ticket {
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        if waiting.closed {
            return waiting.last;
        }
        let from = waiting.ops.len();
        waiting.ops.extend(ops);
        let bytes = weigh(&waiting.ops[from..]);
        waiting.bytes += bytes;
        waiting.puts += 1;
        waiting.wake.extend(wake);
        self.backlog.fetch_add(bytes, Ordering::Relaxed);
        let ticket = waiting.last;
        drop(waiting);
        self.arrived.notify_one();
        ticket
    }

    pub(super) fn durable(&self) -> Ticket {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) async fn room(&self) {
        loop {
            let written = self.written.notified();
            // `notified` counts from its creation: a commit between the check and the wait is not missed.
            if self.backlog() < ROOM || self.closed.load(Ordering::Acquire) {
                return;
            }
            written.await;
        }
    }

    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.closed.store(true, Ordering::Release);
        self.arrived.notify_one();
        self.written.notify_waiters();
    }
}

/// About what `ops` hold in memory until they are written; a message for many sessions counts once.
fn weigh(ops: &[Op]) -> usize {
    let mut last = ptr::null();
    let mut bytes = mem::size_of_val(ops);
    for op in ops {
        let message = match op {
            Op::Retain { message } => message,
            Op::Enqueue { entry, .. } => &entry.message,
            Op::SaveSession { record: SessionRecord { will: Some(will), .. }, .. } => &will.message,
            Op::Subscribe { filter, .. } => {
                bytes += filter.len();
                continue;
            }
            _ => continue,
        };
        if Arc::as_ptr(message) != last {
            bytes += message.size();
            last = Arc::as_ptr(message);
        }
    }
    bytes
}

/// What is written by one commit.
struct Group {
    ops: Vec<Op>,
    wake: Vec<u64>,
    bytes: usize,
    last: Ticket,
}

pub(super) struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
    committed: UnboundedSender<Committed>,
    /// Puts in the group before.
    puts: usize,
    /// What its commit took.
    took: Duration,
}

pub(super) fn spawn(
    disk: Disk,
    shared: Arc<Shared>,
    committed: UnboundedSender<Committed>,
) -> io::Result<JoinHandle<()>> {
    let mut writer = Writer::new(disk, shared, committed);
    thread::Builder::new().name("rantai-store".into()).spawn(move || {
        while let Some(group) = writer.next() {
            if !writer.write(group) {
                break;
            }
        }
    })
}

impl Writer {
    pub(super) fn new(disk: Disk, shared: Arc<Shared>, committed: UnboundedSender<Committed>) -> Self {
        Self { disk, shared, committed, puts: 0, took: Duration::ZERO }
    }

    /// Commits what waits, on the thread of the caller.
    #[cfg(test)]
    pub(super) fn commit(&mut self) {
        if self.shared.waiting.lock().puts > 0
            && let Some(group) = self.next()
        {
            self.write(group);
        }
    }

    /// Waits for the next group; `None` once closed and empty.
    fn next(&mut self) -> Option<Group> {
        let mut waiting = self.shared.waiting.lock();
        while waiting.puts == 0 {
            if waiting.closed {
                return None;
            }
            self.shared.arrived.wait(&mut waiting);
        }
        // Publishers that wait for each other's commit come back one after the other. Without a pause the
        // first of them would have a commit of its own and the rest wait for two: 8 publishers on a disk
        // that takes 5 ms a sync then get 1.7 times less through. A lone publisher never waits here.
        let until = Instant::now() + (self.took / 4).min(GATHER);
        while waiting.puts < self.puts
            && !waiting.closed
            && !self.shared.arrived.wait_until(&mut waiting, until).timed_out()
        {}
        self.puts = mem::take(&mut waiting.puts);
        Some(Group {
            ops: mem::take(&mut waiting.ops),
            wake: mem::take(&mut waiting.wake),
            bytes: mem::take(&mut waiting.bytes),
            last: waiting.last,
        })
    }

    /// Writes one group, however long the disk refuses; `false` if it still does when the store is closed.
    fn write(&mut self, group: Group) -> bool {
        let mut batch = Batch::default();
        for op in group.ops {
            batch.add(op);
        }
        let start = Instant::now();
        let mut pause = PAUSE;
        // Ops that come meanwhile wait their turn: folded into a batch that may already be on disk, they
        // could cancel rows that are there.
        while let Err(error) = self.attempt(&batch) {
            let closing = self.shared.closed.load(Ordering::Acquire);
            self.shared.failed.store(true, Ordering::Relaxed);
            tracing::error!(
                file = %self.disk.path.display(), %error, retry = !closing,
                "cannot write sessions and retained messages"
            );
            if closing {
                return false;
            }
            self.pause(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.took = start.elapsed();
        if self.shared.failed.swap(false, Ordering::Relaxed) {
            tracing::warn!(file = %self.disk.path.display(), "writing works again; nothing was lost");
        }
        self.shared.durable.store(group.last, Ordering::Release);
        self.shared.backlog.fetch_sub(group.bytes, Ordering::Relaxed);
        self.shared.written.notify_waiters();
        let mut wake = group.wake;
        wake.sort_unstable();
        wake.dedup();
        // Nobody to tell once the engine is gone; what is put is still written.
        let _ = self.committed.send(Committed { durable: group.last, wake });
        true
    }

    fn attempt(&mut self, batch: &Batch) -> Result<(), String> {
        match catch_unwind(AssertUnwindSafe(|| self.disk.apply(batch))) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the database panicked".into()),
        }
    }

    /// Waits, but not beyond the close.
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut waiting = self.shared.waiting.lock();
        while !waiting.closed && !self.shared.arrived.wait_until(&mut waiting, until).timed_out() {}
    }
}
