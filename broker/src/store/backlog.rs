//! Queue between the callers of a store and its writer, and the state that the writer reports.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use std::{mem, ptr};

use rantai_group_commit::{Operation, Queue};
use tokio::sync::Notify;

use super::health::{Health, ReportedHealth};
use super::{MAX_BACKLOG_BYTES, Op, SessionRecord, Ticket};

/// State shared by the handles of a store and its writer.
#[derive(Debug, Default)]
pub(super) struct StoreState {
    pub(super) queue: Queue<WaitingOps>,
    pub(super) durable: AtomicU64,
    pub(super) backlog: AtomicUsize,
    pub(super) told: ReportedHealth,
    pub(super) written: Notify,
    /// Disk operation in progress.
    pub(super) operation: Operation,
}

/// Operations that were put and that the writer has not taken yet.
#[derive(Debug, Default)]
pub(super) struct WaitingOps {
    pub(super) ops: Vec<Op>,
    pub(super) wake: Vec<u64>,
    pub(super) bytes: usize,
    /// Lengths of `ops` and `wake`, and `bytes`, after each put.
    #[cfg(test)]
    pub(super) puts: Vec<[usize; 3]>,
}

impl StoreState {
    pub(super) fn put(&self, ops: impl IntoIterator<Item = Op>, wake: Option<u64>) -> Ticket {
        self.queue.put(|waiting| {
            let from = waiting.ops.len();
            waiting.ops.extend(ops);
            let bytes = weigh(&waiting.ops[from..]);
            waiting.bytes += bytes;
            waiting.wake.extend(wake);
            #[cfg(test)]
            waiting.puts.push([waiting.ops.len(), waiting.wake.len(), waiting.bytes]);
            self.backlog.fetch_add(bytes, Ordering::Relaxed);
        })
    }

    pub(super) fn durable(&self) -> Ticket {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    pub(super) fn health(&self) -> Health {
        self.told.health()
    }

    pub(super) fn space(&self) -> (u64, u64) {
        self.told.space()
    }

    #[cfg(test)]
    pub(super) fn set_health(&self, health: Health) {
        self.told.set(health);
    }

    /// Returns whether clients have to wait for the writer. They do not wait for a failed disk: packets that need it
    /// are refused, and the others are handled.
    pub(super) fn is_behind(&self) -> bool {
        self.backlog() > MAX_BACKLOG_BYTES && self.health() == Health::Healthy
    }

    pub(super) async fn room(&self) {
        loop {
            let written = self.written.notified();
            // `notified` registers when it is created, so a commit between the check and the wait is not missed.
            if !self.is_behind() || self.queue.is_closed() {
                return;
            }
            written.await;
        }
    }

    pub(super) async fn on_disk(&self, ticket: Ticket) {
        loop {
            let written = self.written.notified();
            if self.durable() >= ticket {
                return;
            }
            written.await;
        }
    }

    /// Returns whether the writer has been in the same disk operation for `longest`.
    pub(super) fn is_stalled(&self, longest: Duration) -> bool {
        self.operation.is_stalled(longest)
    }

    /// Reports the disk as stalled if the writer has been in the same operation for `longest`, which the writer cannot
    /// report itself. The writer's next report replaces this one.
    pub(super) fn look_for_stall(&self, file: &Path, longest: Duration) {
        self.operation.tell_stalled(longest, || {
            self.told.set(Health::Stalled);
            tracing::error!(
                file = %file.display(), seconds = longest.as_secs(),
                "the disk does not answer: nothing new is kept until it does"
            );
            self.written.notify_waiters();
        });
    }

    pub(super) fn close(&self) {
        self.queue.close();
        self.written.notify_waiters();
    }
}

/// Returns the approximate memory of `ops` until they are written, in bytes. A message for many sessions counts once.
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
