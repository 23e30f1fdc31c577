//! The writer: one thread that commits whatever has gathered while it committed the last time.
//!
//! Unlike the nodes' committer, which refuses the writes of a group that failed and says of each what became of it, this
//! one writes the same group again until it is on disk: all that waits for it are tickets, and a batch may be applied
//! twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem, ptr};

use rantai_group_commit::{Backoff, Group, Pace, Queue};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::batch::Batch;
use super::disk::Disk;
use super::{Committed, Op, ROOM, SessionRecord, Ticket};

/// The longest pause after a failed write.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A group is waited for during this part of the last commit's time.
const PART: u32 = 4;

/// What the handles and the writer share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    queue: Queue<Waiting>,
    durable: AtomicU64,
    backlog: AtomicUsize,
    failed: AtomicBool,
    written: Notify,
}

/// What was put and not yet taken by the writer.
#[derive(Debug, Default)]
struct Waiting {
    ops: Vec<Op>,
    wake: Vec<u64>,
    bytes: usize,
}

impl Shared {
    pub(super) fn put(&self, ops: impl IntoIterator<Item = Op>, wake: Option<u64>) -> Ticket {
        self.queue.put(|waiting| {
            let from = waiting.ops.len();
            waiting.ops.extend(ops);
            let bytes = weigh(&waiting.ops[from..]);
            waiting.bytes += bytes;
            waiting.wake.extend(wake);
            self.backlog.fetch_add(bytes, Ordering::Relaxed);
        })
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
            if self.backlog() < ROOM || self.queue.is_closed() {
                return;
            }
            written.await;
        }
    }

    pub(super) fn close(&self) {
        self.queue.close();
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

pub(super) struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
    committed: UnboundedSender<Committed>,
    pace: Pace,
}

pub(super) fn spawn(
    disk: Disk,
    shared: Arc<Shared>,
    committed: UnboundedSender<Committed>,
) -> io::Result<JoinHandle<()>> {
    let mut writer = Writer::new(disk, shared, committed);
    thread::Builder::new().name("rantai-store".into()).spawn(move || while writer.next(None) {})
}

impl Writer {
    pub(super) fn new(disk: Disk, shared: Arc<Shared>, committed: UnboundedSender<Committed>) -> Self {
        Self { disk, shared, committed, pace: Pace::new(PART, usize::MAX) }
    }

    /// Waits for the next group, at most until `until`, and writes it; false when the store is closed and either
    /// everything is written or it cannot be.
    pub(super) fn next(&mut self, until: Option<Instant>) -> bool {
        let Some(group) = self.shared.queue.next(&mut self.pace, until) else { return false };
        group.puts == 0 || self.write(group)
    }

    /// Writes one group, however long the disk refuses; `false` if it still does when the store is closed.
    fn write(&mut self, Group { group, last, .. }: Group<Waiting>) -> bool {
        let mut batch = Batch::default();
        for op in group.ops {
            batch.add(op);
        }
        let start = Instant::now();
        let mut backoff = Backoff::new(LONGEST_PAUSE);
        // Ops that come meanwhile wait their turn: folded into a batch that may already be on disk, they
        // could cancel rows that are there.
        while let Err(error) = self.attempt(&batch) {
            let closing = self.shared.queue.is_closed();
            self.shared.failed.store(true, Ordering::Relaxed);
            tracing::error!(
                file = %self.disk.path.display(), %error, retry = !closing,
                "cannot write sessions and retained messages"
            );
            if closing {
                return false;
            }
            self.shared.queue.pause(backoff.failed());
        }
        self.pace.took(start.elapsed());
        if self.shared.failed.swap(false, Ordering::Relaxed) {
            tracing::warn!(file = %self.disk.path.display(), "writing works again; nothing was lost");
        }
        self.shared.durable.store(last, Ordering::Release);
        self.shared.backlog.fetch_sub(group.bytes, Ordering::Relaxed);
        self.shared.written.notify_waiters();
        let mut wake = group.wake;
        wake.sort_unstable();
        wake.dedup();
        // Nobody to tell once the engine is gone; what is put is still written.
        let _ = self.committed.send(Committed { durable: last, wake });
        true
    }

    fn attempt(&mut self, batch: &Batch) -> Result<(), String> {
        let result = match catch_unwind(AssertUnwindSafe(|| self.disk.apply(batch))) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the database panicked".into()),
        };
        if result.is_err() {
            self.disk.database.close();
        }
        result
    }
}
