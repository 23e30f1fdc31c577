//! What is kept on disk: retained messages, persistent sessions with their subscriptions and queues, and
//! QoS 2 state.
//!
//! Callers hand [`Op`]s to a [`Store`] and go on; one writer thread folds what has gathered into a
//! transaction. A [`Ticket`], 0 for nothing to wait for, says from when on an acknowledgement may be sent: once
//! [`Store::durable`] has reached it.

mod backlog;
mod batch;
mod compaction;
mod disk;
mod health;
mod load;
#[cfg(test)]
pub(crate) mod memory;
mod open;
mod pages;
mod record;
mod reserve;
mod salvage;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;
use rantai_group_commit::Opener;
use rantai_group_commit::Space;
pub(crate) use rantai_group_commit::Ticket;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::OnDamage;
use crate::message::{Message, QoS};
use backlog::Shared;
pub(crate) use health::Health;
use health::{Look, Watch};
pub(crate) use load::Retained;
use reserve::Reserve;
pub(crate) use salvage::Salvaged;
use writer::{Room, Thread};

/// [`Store::room`] waits while more bytes than this are to be written.
const ROOM: usize = 32 << 20;

/// What is kept on disk. Cheap to clone; the last clone to go closes it.
#[derive(Clone, Debug)]
pub(crate) struct Store(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<Thread>>,
    salvaged: Salvaged,
    /// The database, for the log.
    file: PathBuf,
    stall: Duration,
}

/// One change to what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Set or replace a retained message, keyed by its topic.
    Retain { message: Arc<Message> },
    /// Forget a topic's retained message.
    Unretain { topic: ByteString },
    /// Create or replace what is kept of a session besides its subscriptions and queue.
    SaveSession { key: u64, record: SessionRecord },
    /// Forget a session: its record, subscriptions, queue and QoS 2 state. `leaves`: the same put has what it leaves to
    /// others (its will, messages of shared groups), and it is not forgotten before that is on disk.
    DeleteSession { key: u64, leaves: bool },
    /// Add or replace a subscription.
    Subscribe { key: u64, filter: ByteString, options: SubscriptionRecord },
    /// Remove a subscription.
    Unsubscribe { key: u64, filter: ByteString },
    /// Append to a session's queue. `seq` rises within a session and is never used again. The same `Arc`
    /// enqueued for many sessions is stored once.
    Enqueue { key: u64, seq: u64, entry: EntryRecord },
    /// A queued message was given a packet id or moved on.
    Phase { key: u64, seq: u64, packet_id: u16, phase: Phase },
    /// A queued message was delivered, or dropped.
    Dequeue { key: u64, seq: u64 },
    /// A QoS 2 packet id came from the client and is not yet released.
    Received { key: u64, packet_id: u16 },
    /// The client released a QoS 2 packet id.
    Released { key: u64, packet_id: u16 },
}

/// What is kept of a session besides its subscriptions and queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub(crate) client_id: ByteString,
    pub(crate) version5: bool,
    /// Seconds the session outlives its connection; `u32::MAX` is for ever (MQTT 5, 3.1.2.11.2).
    pub(crate) expiry: u32,
    /// When the connection was lost, in milliseconds on the broker's [`Clock`](crate::clock::Clock); `None` while connected.
    pub(crate) disconnected: Option<u64>,
    pub(crate) will: Option<WillRecord>,
    pub(crate) user_name: Option<ByteString>,
}

/// A will that is still to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WillRecord {
    pub(crate) message: Arc<Message>,
    /// Will Delay Interval, in seconds.
    pub(crate) delay: u32,
}

/// The options of a subscription (MQTT 5, 3.8.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionRecord {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    /// 0, 1 or 2.
    pub(crate) retain_handling: u8,
    pub(crate) identifier: Option<u32>,
    /// Where the reading of its retained messages stands, while it goes on: a [`Cursor`](crate::retained::Cursor)'s key.
    pub(crate) reading: Option<ByteString>,
}

/// A message in a session's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryRecord {
    pub(crate) message: Arc<Message>,
    /// Of this delivery.
    pub(crate) qos: QoS,
    /// Of this delivery.
    pub(crate) retain: bool,
    /// Subscription identifiers to send with it.
    pub(crate) identifiers: Vec<u32>,
    /// The `$share/…` filter by which it came.
    pub(crate) shared: Option<ByteString>,
    /// 0 while it has none.
    pub(crate) packet_id: u16,
    pub(crate) phase: Phase,
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Not sent yet.
    #[default]
    Queued = 0,
    /// Sent; PUBACK or PUBREC is due.
    Sent = 1,
    /// PUBREC came; PUBREL is due, then PUBCOMP.
    Released = 2,
}

/// How a store keeps what it keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreSettings {
    /// Bytes to leave free on the disk; 64 MiB or a hundredth of the file system without it, whichever is less.
    pub(crate) free_space: Option<u64>,
    /// What is done about a damaged file.
    pub(crate) on_damage: OnDamage,
    /// How long one operation of the disk may take before the disk counts as stalled; zero: for ever.
    pub(crate) stall: Duration,
}

/// Sent after each commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Every ticket up to this one is on disk.
    pub(crate) durable: Ticket,
    /// The `wake` keys of the puts that became durable by it, each once.
    pub(crate) wake: Vec<u64>,
}

