//! Store of the persistent state: retained messages, persistent sessions with their subscriptions and queues, and QoS
//! 2 state.
//!
//! Callers put [`Op`]s into a [`Store`] and continue at once; one writer thread combines the collected operations into
//! a transaction. A put returns a [`Ticket`], which is 0 if there is nothing to wait for. An acknowledgement may be
//! sent when [`Store::durable`] has reached its ticket.

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
mod uncommitted;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
pub use disk::LAYOUT;
use parking_lot::Mutex;
use rantai_group_commit::Opener;
use rantai_group_commit::Space;
pub(crate) use rantai_group_commit::Ticket;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::OnDamage;
use crate::message::{Message, QoS};
use backlog::StoreState;
pub(crate) use health::Health;
use health::{MeasureSpace, SpaceWatch};
pub(crate) use load::Retained;
use reserve::Reserve;
pub(crate) use salvage::Salvaged;
pub(crate) use uncommitted::Uncommitted;
use writer::{SpaceManager, WriterThread};

/// Size of the backlog in bytes above which [`Store::room`] waits.
const MAX_BACKLOG_BYTES: usize = 32 << 20;

/// Handle of a store. Cheap to clone; dropping the last clone closes the store.
#[derive(Clone, Debug)]
pub(crate) struct Store(Arc<StoreHandle>);

#[derive(Debug)]
struct StoreHandle {
    shared: Arc<StoreState>,
    writer: Mutex<Option<WriterThread>>,
    salvaged: Salvaged,
    /// Path of the database, for the log.
    file: PathBuf,
    stall: Duration,
}

/// One change to the stored state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Sets or replaces a retained message, keyed by its topic.
    Retain { message: Arc<Message> },
    /// Deletes the retained message of a topic.
    Unretain { topic: ByteString },
    /// Creates or replaces the record of a session, without its subscriptions and queue.
    SaveSession { key: u64, record: SessionRecord },
    /// Deletes a session: its record, subscriptions, queue and QoS 2 state. With `leaves`, the same put contains
    /// messages that the session leaves to others (its will, messages of shared groups), and the session is not
    /// deleted before they are on disk.
    DeleteSession { key: u64, leaves: bool },
    /// Adds or replaces a subscription.
    Subscribe { key: u64, filter: ByteString, options: SubscriptionRecord },
    /// Removes a subscription.
    Unsubscribe { key: u64, filter: ByteString },
    /// Appends to a session's queue. `seq` increases within a session and is never reused. An `Arc` enqueued for many
    /// sessions is stored once.
    Enqueue { key: u64, seq: u64, entry: EntryRecord },
    /// Sets the packet id and phase of a queued message.
    Phase { key: u64, seq: u64, packet_id: u16, phase: Phase },
    /// Removes a queued message that was delivered or dropped.
    Dequeue { key: u64, seq: u64 },
    /// Adds a QoS 2 packet id that was received from the client and is not released.
    Received { key: u64, packet_id: u16 },
    /// Removes a QoS 2 packet id that the client has released.
    Released { key: u64, packet_id: u16 },
}

/// Record of a session, without its subscriptions and queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub(crate) client_id: ByteString,
    pub(crate) version5: bool,
    /// Session Expiry Interval in seconds; `u32::MAX` means that the session never expires (MQTT 5, 3.1.2.11.2).
    pub(crate) expiry: u32,
    /// Time of the disconnect, in milliseconds on the broker's [`Clock`](crate::clock::Clock); `None` while connected.
    pub(crate) disconnected: Option<u64>,
    pub(crate) will: Option<WillRecord>,
    pub(crate) user_name: Option<ByteString>,
}

/// Will that is not published yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WillRecord {
    pub(crate) message: Arc<Message>,
    /// Will Delay Interval, in seconds.
    pub(crate) delay: u32,
}

/// Options of a subscription (MQTT 5, 3.8.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionRecord {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    /// Retain Handling: 0, 1 or 2.
    pub(crate) retain_handling: u8,
    pub(crate) identifier: Option<u32>,
    /// Progress of reading the subscription's retained messages, while they are being read: the key of a
    /// [`Cursor`](crate::retained::Cursor).
    pub(crate) reading: Option<ByteString>,
}

/// A message in a session's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryRecord {
    pub(crate) message: Arc<Message>,
    /// QoS of this delivery.
    pub(crate) qos: QoS,
    /// Retain flag of this delivery.
    pub(crate) retain: bool,
    /// Subscription identifiers to be sent with the message.
    pub(crate) identifiers: Vec<u32>,
    /// The `$share/…` filter by which the message matched.
    pub(crate) shared: Option<ByteString>,
    /// Packet id; 0 before the first sending.
    pub(crate) packet_id: u16,
    pub(crate) phase: Phase,
}

/// Progress of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Not sent yet.
    #[default]
    Queued = 0,
    /// Sent; PUBACK or PUBREC is expected.
    Sent = 1,
    /// PUBREC received; PUBREL has to be sent, and PUBCOMP is expected.
    Released = 2,
}

/// Settings of a store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreSettings {
    /// Bytes to leave free on the disk; if `None`, the lesser of 64 MiB and a hundredth of the file system.
    pub(crate) free_space: Option<u64>,
    /// Treatment of a damaged file.
    pub(crate) on_damage: OnDamage,
    /// Time after which an unfinished disk operation counts as stalled; zero means never.
    pub(crate) stall: Duration,
}

/// Report of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Every ticket up to this one is on disk.
    pub(crate) durable: Ticket,
    /// The `wake` keys of the puts in this commit, each once.
    pub(crate) wake: Vec<u64>,
}

