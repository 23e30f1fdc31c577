//! Random traffic with disconnects, takeovers, failing disks and crashes, checked during and at the end of each run.

use super::client::Client;
use super::link::Width;
use super::plan::{CHANGING, Event, Plan};
use super::profile;
use super::record::Record;
use super::seeds::{States, Trace, run_seeds};
use super::simulated;
use super::wire::{Property, Publish, Version};
use super::world::{World, WorldSettings};
use crate::random::Seeded;

/// Default number of seeds, which take about a second.
const DEFAULT_SEEDS: u64 = 12;
/// Minimum number of events and received packets of a run, before its end.
const MIN_EVENTS: u64 = 1_000;
/// Minimum number of steps of a run.
const MIN_STEPS: u64 = 250;
/// Time in seconds after which wills, keep-alives and short sessions have ended.
const SETTLE_S: u64 = 14;
/// Maximum number of rounds in which clients connect until all deliveries are complete.
const MAX_ROUNDS: usize = 100;
const TOPICS: [&str; 3] = ["t/0", "t/1", "t/1/x"];
/// Client that reads all retained messages at the end.
const READER: &str = "reader";

/// States that must be reached in a hundred seeds.
const REQUIRED_STATES: &[&str] = &[
    "CONNECT refused: the disk does not work",
    "DISCONNECT from the broker: keep alive timeout",
    "DISCONNECT from the broker: quota exceeded",
    "DISCONNECT taken by the broker",
    "PUBLISH given up with its session",
    "PUBLISH refused: quota exceeded",
    "PUBLISH sent again",
    "PUBREL sent again",
    "QoS 2 message sent again is known",
    "SUBACK for a filter that is there",
    "SUBSCRIBE refused: the disk does not work",
    "UNSUBACK",
    "a window of messages in flight is full",
    "client not read: it does not take its answers",
    "commit failed",
    "commit of some puts",
    "connection ended: keep alive timeout",
    "connection ended: slow reader",
    "connection ended: waits for a disk that does not work",
    "connection that was left open is closed",
    "delivered at QoS 0",
    "delivered at QoS 1",
    "delivered at QoS 2",
    "delivered with DUP",
    "disk failing",
    "disk full",
    "disk low",
    "disk stalled",
    "killed with everything on disk",
    "killed with puts that are lost",
    "killed within a commit",
    "message dropped: queue full",
    "message expired in a queue",
    "message refused: queue full",
    "no retained value at the end",
    "publisher waits for a full queue",
    "retained message read",
    "retained value at the end",
    "session begun",
    "session begun anew",
    "session expired",
    "session resumed",
    "session taken over",
    "will not published after DISCONNECT",
    "will not published after a reconnect within its delay",
    "will published",
    "will published after its delay",
];

impl World {
    /// Returns a random client for which `fits` returns true; `None` if there is none.
    fn client(&mut self, fits: impl Fn(&Client) -> bool) -> Option<usize> {
        let fitting: Vec<_> = (0..self.clients.len()).filter(|&index| fits(&self.clients[index])).collect();
        let count = fitting.len() as u64;
        (count > 0).then(|| fitting[self.random.below(count) as usize])
    }

    async fn step(&mut self, plan: &Plan) {
        self.record.events += 1;
        let event = plan.event(&mut self.random);
        self.happen(event, plan).await;
        if self.chance(plan.commits) {
            let count = self.broker().commits.waiting() as u64;
            let some = self.chance(plan.partial).then(|| self.random.below(count + 1) as usize);
            self.commit_some(some.unwrap_or(usize::MAX));
        }
        self.settle().await;
        for index in 0..self.clients.len() {
            let few = self.chance(plan.slices).then(|| self.random.below(40) as usize);
            self.clients[index].habits.may_write = few.unwrap_or(usize::MAX);
            // Clients that do not read in this step have messages in flight during the next event.
            if self.chance(plan.reads) && !self.clients[index].habits.is_slow {
                self.work(index);
            }
        }
    }

