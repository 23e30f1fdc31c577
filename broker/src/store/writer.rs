//! The writer: one thread that commits whatever has gathered while it committed the last time.
//!
//! Unlike the nodes' committer, which refuses the writes of a group that failed and says of each what became of it, this
//! one writes the same group again until it is on disk: all that waits for it are tickets, and a batch may be applied
//! twice. What is put meanwhile is folded into it, so that it gets smaller when clients take what is queued for them, and
//! where the disk is full what removes rows is written first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem, ptr};

use rantai_group_commit::{Backoff, Group, Operation, Pace, Queue, Space, is_full};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::batch::Batch;
use super::disk::Disk;
use super::health::{Health, Told, Watch};
use super::reserve::Reserve;
use super::{Committed, Op, ROOM, SessionRecord, Ticket};

/// The longest pause after a failed write.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often free space is looked at while nothing is written.
const LOOK: Duration = Duration::from_millis(500);
/// How many rows are removed at once on a full disk: fewer where there is no room even for that.
const AT_ONCE: [usize; 3] = [256, 16, 1];
/// Between two compactions at least this, and this many times what the last one took.
const COMPACT_PAUSE: Duration = Duration::from_millis(500);
const COMPACT_SHARE: u32 = 3;
/// A group is waited for during this part of the last commit's time.
const PART: u32 = 4;

/// What the handles and the writer share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    queue: Queue<Waiting>,
    durable: AtomicU64,
    backlog: AtomicUsize,
    told: Told,
    written: Notify,
    /// What the writer does with the disk.
    operation: Operation,
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

    /// Whether clients are to wait for the writer. Nobody is to wait for a disk that does not work: what needs it is
    /// refused, and the rest goes on.
    pub(super) fn is_behind(&self) -> bool {
        self.backlog() > ROOM && self.health() == Health::Healthy
    }

    pub(super) async fn room(&self) {
        loop {
            let written = self.written.notified();
            // `notified` counts from its creation: a commit between the check and the wait is not missed.
            if !self.is_behind() || self.queue.is_closed() {
                return;
            }
            written.await;
        }
    }

    /// Whether the writer has been in one operation of the disk for `longest`.
    pub(super) fn is_stalled(&self, longest: Duration) -> bool {
        self.operation.is_stalled(longest)
    }

    /// Tells that the disk does not answer where the writer has waited for it for `longest`: it cannot say so itself. What
    /// it says when it goes on replaces that.
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
    room: Option<Room>,
}

/// How the writer keeps room on the disk.
pub(super) struct Room {
    watch: Watch,
    reserve: Reserve,
    /// Rows were removed since the file was compacted last.
    removed: bool,
    /// When it may be compacted again.
    compacts: Instant,
}

impl Room {
    pub(super) fn new(watch: Watch, reserve: Reserve) -> Self {
        Self { watch, reserve, removed: true, compacts: Instant::now() }
    }
}

/// What is to be on disk next.
#[derive(Default)]
struct Pending {
    batch: Batch,
    wake: Vec<u64>,
    bytes: usize,
    last: Ticket,
}

impl Pending {
    fn add(&mut self, Group { group, last, .. }: Group<Waiting>) {
        for op in group.ops {
            self.batch.add(op);
        }
        self.wake.extend(group.wake);
        self.bytes += group.bytes;
        self.last = last;
    }
}

/// The thread of a writer.
#[derive(Debug)]
pub(super) struct Thread {
    thread: JoinHandle<()>,
    /// Disconnected at its end.
    ended: Receiver<()>,
}