/// What was kept when the store was opened.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Retained messages that have not expired, read from disk one by one as they are asked for: a million
    /// of them never exist twice in memory.
    pub(crate) retained: Retained,
    pub(crate) sessions: Vec<StoredSession>,
    /// Where a damaged file was moved.
    pub(crate) damaged: Option<PathBuf>,
    /// What came back of it.
    pub(crate) salvaged: Salvaged,
    /// Above every key of `sessions`; at least 1.
    pub(crate) next_key: u64,
}

/// A session as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredSession {
    pub(crate) key: u64,
    pub(crate) record: SessionRecord,
    pub(crate) subscriptions: Vec<(ByteString, SubscriptionRecord)>,
    /// By rising sequence number; entries of one stored message share its `Arc`.
    pub(crate) queue: Vec<(u64, EntryRecord)>,
    pub(crate) received: Vec<u16>,
}

/// Why the store could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// Another process, or another broker in this one, has it open.
    #[error("{} is in use by another broker", path.display())]
    Locked { path: PathBuf },
    /// Written by a later version; it is left as it is.
    #[error("{} has format {found}; this version reads up to {supported}", path.display())]
    Newer { path: PathBuf, found: u64, supported: u64 },
    /// Damaged, and to be left as it is.
    #[error(
        "{} is damaged ({reason}); restore it from a copy, move it away to start empty, or set \
         `on_damage = \"salvage\"` to go on with what can be read of it",
        path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    /// The system refused.
    #[error("cannot open {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The database refused.
    #[error("cannot read {}", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
}

impl Store {
    /// Opens or creates `broker.redb` in `dir`, and removes what has expired at `now`, in milliseconds since 1970.
    ///
    /// A damaged file is moved aside, to `broker.redb.damaged-<ms>`, and named in [`Snapshot::damaged`]; what can be read
    /// of it is kept. With [`OnDamage::Stop`] it is an error and stays. One that is in use or of a later format is an error and stays.
    pub(crate) fn open(
        dir: &Path,
        committed: UnboundedSender<Committed>,
        settings: StoreSettings,
        now: u64,
    ) -> Result<(Self, Snapshot), StoreError> {
        let at = dir.to_owned();
        let look = Box::new(move || Space::at(&at));
        Self::open_with(dir, committed, (open::file, look), settings, now)
    }

    fn open_with(
        dir: &Path,
        committed: UnboundedSender<Committed>,
        (opener, look): (impl FnOnce(&Path) -> Opener, Look),
        settings: StoreSettings,
        now: u64,
    ) -> Result<(Self, Snapshot), StoreError> {
        let (disk, snapshot) = open::open(dir, opener, settings.on_damage, now)?;
        let file = disk.path.clone();
        let shared = Arc::new(Shared::default());
        let room = Room::new(Watch::new(look, settings.free_space), Reserve::new(dir));
        let writer = writer::spawn(disk, Arc::clone(&shared), committed, room)
            .map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        let (writer, salvaged, stall) = (Mutex::new(Some(writer)), snapshot.salvaged, settings.stall);
        let handle = Handle { shared, writer, salvaged, file, stall };
        Ok((Self(Arc::new(handle)), snapshot))
    }

    /// Queues `ops` to be committed together, after everything put before; never waits for the disk.
    ///
    /// The ticket is durable when all of them are on disk, and `wake` is then sent with it. After
    /// [`close`](Self::close) nothing is kept and the ticket never becomes durable: an acknowledgement must
    /// not claim otherwise. `ops` is drained under a lock and must not call the store.
    pub(crate) fn put(&self, ops: impl IntoIterator<Item = Op>, wake: Option<u64>) -> Ticket {
        self.0.shared.put(ops, wake)
    }

    /// Every ticket up to this one is on disk.
    pub(crate) fn durable(&self) -> Ticket {
        self.0.shared.durable()
    }

    /// Bytes that wait to be written.
    #[cfg(test)]
    fn backlog(&self) -> usize {
        self.0.shared.backlog()
    }

    /// Whether clients are not to be read because the disk does not follow.
    pub(crate) fn is_behind(&self) -> bool {
        self.0.shared.is_behind()
    }

    /// Returns once the disk follows, is found not to work, or the store is closed. May be dropped at any point.
    pub(crate) async fn room(&self) {
        self.0.shared.room().await;
    }

    /// What the disk can take. Unless it is healthy, nothing new is to be kept. The writer keeps trying; until a failed
    /// write succeeds no ticket becomes durable.
    pub(crate) fn health(&self) -> Health {
        self.0.shared.health()
    }

    /// Sets what the disk can take, for tests that have no disk.
    #[cfg(test)]
    pub(crate) fn set_health(&self, health: Health) {
        self.0.shared.set_health(health);
    }

    /// Notices a disk that neither works nor fails; to be called now and then.
    pub(crate) fn look_for_stall(&self) {
        self.0.shared.look_for_stall(&self.0.file, self.0.stall);
    }

    /// Bytes free on the disk, and the floor below which nothing new is kept, as they were seen last.
    pub(crate) fn space(&self) -> (u64, u64) {
        self.0.shared.space()
    }

    /// What came back of a damaged file at the start.
    pub(crate) fn salvaged(&self) -> Salvaged {
        self.0.salvaged
    }

    /// Writes everything put so far and joins the writer, which blocks, but not for a disk that is stalled; later puts are
    /// ignored.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.close();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            writer.join(&self.shared, self.stall);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
