//! Writer thread: commits the operations collected during the last commit.
//!
//! Unlike the nodes' committer, which refuses the writes of a failed group and reports the result of each, this writer
//! retries the same group until it is on disk: callers wait only for tickets, and a batch may be applied twice.
//! Operations put meanwhile are added to the batch, which shrinks when clients take their queued messages. If the disk
//! is full, deletions are written first.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rantai_group_commit::{Backoff, Group, Pace, Space, is_full};
use tokio::sync::mpsc::UnboundedSender;

use super::backlog::{StoreState, WaitingOps};
use super::batch::Batch;
use super::compaction::Compaction;
use super::disk::Disk;
use super::health::{Health, SpaceWatch};
use super::reserve::Reserve;
use super::{Committed, Ticket};

/// Maximum delay after a failed write.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);
/// Interval at which free space is checked while nothing is written.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Numbers of rows deleted per transaction on a full disk: fewer if there is not enough space for the transaction.
const DELETIONS_PER_COMMIT: [usize; 3] = [256, 16, 1];
/// Part (1/n) of the last commit's duration for which the writer waits to collect a group.
const GATHER_DIVISOR: u32 = 4;

pub(super) struct Writer {
    disk: Disk,
    shared: Arc<StoreState>,
    committed: UnboundedSender<Committed>,
    pace: Pace,
    room: Option<SpaceManager>,
}

/// Space management of the writer: checks of free space, the reserve, and compactions.
pub(super) struct SpaceManager {
    watch: SpaceWatch,
    reserve: Reserve,
    compaction: Compaction,
}

impl SpaceManager {
    pub(super) fn new(watch: SpaceWatch, reserve: Reserve) -> Self {
        Self { watch, reserve, compaction: Compaction::new(Instant::now()) }
    }
}

/// Operations of the next commit.
#[derive(Default)]
pub(super) struct Pending {
    batch: Batch,
    wake: Vec<u64>,
    bytes: usize,
    last: Ticket,
}

impl Pending {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.last == 0
    }

    pub(super) fn add(&mut self, Group { group, last, .. }: Group<WaitingOps>) {
        for op in group.ops {
            self.batch.add(op);
        }
        self.wake.extend(group.wake);
        self.bytes += group.bytes;
        self.last = last;
    }
}