impl Thread {
    /// Waits for the end of a writer whose store is closed, as long as the disk answers within `stall`.
    pub(super) fn join(self, shared: &Shared, stall: Duration) {
        while self.ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
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

/// Why a write failed.
struct Refused {
    text: String,
    full: bool,
}

pub(super) fn spawn(
    disk: Disk,
    shared: Arc<Shared>,
    committed: UnboundedSender<Committed>,
    room: Room,
) -> io::Result<Thread> {
    let mut writer = Writer::new(disk, shared, committed);
    writer.room = Some(room);
    // Before a client is let in.
    writer.look();
    let (end, ended) = channel();
    let run = move || {
        let _end = end;
        while writer.next(Some(Instant::now() + LOOK)) {}
    };
    let thread = thread::Builder::new().name("rantai-store".into()).spawn(run)?;
    Ok(Thread { thread, ended })
}

impl Writer {
    pub(super) fn new(disk: Disk, shared: Arc<Shared>, committed: UnboundedSender<Committed>) -> Self {
        Self { disk, shared, committed, pace: Pace::new(PART, usize::MAX), room: None }
    }

    /// Waits for the next group, at most until `until`, and writes it; false when the store is closed and either
    /// everything is written or it cannot be.
    pub(super) fn next(&mut self, until: Option<Instant>) -> bool {
        let Some(group) = self.shared.queue.next(&mut self.pace, until) else { return false };
        self.look();
        group.puts == 0 || self.write(group)
    }

    /// Writes one group and what is put meanwhile, however long the disk refuses; `false` if it still does when the store
    /// is closed.
    fn write(&mut self, group: Group<Waiting>) -> bool {
        let mut pending = Pending::default();
        pending.add(group);
        let start = Instant::now();
        let mut backoff = Backoff::new(LONGEST_PAUSE);
        while let Err(refused) = self.attempt(&pending.batch) {
            let closing = self.shared.queue.is_closed();
            self.tell(if refused.full { Health::Full } else { Health::Failing }, &refused.text);
            // It may be on disk all the same.
            pending.batch.attempted();
            if refused.full && self.make_room(&mut pending.batch) {
                continue;
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
        self.pace.took(start.elapsed());
        let Pending { batch, mut wake, bytes, last } = pending;
        if let Some(room) = &mut self.room {
            room.removed = room.removed || batch.deletes();
        }
        // Before the tickets: who is told that they are on disk finds a store that can write.
        if self.shared.health().is_failed() {
            self.look();
        }
        self.shared.durable.store(last, Ordering::Release);
        self.shared.backlog.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.written.notify_waiters();
        wake.sort_unstable();
        wake.dedup();
        // Nobody to tell once the engine is gone; what is put is still written.
        let _ = self.committed.send(Committed { durable: last, wake });
        true
    }

    fn attempt(&mut self, batch: &Batch) -> Result<(), Refused> {
        self.caught(|disk| disk.apply(batch))
    }

    /// Uses the disk, and closes the database where that fails.
    fn caught<T>(&mut self, job: impl FnOnce(&mut Disk) -> Result<T, redb::Error>) -> Result<T, Refused> {
        let Self { disk, shared, .. } = self;
        let run = || shared.operation.run(|| job(disk));
        let result = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result.map_err(|error| Refused {
                full: matches!(&error, redb::Error::Io(error) if is_full(error)),
                text: error.to_string(),
            }),
            Err(_) => Err(Refused { text: "the database panicked".into(), full: false }),
        };
        if result.is_err() {
            self.disk.database.close();
        }
        result
    }

    /// Writes what removes rows, before the rest of `batch` and with the room that was kept in reserve; whether there was
    /// any.
    fn make_room(&mut self, batch: &mut Batch) -> bool {
        if !batch.deletes() {
            return false;
        }
        if let Some(room) = &mut self.room {
            self.shared.operation.run(|| room.reserve.release());
        }
        let (mut removed, mut sizes) = (false, AT_ONCE.into_iter());
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
                room.removed = true;
            }
            // Without success the next attempt says so.
            let _ = self.caught(|disk| disk.settle());
        }
        removed
    }

    /// Looks at the free space; what it is, and whether that is below the floor.
    fn measure(&mut self) -> Option<(Space, u64, bool)> {
        let watch = &mut self.room.as_mut()?.watch;
        let (space, floor, low) = self.shared.operation.run(|| watch.look())?;
        self.shared.told.set_space(space.free, floor);
        Some((space, floor, low))
    }

    /// Looks at the free space, and tells whether it is below the floor. Below it the file is made shorter where something
    /// was removed from it.
    fn look(&mut self) {
        let measured = self.measure();
        let Some(room) = &mut self.room else { return self.tell(Health::Healthy, "") };
        let (space, floor, low) = measured.unwrap_or_default();
        if !low {
            self.shared.operation.run(|| room.reserve.hold(space, floor));
            return self.tell(Health::Healthy, "");
        }
        if room.removed && room.compacts <= Instant::now() {
            self.compact();
        }
        self.tell(Health::Low, "");
    }

    fn compact(&mut self) {
        let start = Instant::now();
        let compacted = self.caught(Disk::compact);
        let Some(room) = &mut self.room else { return };
        match compacted {
            Ok(done) => room.removed = !done,
            Err(refused) => {
                // It needs room itself.
                self.shared.operation.run(|| room.reserve.release());
                tracing::debug!(file = %self.disk.path.display(), error = refused.text, "cannot compact");
            }
        }
        room.compacts = Instant::now() + COMPACT_PAUSE.max(start.elapsed() * COMPACT_SHARE);
    }

    /// Tells how far the disk can be used, and logs a change of it.
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
            // The writer itself never says that it is stalled.
            Health::Full | Health::Failing | Health::Stalled => tracing::error!(
                %file, error, free,
                "cannot write sessions and retained messages; it is tried again until it works"
            ),
        }
        // Nobody is to wait for a disk that does not work.
        self.shared.written.notify_waiters();
    }
}
