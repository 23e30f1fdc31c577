//! A broker and its clients: links, disk, time, and kill -9.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::{Client, Profile};
use super::link::{Link, Width};
use super::plan::DiskFault;
use super::record::Record;
use super::seeds::Trace;
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::counters::Counted;
use crate::handshake::accept;
use crate::housekeeping::{expire_retained, follow_store, look_after_clients};
use crate::hub::Hub;
use crate::random::{Random, Seeded};
use crate::shared::BrokerState;
use crate::store::Health;
use crate::store::memory::{Commits, MemoryDisk};

/// Maximum space that a full disk has beyond the used space, in bytes.
const MAX_ROOM_BYTES: u64 = 32 << 10;
/// Maximum number of writes that succeed after the disk begins to fail, about as many as one commit needs.
const MAX_LAST_WRITES: u64 = 24;

/// Counters of events that the broker causes by itself, and the states that they stand for.
const COUNTED_STATES: [(&str, &str); 10] = [
    ("keep_alive_timeouts", "connection ended: keep alive timeout"),
    ("taken_over", "session taken over"),
    ("dropped_queue_full", "message dropped: queue full"),
    ("dropped_absent", "message dropped: the absent hold too much"),
    ("disconnected_slow", "connection ended: slow reader"),
    ("disconnected_store", "connection ended: waits for a disk that does not work"),
    ("refused_queue_full", "message refused: queue full"),
    ("publisher_waits", "publisher waits for a full queue"),
    ("expired", "message expired in a queue"),
    ("unread_answers", "client not read: it does not take its answers"),
];

/// Broker with an in-memory disk.
pub(super) struct RunningBroker {
    pub(super) hub: Arc<Hub>,
    pub(super) commits: Commits,
    tasks: JoinSet<()>,
}

/// Settings of the brokers.
#[derive(Clone)]
pub(super) struct WorldSettings {
    pub(super) limits: Limits,
    /// Whether the broker's periodic tasks run: checks of silent clients and slow readers, and expiry.
    pub(super) housekeeping: bool,
}

impl Default for WorldSettings {
    /// Limits that are small enough for windows and outboxes to fill up.
    fn default() -> Self {
        let limits = Limits { in_flight: 4, outbox_bytes: 256, ..Limits::default() };
        Self { limits, housekeeping: false }
    }
}

impl RunningBroker {
    fn start(disk: &MemoryDisk, now: u64, seed: u64, settings: &WorldSettings) -> Self {
        let (sender, committed) = unbounded_channel();
        let (store, snapshot, commits) = disk.open(sender, now);
        let random = Random::Seeded(Mutex::new(Seeded::new(seed)));
        let config = Config { limits: settings.limits.clone(), ..Config::default() };
        let shared = BrokerState::new(config, Some(store), Clock::starting_at(now), random);
        let hub = Hub::new(shared, snapshot.next_key);
        hub.restore(snapshot).expect("reads what was committed");
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_store(hub.clone(), committed));
        if settings.housekeeping {
            tasks.spawn(expire_retained(hub.clone()));
            tasks.spawn(look_after_clients(hub.clone()));
        }
        Self { hub, commits, tasks }
    }

    /// Ends the broker like kill -9: nothing more is written.
    fn kill(mut self) {
        self.tasks.abort_all();
        self.hub.abandon();
        self.commits.kill();
    }

    /// Panics if one of the broker's tasks has panicked.
    fn check_tasks(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            assert!(!ended.is_err_and(|error| error.is_panic()), "a task of the broker has panicked");
        }
    }
}

pub(super) struct World {
    pub(super) random: Seeded,
    disk: MemoryDisk,
    settings: WorldSettings,
    broker: Option<RunningBroker>,
    pub(super) clients: Vec<Client>,
    pub(super) record: Record,
    /// Connections that stayed open.
    open: Vec<Link>,
    fault: Option<DiskFault>,
    /// Number of messages dropped by earlier brokers, by their counters.
    dropped: u64,
}

impl World {
    pub(super) fn new(seed: u64, profiles: impl IntoIterator<Item = Profile>) -> Self {
        Self::with(WorldSettings::default(), Trace::default(), Seeded::new(seed), profiles)
    }