    async fn happen(&mut self, event: Event, plan: &Plan) {
        let anyone = self.client(|_| true).expect("there are clients");
        let ready = self.client(Client::is_ready);
        match (event, ready) {
            (Event::Publish, Some(index)) => {
                for _ in 0..=self.random.below(3) {
                    self.publish(index, plan);
                }
            }
            (Event::PublishRetained, Some(index)) => self.publish_retained(index, plan),
            (Event::Subscribe, Some(index)) => {
                let filters = if self.clients[index].profile.name == "changing" {
                    &CHANGING[..]
                } else {
                    self.clients[index].profile.filters
                };
                let filter = filters[self.random.below(filters.len() as u64) as usize];
                self.clients[index].subscribe(&[filter], &mut self.record);
            }
            (Event::Unsubscribe, _) => {
                let changing = |client: &Client| client.is_ready() && client.profile.name == "changing";
                if let Some(index) = self.client(changing) {
                    let filter = CHANGING[self.random.below(CHANGING.len() as u64) as usize];
                    self.clients[index].unsubscribe(filter, &mut self.record);
                }
            }
            (Event::Cut, Some(index)) => {
                for _ in 0..self.random.below(4) {
                    self.publish(index, plan);
                }
                self.cut(index);
            }
            (Event::Disconnect, Some(index)) => self.clients[index].disconnect(&mut self.record),
            (Event::Leave, Some(index)) => self.clients[index].leave(&mut self.record),
            (Event::Vanish, Some(index)) => self.vanish(index),
            (Event::Partition, _) => {
                for index in 0..self.clients.len() {
                    if self.chance(50) {
                        self.vanish(index);
                    }
                }
            }
            (Event::Close, _) => self.close_one(),
            (Event::Connect, _) => {
                for _ in 0..=self.random.below(3) {
                    let away = if self.chance(75) { self.client(|client| !client.is_ready()) } else { None };
                    self.connect_somehow(away.unwrap_or(anyone), plan);
                }
            }
            (Event::Slow, _) => self.clients[anyone].habits.is_slow ^= true,
            (Event::Withhold, _) => self.clients[anyone].habits.withholds ^= true,
            (Event::Pass, _) => {
                let ms = self.random.below(plan.pass_ms);
                self.settle().await;
                tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            }
            (Event::Disk, _) if self.is_disk_faulty() => self.disk_works(),
            (Event::Disk, _) => {
                let fault = plan.faults[self.random.below(plan.faults.len() as u64) as usize];
                self.disk_fails(fault);
            }
            (Event::Crash, _) => self.crash(),
            (_, None) => self.connect_somehow(anyone, plan),
        }
    }

    fn publish(&mut self, index: usize, plan: &Plan) {
        let topic = TOPICS[self.random.below(TOPICS.len() as u64) as usize];
        let qos = plan.qos(&mut self.random);
        let expiry = self.expiry(index, plan);
        self.clients[index].publish(topic, qos, expiry, &mut self.record);
    }

    /// Publishes a retained message on the topic of a client, or clears it.
    fn publish_retained(&mut self, index: usize, plan: &Plan) {
        let mut publish = Publish::new(&format!("r/{}", self.clients[index].profile.name), "").retain();
        // Always at the same QoS: a retransmitted message at QoS 1 may arrive after a later one at QoS 2, which is
        // allowed.
        publish.qos = if index.is_multiple_of(2) { 1 } else { 2 };
        let clears = self.chance(20);
        if !clears {
            publish.properties.extend(self.expiry(index, plan).map(Property::MessageExpiry));
        }
        self.clients[index].publish_retained(publish, clears, &mut self.record);
    }

    fn expiry(&mut self, index: usize, plan: &Plan) -> Option<u32> {
        let expires = self.chance(plan.expires) && self.clients[index].profile.version == Version::V5;
        expires.then(|| 1 + self.random.below(3) as u32)
    }

    fn connect_somehow(&mut self, index: usize, plan: &Plan) {
        let width = if self.chance(60) { Width::Wide } else { Width::Narrow };
        let may_begin_anew =
            matches!(self.clients[index].profile.name, "changing" | "member3" | "brief" | "least");
        // A clean session of 3.1.1, with its messages of the group, ends with its connection and with a broker that is
        // killed.
        let profile = &self.clients[index].profile;
        let is_persistent = profile.version == Version::V5 || !profile.is_in_group();
        let clean = may_begin_anew && is_persistent && self.chance(plan.cleans);
        if clean && self.clients[index].profile.is_in_group() {
            self.record.may_lose(false, true);
        }
        self.connect_over(index, width, clean);
    }

