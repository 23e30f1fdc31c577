//! Deterministic simulation of a whole broker but for sockets and disk: connections, sessions, router and store on
//! streams in memory, a disk in memory and virtual time.
//!
//! Everything a run does follows from its seed, so a failure is repeated by running its seed again.

mod budgets;
mod client;
mod disk;
mod gated;
mod reads;
mod record;
mod wills;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::handshake::accept;
use crate::housekeeping::follow_store;
use crate::hub::Hub;
use crate::random::{Random, Seeded};
use crate::shared::Shared;
use crate::store::memory::{Commits, MemoryDisk};
use crate::transport::Transport;

use client::{Client, Profile};
use record::Record;
use wire::{Property, Version, Will};

/// When each run begins, in milliseconds since 1970.
const START: u64 = 1_700_000_000_000;
/// Runs of random traffic.
const SEEDS: u64 = 12;
/// What clients do in a run, besides reading.
const STEPS: usize = 400;
const TOPICS: [&str; 3] = ["t/0", "t/1", "t/1/x"];

/// A broker on a disk in memory.
struct Running {
    hub: Arc<Hub>,
    commits: Commits,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(disk: &MemoryDisk, now: u64, seed: u64) -> Self {
        // Small enough that windows and outboxes fill up.
        let limits = Limits { in_flight: 4, outbox_bytes: 256, ..Limits::default() };
        let (sender, committed) = unbounded_channel();
        let (store, snapshot, commits) = disk.open(sender, now);
        let random = Random::Seeded(Mutex::new(Seeded::new(seed)));
        let config = Config { limits, ..Config::default() };
        let shared = Shared::new(config, Some(store), Clock::starting_at(now), random);
        let hub = Hub::new(shared, snapshot.next_key);
        hub.restore(snapshot).expect("reads what was committed");
        let follow = tokio::spawn(follow_store(hub.clone(), committed));
        Self { hub, commits, tasks: vec![follow] }
    }

    /// As kill -9 does: nothing is written any more.
    fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.hub.abandon();
    }
}

struct World {
    random: Seeded,
    disk: MemoryDisk,
    broker: Option<Running>,
    clients: Vec<Client>,
    record: Record,
}