    pub(super) fn with(
        settings: WorldSettings,
        trace: Trace,
        mut random: Seeded,
        profiles: impl IntoIterator<Item = Profile>,
    ) -> Self {
        let (disk, record) = (MemoryDisk::new(), Record::new(trace));
        let broker = Some(RunningBroker::start(&disk, record.now(), random.next(), &settings));
        let clients = profiles.into_iter().map(Client::new).collect();
        let (open, fault, dropped) = (Vec::new(), None, 0);
        Self { random, disk, settings, broker, clients, record, open, fault, dropped }
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    pub(super) fn broker(&mut self) -> &mut RunningBroker {
        self.broker.as_mut().expect("runs")
    }

    /// Returns the number of messages dropped by all brokers so far, by their counters.
    pub(super) fn dropped(&mut self) -> u64 {
        let counts = self.broker().hub.shared.counters.read();
        self.dropped + counts.dropped_queue_full + counts.dropped_absent
    }

    /// Runs the broker until it waits: virtual time passes only when every task waits.
    pub(super) async fn settle(&mut self) {
        sleep(Duration::from_millis(1)).await;
        self.broker().check_tasks();
        let all = self.broker().commits.is_done();
        self.record.checked_disk(all);
    }

    pub(super) async fn pass(&mut self, ms: u64) {
        self.settle().await;
        self.commit();
        self.settle().await;
        sleep(Duration::from_millis(ms)).await;
    }

    /// Commits everything that was put, if the disk works.
    pub(super) fn commit(&mut self) {
        self.commit_some(usize::MAX);
    }

    /// Commits the next `count` puts, if the disk works.
    pub(super) fn commit_some(&mut self, count: usize) {
        let is_stalled = self.fault == Some(DiskFault::Stalled);
        let all = self.broker().commits.is_done();
        self.record.checked_disk(all);
        let commits = &mut self.broker().commits;
        let done = !is_stalled && commits.commit_some(count);
        let all = commits.is_done();
        self.record.reach_if(!done && !is_stalled, "commit failed");
        self.record.reach_if(done && !all, "commit of some puts");
        self.record.checked_disk(all);
    }

    pub(super) fn connect(&mut self, index: usize) {
        let width = if index.is_multiple_of(2) { Width::Wide } else { Width::Narrow };
        self.connect_over(index, width, false);
    }

    /// Connects a client. With `clean`, an existing session is ended.
    pub(super) fn connect_over(&mut self, index: usize, width: Width, clean: bool) {
        let (link, theirs) = Link::pair(width);
        let broker = self.broker.as_mut().expect("runs");
        let port = u16::try_from(index).expect("a few clients");
        let address = ([127, 0, 0, 1], port).into();
        broker.tasks.spawn(accept(broker.hub.clone(), theirs, address, Arc::default()));
        self.clients[index].connect(link, clean, &mut self.record);
    }

    /// Ends a client's connection without DISCONNECT.
    pub(super) fn cut(&mut self, index: usize) {
        self.clients[index].cut(&mut self.random, &mut self.record);
    }

    /// Makes a client disappear: its connection stays open, but is not used any more.
    pub(super) fn vanish(&mut self, index: usize) {
        self.open.extend(self.clients[index].leave_open(&mut self.record));
    }

    /// Closes a connection that stayed open.
    pub(super) fn close_one(&mut self) {
        if !self.open.is_empty() {
            let index = self.random.below(self.open.len() as u64) as usize;
            self.open.swap_remove(index).cut(&mut self.random);
            self.record.reach("connection that was left open is closed");
        }
    }

    /// Closes all connections that stayed open.
    pub(super) fn close_all(&mut self) {
        self.open.clear();
        self.record.all_closed();
    }

    pub(super) fn work(&mut self, index: usize) -> bool {
        self.clients[index].work(&mut self.record)
    }

    /// Commits, and lets every client read and answer, until all are idle.
    pub(super) async fn exchange(&mut self) {
        // A commit may release a packet that only the next commit sends to a client.
        let mut quiet = 0;
        while quiet < 3 {
            self.commit();
            self.settle().await;
            quiet += 1;
            for client in &mut self.clients {
                if client.work(&mut self.record) {
                    quiet = 0;
                }
            }
        }
    }

    /// Makes the disk fail, or work again.
    pub(super) fn disk_fails(&mut self, fault: DiskFault) {
        self.record.note("disk", format_args!("{fault:?}"));
        self.record.may_refuse();
        self.record.reach(match fault {
            DiskFault::Full => "disk full",
            DiskFault::Failing => "disk failing",
            DiskFault::Stalled => "disk stalled",
            DiskFault::Low => "disk low",
        });
        self.fault = Some(fault);
        let (room, writes) = (self.random.below(MAX_ROOM_BYTES), self.random.below(MAX_LAST_WRITES));
        let RunningBroker { hub, commits, .. } = self.broker();
        let (store, switch) = (hub.shared.store.as_ref().expect("in memory"), commits.switch());
        match fault {
            DiskFault::Full => {
                switch.end.store(switch.written.load(Ordering::Relaxed) + room, Ordering::Relaxed);
            }
            DiskFault::Failing => {
                switch.writes.store(writes, Ordering::Relaxed);
                switch.broken.store(true, Ordering::Relaxed);
            }
            DiskFault::Stalled => store.set_health(Health::Stalled),
            DiskFault::Low => store.set_health(Health::Low),
        }
    }

    pub(super) fn disk_works(&mut self) {
        let Some(fault) = self.fault.take() else { return };
        self.record.note("disk", format_args!("works again"));
        let RunningBroker { hub, commits, .. } = self.broker();
        let switch = commits.switch();
        switch.end.store(0, Ordering::Relaxed);
        switch.broken.store(false, Ordering::Relaxed);
        if matches!(fault, DiskFault::Stalled | DiskFault::Low) {
            hub.shared.store.as_ref().expect("in memory").set_health(Health::Healthy);
        }
        self.commit();
    }

    pub(super) fn is_disk_faulty(&self) -> bool {
        self.fault.is_some()
    }

    /// Kills the broker between two commits or during one, and starts another.
    pub(super) fn crash(&mut self) {
        if self.fault.is_none() {
            let count = self.broker().commits.waiting() as u64;
            let (some, writes) = (self.random.below(count + 1) as usize, self.random.below(MAX_LAST_WRITES));
            match self.random.below(4) {
                0 => {}
                1 => self.commit(),
                2 => self.commit_some(some),
                _ => {
                    let commits = &mut self.broker().commits;
                    commits.switch().writes.store(writes, Ordering::Relaxed);
                    commits.switch().broken.store(true, Ordering::Relaxed);
                    let done = commits.commit_some(some);
                    self.record.reach_if(!done, "killed within a commit");
                    let all = self.broker().commits.is_done();
                    self.record.checked_disk(all);
                }
            }
        }
        let lost = !self.broker().commits.is_done();
        self.record.reach(if lost {
            "killed with puts that are lost"
        } else {
            "killed with everything on disk"
        });
        self.kill();
    }

    /// Kills the broker in its current state, and starts another.
    pub(super) fn kill(&mut self) {
        self.record.note("broker", format_args!("is killed"));
        self.dropped = self.dropped();
        self.count();
        self.fault = None;
        self.broker.take().expect("runs").kill();
        for client in &mut self.clients {
            // Bytes in transit either still arrive, or are lost.
            let reads = self.random.below(2) == 0;
            client.broker_is_killed(reads, &mut self.record);
        }
        self.open.clear();
        self.record.crashed();
        let seed = self.random.next();
        self.broker = Some(RunningBroker::start(&self.disk, self.record.now(), seed, &self.settings));
    }

    /// Adds the broker's counters to the states.
    pub(super) fn count(&mut self) {
        let counts = self.broker().hub.shared.counters.read();
        for Counted { name, value: times, .. } in counts.each() {
            if let Some(&(_, state)) = COUNTED_STATES.iter().find(|(counted, _)| *counted == name) {
                self.record.states.add(state, times);
            }
        }
    }
}