/// Handle of a writer's thread.
#[derive(Debug)]
pub(super) struct WriterThread {
    thread: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl WriterThread {
    /// Waits for the end of a writer whose store is closed; gives up if the disk has been stalled for `stall`.
    pub(super) fn join(self, shared: &StoreState, stall: Duration) {
        while self.ended.recv_timeout(SPACE_CHECK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            if shared.is_stalled(stall) {
                tracing::error!("the disk does not answer: what waits for it is not written");
                return;
            }
        }
        if self.thread.join().is_err() {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Error of a write.
struct WriteError {
    text: String,
    full: bool,
}

pub(super) fn spawn(
    disk: Disk,
    shared: Arc<StoreState>,
    committed: UnboundedSender<Committed>,
    room: SpaceManager,
) -> io::Result<WriterThread> {
    let mut writer = Writer::new(disk, shared, committed);
    writer.room = Some(room);
    // Checked before the first client is admitted.
    writer.look(true);
    let (end, ended) = channel();
    let run = move || {
        let _end = end;
        while writer.next(Some(Instant::now() + SPACE_CHECK_INTERVAL)) {}
    };
    let thread = thread::Builder::new().name("rantai-store".into()).spawn(run)?;
    Ok(WriterThread { thread, ended })
}

impl Writer {
    pub(super) fn new(disk: Disk, shared: Arc<StoreState>, committed: UnboundedSender<Committed>) -> Self {
        Self { disk, shared, committed, pace: Pace::new(GATHER_DIVISOR, usize::MAX), room: None }
    }

    /// Waits for the next group, at most until `until`, and writes it. Returns false if the store is closed and
    /// everything is written, or cannot be written.
    pub(super) fn next(&mut self, until: Option<Instant>) -> bool {
        let Some(group) = self.shared.queue.next(&mut self.pace, until) else { return false };
        self.look(group.puts == 0);
        group.puts == 0 || self.write(group)
    }

    /// Writes one group and the operations put meanwhile, and retries while the disk fails. Returns false if it still
    /// fails when the store is closed.
    fn write(&mut self, group: Group<WaitingOps>) -> bool {
        let mut pending = Pending::default();
        pending.add(group);
        let start = Instant::now();
        let mut backoff = Backoff::new(MAX_RETRY_DELAY);
        loop {
            // Read before the attempt, so that all operations put before the close are part of an attempt.
            let closing = self.shared.queue.is_closed();
            if self.try_write(&mut pending) {
                self.pace.took(start.elapsed());
                return true;
            }
            if closing {
                return false;
            }
            self.shared.queue.pause(backoff.failed());
            self.measure();
            if let Some(more) = self.shared.queue.next(&mut self.pace, Some(Instant::now())) {
                pending.add(more);
            }
        }
    }

    /// Writes `pending` and reports the commit; returns false if the disk fails. The caller may try again, with more
    /// operations.
    pub(super) fn try_write(&mut self, pending: &mut Pending) -> bool {
        while let Err(refused) = self.attempt(&pending.batch) {
            self.tell(if refused.full { Health::Full } else { Health::Failing }, &refused.text);
            // The changes may be on disk nevertheless.
            pending.batch.attempted();
            if !(refused.full && self.make_room(&mut pending.batch)) {
                return false;
            }
        }
        let Pending { batch, mut wake, bytes, last } = std::mem::take(pending);
        if let Some(room) = &mut self.room {
            room.compaction.removed |= batch.deletes();
        }
        // Set before the tickets, because clients that are woken by the commit must find a store that accepts writes.
        if self.shared.health().is_failed() {
            self.look(false);
        }
        self.shared.durable.store(last, Ordering::Release);
        self.shared.backlog.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.written.notify_waiters();
        wake.sort_unstable();
        wake.dedup();
        // The receiver is dropped when the broker stops; operations are still written.
        let _ = self.committed.send(Committed { durable: last, wake });
        true
    }

    fn attempt(&mut self, batch: &Batch) -> Result<(), WriteError> {
        self.caught(|disk| disk.apply(batch))
    }

    /// Runs `job` on the disk, and closes the database if it fails or panics.
    fn caught<T>(&mut self, job: impl FnOnce(&mut Disk) -> Result<T, redb::Error>) -> Result<T, WriteError> {
        let Self { disk, shared, .. } = self;
        let run = || shared.operation.run(|| job(disk));
        let result = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result.map_err(|error| WriteError {
                full: matches!(&error, redb::Error::Io(error) if is_full(error)),
                text: error.to_string(),
            }),
            Err(_) => Err(WriteError { text: "the database panicked".into(), full: false }),
        };
        if result.is_err() {
            self.disk.database.close();
        }
        result
    }

    /// Writes the deletions of `batch` before the rest, with the reserve released. Returns whether any were written.
    fn make_room(&mut self, batch: &mut Batch) -> bool {
        if !batch.deletes() {
            return false;
        }
        if let Some(room) = &mut self.room {
            self.shared.operation.run(|| room.reserve.release());
        }
        let (mut removed, mut sizes) = (false, DELETIONS_PER_COMMIT.into_iter());
        let mut size = sizes.next();
        while let Some(most) = size {
            let part = batch.take_deletions(most);
            if part.is_empty() {
                break;
            }
            if self.attempt(&part).is_ok() {
                removed = true;
            } else {
                batch.put_back(part);
                size = sizes.next();
            }
        }
        if removed {
            if let Some(room) = &mut self.room {
                room.compaction.removed = true;
            }
            // A failure is reported by the next attempt.
            let _ = self.caught(|disk| disk.settle());
        }
        removed
    }

    /// Measures the free space. Returns it with the reserve to leave free, and whether it is below that.
    fn measure(&mut self) -> Option<(Space, u64, bool)> {
        let watch = &mut self.room.as_mut()?.watch;
        let (space, floor, low) = self.shared.operation.run(|| watch.look())?;
        self.shared.told.set_space(space.free, floor);
        Some((space, floor, low))
    }

    /// Checks the free space and reports whether it is low. If so, and if rows were deleted, the file is compacted
    /// when no client waits for a commit (`idle`).
    fn look(&mut self, idle: bool) {
        let measured = self.measure();
        let Some(room) = &mut self.room else { return self.tell(Health::Healthy, "") };
        let (space, floor, low) = measured.unwrap_or_default();
        if !low {
            self.shared.operation.run(|| room.reserve.hold(space, floor));
            return self.tell(Health::Healthy, "");
        }
        if room.compaction.is_due(idle, Instant::now()) {
            self.compact();
        }
        self.tell(Health::Low, "");
    }

    fn compact(&mut self) {
        let start = Instant::now();
        let compacted = self.caught(Disk::compact);
        let Some(room) = &mut self.room else { return };
        if let Err(refused) = &compacted {
            // A compaction needs space itself.
            self.shared.operation.run(|| room.reserve.release());
            tracing::debug!(file = %self.disk.path.display(), error = refused.text, "cannot compact");
        }
        room.compaction.ended(compacted.ok(), start, Instant::now());
    }

    /// Reports the health of the disk, and logs its changes.
    fn tell(&mut self, health: Health, error: &str) {
        let before = self.shared.told.set(health);
        if before == health {
            return;
        }
        let file = self.disk.path.display();
        let (free, floor) = self.shared.told.space();
        match health {
            Health::Healthy if before.is_failed() => {
                tracing::warn!(%file, "writing works again; nothing was lost");
            }
            Health::Healthy => tracing::warn!(%file, free, floor, "there is free space again"),
            Health::Low => tracing::warn!(
                %file, free, floor,
                "less is free on the disk than the floor: nothing new is kept; make room"
            ),
            // The writer itself never reports `Stalled`.
            Health::Full | Health::Failing | Health::Stalled => tracing::error!(
                %file, error, free,
                "cannot write sessions and retained messages; it is tried again until it works"
            ),
        }
        // Clients do not wait for a failed disk.
        self.shared.written.notify_waiters();
    }
}