/// Contents of the store when it was opened.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Retained messages that have not expired. The iterator reads them from disk one by one, so that a million of
    /// them are never in memory twice.
    pub(crate) retained: Retained,
    pub(crate) sessions: Vec<StoredSession>,
    /// Path to which a damaged file was moved.
    pub(crate) damaged: Option<PathBuf>,
    /// Number of rows recovered from the damaged file, and number of rows lost.
    pub(crate) salvaged: Salvaged,
    /// Lowest unused session key: above every key in `sessions`, and at least 1.
    pub(crate) next_key: u64,
}

/// Session restored from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredSession {
    pub(crate) key: u64,
    pub(crate) record: SessionRecord,
    pub(crate) subscriptions: Vec<(ByteString, SubscriptionRecord)>,
    /// Queue in the order of sequence numbers. Entries with the same stored message share its `Arc`.
    pub(crate) queue: Vec<(u64, EntryRecord)>,
    pub(crate) received: Vec<u16>,
}

/// Error of opening or reading the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// Another process, or another broker in this process, has opened the store.
    #[error("{} is in use by another broker", path.display())]
    Locked { path: PathBuf },
    /// The file was written by a later version. It is not changed.
    #[error("{} has format {found}; this version reads up to {supported}", path.display())]
    Newer { path: PathBuf, found: u64, supported: u64 },
    /// The file is damaged, and must not be changed.
    #[error(
        "{} is damaged ({reason}); restore it from a copy, move it away to start empty, or set \
         `on_damage = \"salvage\"` to go on with what can be read of it",
        path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    /// Error of the operating system.
    #[error("cannot open {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Error of the database.
    #[error("cannot read {}", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
}

impl Store {
    /// Opens or creates `broker.redb` in `dir`, and removes messages that have expired at `now`, in milliseconds since
    /// 1970.
    ///
    /// A damaged file is renamed to `broker.redb.damaged-<ms>`, the new path is in [`Snapshot::damaged`], and readable
    /// rows are kept.
    ///
    /// # Errors
    ///
    /// The store is in use, has a later format, or cannot be read. With [`OnDamage::Stop`] also if the file is
    /// damaged. The file then stays in place.
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
        (opener, look): (impl FnOnce(&Path) -> Opener, MeasureSpace),
        settings: StoreSettings,
        now: u64,
    ) -> Result<(Self, Snapshot), StoreError> {
        let (disk, snapshot) = open::open(dir, opener, settings.on_damage, now)?;
        let file = disk.path.clone();
        let shared = Arc::new(StoreState::default());
        let room = SpaceManager::new(SpaceWatch::new(look, settings.free_space), Reserve::new(dir));
        let writer = writer::spawn(disk, Arc::clone(&shared), committed, room)
            .map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        let (writer, salvaged, stall) = (Mutex::new(Some(writer)), snapshot.salvaged, settings.stall);
        let handle = StoreHandle { shared, writer, salvaged, file, stall };
        Ok((Self(Arc::new(handle)), snapshot))
    }

    /// Queues `ops` to be committed together, after all earlier puts. Does not wait for the disk.
    ///
    /// The returned ticket is durable when all operations are on disk; `wake` is then included in [`Committed`]. After
    /// [`close`](Self::close) nothing is stored and the ticket never becomes durable, so that no acknowledgement is
    /// sent. `ops` is drained under a lock and must not call the store.
    pub(crate) fn put(&self, ops: impl IntoIterator<Item = Op>, wake: Option<u64>) -> Ticket {
        self.0.shared.put(ops, wake)
    }

    /// Returns the highest ticket up to which everything is on disk.
    pub(crate) fn durable(&self) -> Ticket {
        self.0.shared.durable()
    }

    /// Returns the number of bytes that wait to be written.
    #[cfg(test)]
    fn backlog(&self) -> usize {
        self.0.shared.backlog()
    }

    /// Returns whether clients' sockets must not be read because the disk has fallen behind.
    pub(crate) fn is_behind(&self) -> bool {
        self.0.shared.is_behind()
    }

    /// Waits until the disk has caught up, has failed, or the store is closed. Cancel safe.
    pub(crate) async fn room(&self) {
        self.0.shared.room().await;
    }

    /// Waits until `ticket` is on disk. Never returns if the store is closed before that. Cancel safe.
    pub(crate) async fn on_disk(&self, ticket: Ticket) {
        self.0.shared.on_disk(ticket).await;
    }

    /// Returns the health of the disk. Unless it is healthy, nothing new may be stored. The writer keeps retrying, and
    /// no ticket becomes durable until a failed write succeeds.
    pub(crate) fn health(&self) -> Health {
        self.0.shared.health()
    }

    /// Sets the health of the disk, for tests without a disk.
    #[cfg(test)]
    pub(crate) fn set_health(&self, health: Health) {
        self.0.shared.set_health(health);
    }

    /// Detects a disk operation that does not end. Must be called periodically.
    pub(crate) fn look_for_stall(&self) {
        self.0.shared.look_for_stall(&self.0.file, self.0.stall);
    }

    /// Returns the free bytes on the disk and the reserve below which nothing new is stored, as last measured.
    pub(crate) fn space(&self) -> (u64, u64) {
        self.0.shared.space()
    }

    /// Returns the result of recovering a damaged file at the start.
    pub(crate) fn salvaged(&self) -> Salvaged {
        self.0.salvaged
    }

    /// Writes all puts so far and joins the writer. Blocks, but not on a stalled disk. Later puts are ignored.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

impl StoreHandle {
    fn close(&self) {
        self.shared.close();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            writer.join(&self.shared, self.stall);
        }
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        self.close();
    }
}