    /// Connects all clients for which `fits` returns true, until all deliveries are complete.
    async fn reconnect_until_settled(&mut self, fits: impl Fn(&Client) -> bool) {
        let all: Vec<_> = (0..self.clients.len()).filter(|&index| fits(&self.clients[index])).collect();
        let mut waiting = all.clone();
        // In 3.1.1, each message that is refused because of a full queue ends a connection.
        for _ in 0..MAX_ROUNDS {
            for &index in &waiting {
                self.connect_over(index, Width::Wide, false);
            }
            self.exchange().await;
            let before = self.record.publishes;
            // A connection may have to wait for an earlier one of its client, and a publisher for a full queue.
            self.pass(1_100).await;
            self.exchange().await;
            let is_done =
                |client: &Client| client.is_ready() && client.is_settled() && !client.has_clean_v3_session();
            waiting = all.iter().copied().filter(|&index| !is_done(&self.clients[index])).collect();
            if waiting.is_empty() && self.record.publishes == before {
                return;
            }
        }
        let names: Vec<_> = waiting.iter().map(|&index| self.clients[index].profile.name).collect();
        panic!("{names:?} are not done");
    }

    /// Completes all deliveries, and checks the state at the end.
    async fn finish(&mut self) {
        self.disk_works();
        self.close_all();
        for client in &mut self.clients {
            client.habits = super::client::Habits::default();
        }
        for _ in 0..SETTLE_S {
            self.pass(1_000).await;
            for index in 0..self.clients.len() {
                self.work(index);
            }
        }
        self.reconnect_until_settled(|_| true).await;
        let dropped = self.dropped();
        self.record.check(dropped);

        // Everything was delivered and acknowledged, and must not arrive again.
        self.kill();
        let publishes = self.record.publishes;
        let lasting = |client: &Client| client.profile.session_expiry > 100;
        self.reconnect_until_settled(lasting).await;
        let all_resumed = self.clients.iter().filter(|client| lasting(client)).all(|client| client.resumed);
        assert!(all_resumed, "a session is not there after a restart");
        let again = self.record.publishes - publishes;
        assert_eq!(again, 0, "messages came again that were acknowledged to the end");

        self.clients.push(Client::new(super::Profile {
            session_expiry: 0,
            ..profile(READER, Version::V5, &[("r/+", 1)])
        }));
        self.connect_over(self.clients.len() - 1, Width::Wide, true);
        self.exchange().await;
        self.record.check_retained(READER);
        self.count();
    }
}

/// Runs one seed.
async fn traffic(seed: u64, trace: Trace) -> Record {
    let mut random = Seeded::new(seed);
    let plan = Plan::new(&mut random);
    let settings = WorldSettings { limits: plan.limits.clone(), housekeeping: true };
    let mut world = World::with(settings, trace, random, plan.profiles.iter().cloned());
    world.record.may_lose(plan.may_drop(), false);
    for index in 0..world.clients.len() {
        world.clients[index].habits.may_wait = plan.may_wait();
        world.connect(index);
    }
    world.exchange().await;
    let mut steps = 0;
    while steps < MIN_STEPS || world.record.events < MIN_EVENTS {
        world.step(&plan).await;
        steps += 1;
    }
    world.finish().await;
    assert!(world.record.events >= MIN_EVENTS && world.record.deliveries() > 0);
    world.record
}

fn run(seed: u64, trace: Trace) -> States {
    simulated(traffic(seed, trace)).states
}

#[test]
fn nothing_is_lost_doubled_reordered_or_late_in_random_traffic() {
    run_seeds(DEFAULT_SEEDS, REQUIRED_STATES, run);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let traces = [7, 7, 8].map(|seed| {
        let trace = Trace::default();
        run(seed, trace.clone());
        trace.lines()
    });
    if let Some(at) = (0..traces[0].len()).find(|&at| traces[0].get(at) != traces[1].get(at)) {
        panic!("entry {at}: {:?} and {:?}", traces[0].get(at), traces[1].get(at));
    }
    assert_eq!(traces[0].len(), traces[1].len());
    assert_ne!(traces[0], traces[2], "another seed gives another run");
}