impl World {
    fn new(seed: u64, profiles: impl IntoIterator<Item = Profile>) -> Self {
        let disk = MemoryDisk::new();
        let broker = Some(Running::start(&disk, START, seed));
        let clients = profiles.into_iter().map(Client::new).collect();
        Self { random: Seeded::new(seed), disk, broker, clients, record: Record::default() }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn broker(&mut self) -> &mut Running {
        self.broker.as_mut().expect("runs")
    }

    fn now(&mut self) -> u64 {
        self.broker().hub.shared.clock.now_ms()
    }

    /// Lets the broker go on until it waits: virtual time passes only when every task does.
    async fn settle(&self) {
        sleep(Duration::from_millis(1)).await;
    }

    async fn pass(&mut self, ms: u64) {
        self.settle().await;
        self.broker().commits.commit();
        self.settle().await;
        sleep(Duration::from_millis(ms)).await;
    }

    fn connect(&mut self, index: usize) {
        // A small capacity makes the broker wait in the middle of a packet.
        let (ours, theirs) = Transport::pair(if index.is_multiple_of(2) { 64 << 10 } else { 100 });
        let broker = self.broker();
        let port = u16::try_from(index).expect("a few clients");
        broker.tasks.push(tokio::spawn(accept(
            broker.hub.clone(),
            ours,
            ([127, 0, 0, 1], port).into(),
            Arc::default(),
        )));
        self.clients[index].connect(theirs);
    }

    /// Commits, and has every client read and answer, until nobody has anything left to say.
    async fn exchange(&mut self) {
        // A commit lets something out that is written by the next one before a client hears of it.
        let mut quiet = 0;
        while quiet < 3 {
            self.broker().commits.commit();
            self.settle().await;
            let now = self.now();
            quiet += 1;
            for client in &mut self.clients {
                if client.work(now, &mut self.record) {
                    quiet = 0;
                }
            }
        }
    }

    fn crash(&mut self) {
        let now = self.now();
        self.record.note(now, "broker", "is killed");
        self.broker.take().expect("runs").kill();
        for client in &mut self.clients {
            // What was on its way still arrives, or does not.
            if self.random.below(2) == 0 {
                client.work(now, &mut self.record);
            }
            client.cut();
        }
        let seed = self.random.next();
        self.broker = Some(Running::start(&self.disk, now, seed));
    }

    async fn step(&mut self) {
        let now = self.now();
        let index = self.random.below(self.clients.len() as u64) as usize;
        match self.random.below(100) {
            0..70 => {
                let topic = TOPICS[self.random.below(TOPICS.len() as u64) as usize];
                let qos = self.random.below(3) as u8;
                let expiry = self.chance(30).then_some(1 + self.random.below(2) as u32);
                let client = &mut self.clients[index];
                if client.is_ready() {
                    let expiry = expiry.filter(|_| client.profile.version == Version::V5);
                    client.publish(topic, qos, expiry, now, &mut self.record);
                }
            }
            70..75 => {
                self.record.note(now, self.clients[index].profile.name, "goes away");
                if self.random.below(2) == 0 {
                    self.clients[index].cut();
                } else {
                    self.clients[index].disconnect();
                }
            }
            // Also where it is connected: it then takes its own session over.
            75..93 => self.connect(index),
            93..98 => {
                let ms = self.random.below(1_500);
                self.pass(ms).await;
            }
            _ => self.crash(),
        }
        if self.chance(40) {
            self.broker().commits.commit();
        }
        self.settle().await;
        let now = self.now();
        for client in &mut self.clients {
            // Whoever does not read now has messages in flight when something happens to it.
            if self.random.below(100) < 70 {
                client.work(now, &mut self.record);
            }
        }
    }
}

fn profile(name: &'static str, version: Version, filters: &'static [(&'static str, u8)]) -> Profile {
    Profile { name, version, session_expiry: 3600, filters, will: None }
}

/// Runs `future` in virtual time.
fn simulated<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// Random traffic with disconnects, takeovers and crashes, checked on the way and at its end.
async fn traffic(seed: u64) -> Record {
    let plain = [
        profile("all", Version::V5, &[("t/#", 2)]),
        profile("old", Version::V3, &[("t/1/#", 2)]),
        profile("least", Version::V5, &[("t/+", 1)]),
    ];
    let group =
        ["member1", "member2", "member3"].map(|name| profile(name, Version::V5, &[("$share/g/t/#", 2)]));
    let passing = Profile { session_expiry: 0, ..profile("passing", Version::V5, &[("t/1", 2)]) };
    let mut world = World::new(seed, plain.iter().chain(&group).cloned().chain([passing]));
    for index in 0..world.clients.len() {
        world.connect(index);
    }
    world.exchange().await;
    for _ in 0..STEPS {
        world.step().await;
    }
    for index in 0..world.clients.len() {
        world.connect(index);
    }
    world.exchange().await;
    for client in &world.clients {
        assert!(client.is_ready() && client.is_settled(), "{} is done", client.profile.name);
        assert_eq!(client.resumed, client.profile.session_expiry > 0, "{}", client.profile.name);
    }
    world.record.check(&plain, &[group.to_vec()]);
    world.record
}

#[test]
fn nothing_is_lost_doubled_reordered_or_late_in_random_traffic() {
    let mut deliveries = 0;
    for seed in 1..=SEEDS {
        eprintln!("seed {seed}");
        deliveries += simulated(traffic(seed)).deliveries();
    }
    assert!(deliveries > SEEDS as usize * STEPS / 2, "{deliveries} deliveries are too few to mean anything");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let traces = [7, 7, 8].map(|seed| simulated(traffic(seed)).trace);
    if let Some(at) = (0..traces[0].len()).find(|&at| traces[0].get(at) != traces[1].get(at)) {
        panic!("entry {at}: {:?} and {:?}", traces[0].get(at), traces[1].get(at));
    }
    assert_eq!(traces[0].len(), traces[1].len());
    assert_ne!(traces[0], traces[2], "another seed gives another run");
}

#[test]
fn wills_and_sessions_keep_to_virtual_time() {
    simulated(async {
        let will = Will::new("will/mortal", "mortal:1").property(Property::WillDelay(5));
        let mortal =
            Profile { session_expiry: 60, will: Some(will), ..profile("mortal", Version::V5, &[("x", 1)]) };
        let mut world = World::new(1, [profile("heir", Version::V5, &[("will/#", 1)]), mortal]);
        for index in 0..2 {
            world.connect(index);
        }
        world.exchange().await;
        let gone = world.now();
        world.clients[1].cut();
        // Restarted in between, the broker goes on counting from when the client was lost.
        world.pass(2_000).await;
        world.crash();
        world.connect(0);
        world.exchange().await;
        world.pass(2_900).await;
        world.exchange().await;
        assert_eq!(world.record.times.get("will/mortal"), None, "before its delay is over");
        world.pass(200).await;
        world.exchange().await;
        let came = world.record.times["will/mortal"][0];
        assert!((5_000..5_200).contains(&(came - gone)), "after {} ms", came - gone);

        world.pass(50_000).await;
        world.connect(1);
        world.exchange().await;
        assert!(world.clients[1].resumed, "within its session expiry");
        world.clients[1].disconnect();
        world.pass(61_000).await;
        world.connect(1);
        world.exchange().await;
        assert!(!world.clients[1].resumed, "after its session expiry");
    });
}
