//! State of one seed: a node, its callers, and the events that affect them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rantai_client::Environment;
use rantai_client::environment::ManualClock;
use rantai_client::session::{Message, Publish, QoS, Unsent};
use rantai_testing::Record;
use serde_json::{Value, json};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::calls::{CallRecord, GRACE, LifeRecord};
use super::disk::Disk;
use super::node::{Node, OBJECTS, Said};
use super::odds::{Action, Fate, Odds};
use super::work::Runs;

/// Wall-clock time at the start, in milliseconds since 1970.
const START_MS: u64 = 1_700_000_000_000;
/// Number of times that all ready tasks are polled before the node's messages are checked.
const ROUNDS: usize = 12;
/// Maximum time until the broker acknowledges a message, in milliseconds.
const MAX_ACKNOWLEDGEMENT_MS: u64 = 60;
/// Maximum time by which `rpc.more` extends a stream, in milliseconds.
const MAX_MORE_MS: u64 = 6_000;
/// Number of the latest calls that events are chosen from.
const LATEST: usize = 12;
/// Interval of checks after the last action.
const CALM_PAUSE: Duration = Duration::from_millis(50);

/// `rpc.cancel` for a call.
struct Cancel {
    call: Vec<u8>,
    /// Whether it says that nobody waits for the reply any more.
    is_unheard: bool,
    /// Whether the call was running.
    was_running: bool,
}

pub(super) struct World {
    chance: Environment,
    clock: ManualClock,
    odds: Odds,
    record: Record,
    began: Instant,
    life: u64,
    /// Whether commits of the journal may fail.
    disk_fails: bool,
    runs: Runs,
    /// Present life of the node; `None` only during a restart.
    node: Option<Node>,
    /// Calls by correlation.
    calls: BTreeMap<Vec<u8>, CallRecord>,
    /// Correlations of the calls before their deadline.
    open: BTreeSet<Vec<u8>>,
    latest: Vec<Vec<u8>>,
    cancels: BTreeMap<Vec<u8>, Cancel>,
    number: u64,
    /// Tokens of unacknowledged messages, by time of the acknowledgement, with their topics.
    unacknowledged: BTreeMap<(Instant, u128), String>,
    commit_at: Instant,
}

impl World {
    pub(super) fn new(seed: u64, record: Record) -> Self {
        let clock = ManualClock::new(START_MS);
        let chance = Environment::simulated(clock.clone(), seed);
        let odds = Odds::draw(&chance);
        let runs = Runs::default();
        let node = Node::start(Disk::default(), &runs, 0, odds.limits, &chance);
        Self {
            clock,
            disk_fails: odds.fails > 0,
            odds,
            record,
            began: Instant::now(),
            life: 0,
            runs,
            node: Some(node),
            calls: BTreeMap::new(),
            open: BTreeSet::new(),
            latest: Vec::new(),
            cancels: BTreeMap::new(),
            number: 0,
            unacknowledged: BTreeMap::new(),
            commit_at: Instant::now(),
            chance,
        }
    }

    fn below(&self, end: u64) -> u64 {
        self.chance.random_below(end)
    }

    /// Draws an event with this probability.
    fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn note(&self, text: &str) {
        self.record.note(format!("{} {text}", self.began.elapsed().as_millis()));
    }

    fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("it is started again at once")
    }

    /// Lets time pass, and performs an action.
    pub(super) async fn step(&mut self) {
        self.pass(Duration::from_millis(1 + self.below(self.odds.longest_pause_ms))).await;
        self.record.event();
        match self.odds.action(&self.chance) {
            Action::Call => self.call(),
            Action::Repeat => self.repeat(),
            Action::Reuse => self.reuse(),
            Action::Cancel => self.cancel(false),
            Action::Abandon => self.cancel(true),
            Action::More => self.more(),
            Action::Backlog => {
                let bytes = [0, 0, 2 << 20, 5 << 20, 17 << 20][self.below(5) as usize];
                self.record.reached(if bytes > 0 {
                    "the send queue is full"
                } else {
                    "the send queue is written"
                });
                self.node().outside.backlog.store(bytes, Ordering::Relaxed);
                for call in self.calls.values_mut() {
                    call.life.is_paused |= bytes > 0;
                }
            }
            Action::Registry => {
                let served = [None, Some(false), Some(true)][self.below(3) as usize];
                *self.node().outside.served.lock() = served;
            }
            Action::Drain => self.drain(),
            Action::Kill => self.kill(),
        }
        self.settle().await;
    }

    /// Lets time pass until all calls are over, and checks what is left.
    pub(super) async fn check_end(&mut self) {
        self.note("nothing is done any more");
        self.odds.fails = 0;
        self.node().outside.backlog.store(0, Ordering::Relaxed);
        *self.node().outside.served.lock() = Some(true);
        while !self.open.is_empty() || !self.unacknowledged.is_empty() {
            self.pass(CALM_PAUSE).await;
        }
        // An ended stream is kept until another check, and a failed write is retried.
        for _ in 0..60 {
            self.pass(CALM_PAUSE).await;
        }
        let left = self.node().left();
        assert!(left.is_empty(), "left when all calls are over: {left:?}");
    }

    async fn pass(&mut self, time: Duration) {
        sleep(time).await;
        self.clock.set(START_MS + self.began.elapsed().as_millis() as u64);
        self.settle().await;
        if Instant::now() >= self.commit_at {
            self.commit_at =
                Instant::now() + Duration::from_millis(1 + self.below(self.odds.longest_commit_ms));
            let fate = self.odds.fate(&self.chance);
            if self.node().commit(fate) > 0 {
                self.note(&format!("commit: {fate:?}"));
                self.record.event();
                self.record.reached(match fate {
                    Fate::Committed => "the journal is written",
                    Fate::CommittedInDoubt => "the journal is written, and does not know it",
                    Fate::Refused => "the journal is not written",
                    Fate::RefusedInDoubt => "the journal is not written, and does not know it",
                });
            }
            self.settle().await;
        }
        while let Some(entry) = self.unacknowledged.first_entry()
            && entry.key().0 <= Instant::now()
        {
            let ((_, token), topic) = entry.remove_entry();
            self.acknowledge(token, &topic);
            self.settle().await;
        }
        self.look();
    }

    /// Reports the result of a message to the dispatcher.
    fn acknowledge(&mut self, token: u128, topic: &str) {
        let result = if self.happens(self.odds.nobody) { Err(Unsent::NobodyThere) } else { Ok(()) };
        if result.is_err() {
            self.record.reached("nobody gets a message");
            for call in self.calls.values_mut().filter(|call| call.reply_topic() == topic) {
                call.life.may_end |= !call.is_once();
            }
        }
        self.note(&format!("{topic}: {result:?}"));
        self.node().dispatcher.settled(token, result);
    }

    /// Polls all tasks until they wait, and handles the node's messages.
    async fn settle(&mut self) {
        for _ in 0..ROUNDS {
            yield_now().await;
        }
        self.hear();
        for served in &self.node().objects {
            assert!(served.running() <= served.limits.concurrent, "{} calls at once", served.running());
        }
    }

    fn hear(&mut self) {
        for Said { publish, token, at } in self.node().outside.take() {
            let topic = publish.topic.to_string();
            let status = publish.properties.user("status").unwrap_or_default();
            let number = in_short(publish.properties.correlation.as_deref());
            self.note(&format!("node: {topic} of {number}: {status} {}", publish.payload.len()));
            self.record.event();
            if token != 0 {
                let delay = Duration::from_millis(1 + self.below(MAX_ACKNOWLEDGEMENT_MS));
                self.unacknowledged.insert((Instant::now() + delay, token), topic.clone());
            }
            let correlation = publish.properties.correlation.clone().unwrap_or_default().to_vec();
            if topic.starts_with("rantai/reply/") {
                if let Some(cancel) = self.cancels.remove(&correlation) {
                    self.cancelled(&cancel, &publish, at);
                } else {
                    let call = self.calls.get_mut(&correlation).expect("somebody has asked");
                    assert_eq!(topic, call.reply_topic(), "the answer goes elsewhere");
                    let state = call.answered(&publish, at, &self.runs.of(&correlation), self.life);
                    self.record.reached(state);
                }
            } else if topic.starts_with("rantai/call/next") {
                let call = self.calls.get_mut(&correlation).expect("somebody has asked");
                call.life.forwarded += 1;
                assert_eq!(call.life.forwarded, 1, "it is passed on twice: {call:?}");
                self.record.reached("a request is passed on");
            } else {
                let call = self.calls.get(&correlation).expect("somebody has asked");
                assert!(call.life.outcome.is_none(), "it is told to run, and was answered: {call:?}");
                self.record.reached("a caller is told where its call runs");
            }
        }
    }

    /// Checks the calls whose deadline has passed.
    fn look(&mut self) {
        let now = Instant::now();
        let over: Vec<_> =
            self.open.iter().filter(|call| self.calls[*call].until() + GRACE < now).cloned().collect();
        for call in over {
            self.calls[&call].check_over(&self.runs.of(&call), self.life, self.disk_fails);
            self.open.remove(&call);
        }
    }

    fn call(&mut self) {
        let number = self.number;
        self.number += 1;
        let ms = if self.below(3) == 0 { 0 } else { self.below(self.odds.longest_run_ms) };
        let bytes = [0, 0, 0, 100, 5_000, 25_000][self.below(6) as usize];
        let (method, params, stream) = if self.happens(self.odds.once) {
            (if self.below(8) == 0 { "put_never" } else { "put" }, json!([ms, bytes]), None)
        } else if self.happens(self.odds.streams) {
            let credit = [None, Some(1), Some(600), Some(20_000)][self.below(4) as usize];
            ("items", json!([self.below(40), self.below(60)]), credit)
        } else {
            let methods = ["value", "value", "value", "limited", "never", "fails", "panics", "pass"];
            (methods[self.below(8) as usize], json!([ms, bytes]), None)
        };
        let ttl = Duration::from_millis(20 + self.below(self.odds.longest_ttl_ms));
        let call = CallRecord {
            object: OBJECTS[self.below(2) as usize],
            method,
            params,
            correlation: u128::from(number).to_be_bytes().to_vec(),
            caller: format!("caller{}", self.below(self.odds.callers)),
            qos: if self.below(4) == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
            is_oneway: method != "items" && self.below(12) == 0,
            stream,
            deadline: Instant::now() + ttl,
            value_before: None,
            life: LifeRecord::default(),
        };
        let correlation = call.correlation.clone();
        self.calls.insert(correlation.clone(), call);
        self.open.insert(correlation.clone());
        self.latest.push(correlation.clone());
        if self.latest.len() > LATEST {
            self.latest.remove(0);
        }
        self.send(&correlation);
        // Without a reply topic a request has no identity.
        if self.happens(self.odds.duplicates) && !self.calls[&correlation].is_oneway {
            self.record.reached("a request comes twice");
            self.repeat_call(&correlation);
        }
    }

    /// Chooses one of the latest calls before their deadline.
    fn any(&self, wanted: impl Fn(&CallRecord) -> bool) -> Option<Vec<u8>> {
        let known = self.latest.iter().filter(|call| self.open.contains(*call) && wanted(&self.calls[*call]));
        let known: Vec<_> = known.collect();
        (!known.is_empty()).then(|| known[self.below(known.len() as u64) as usize].clone())
    }

    /// Sends the request of a call.
    fn send(&mut self, correlation: &[u8]) {
        let backlog = self.node().outside.backlog.load(Ordering::Relaxed);
        let call = self.calls.get_mut(correlation).expect("a call");
        call.life.is_paused |= backlog > 0;
        let publish = call.request();
        // A request that arrives too late, or while the send queue is too long, is not answered.
        if call.left_ms() > 0 && backlog <= 16 << 20 {
            call.life.deliveries += 1;
            call.life.first_delivery.get_or_insert_with(Instant::now);
            call.life.credit = call.life.credit.max(call.stream.unwrap_or_default());
        }
        self.deliver(publish);
    }

    fn repeat_call(&mut self, correlation: &[u8]) {
        let call = self.calls.get_mut(correlation).expect("a call");
        call.life.is_repeated = true;
        self.send(correlation);
    }

    fn repeat(&mut self) {
        if let Some(call) = self.any(|call| !call.is_oneway) {
            self.record.reached("a request is sent again");
            self.repeat_call(&call);
        }
    }

    /// Sends another request with the identity of a known call.
    fn reuse(&mut self) {
        let life = self.life;
        let runs = self.runs.clone();
        let is_known = |call: &CallRecord| {
            let is_running = runs.of(&call.correlation).iter().any(|run| run.life == life);
            is_running && !call.is_oneway && call.stream.is_none()
        };
        let Some(correlation) = self.any(is_known) else { return };
        let call = self.calls.get_mut(&correlation).expect("a call");
        call.life.deliveries += 1;
        let mut publish = call.request();
        publish.payload = json!([7, 7, 7]).to_string().into();
        self.record.reached("an identity is used for another request");
        self.deliver(publish);
    }

    fn cancel(&mut self, is_unheard: bool) {
        let Some(correlation) = self.any(|call| !call.is_oneway) else { return };
        let was_running =
            self.runs.of(&correlation).iter().any(|run| run.life == self.life && run.ended.is_none());
        let digits = Uuid::from_slice(&correlation).expect("16 bytes").simple().to_string();
        let params: Value = if is_unheard { json!([digits, true]) } else { json!([digits]) };
        self.number += 1;
        let own = u128::from(self.number).to_be_bytes().to_vec();
        let own = [b"cancel".to_vec(), own].concat();
        let publish = self.calls[&correlation].about("rpc.cancel", &params, &own, 5_000);
        self.cancels.insert(own, Cancel { call: correlation, is_unheard, was_running });
        self.deliver(publish);
    }

    /// Checks the answer to `rpc.cancel`.
    fn cancelled(&mut self, cancel: &Cancel, publish: &Publish, at: Instant) {
        let call = self.calls.get_mut(&cancel.call).expect("a call");
        if publish.properties.user("status") != Some("ok") {
            return self.record.reached("a request of a built-in method is told busy");
        }
        let is_cancelled = publish.payload == "true";
        assert!(is_cancelled || !cancel.was_running, "it runs, and is not cancelled: {call:?}");
        if is_cancelled {
            assert!(call.life.outcome.is_none(), "it is cancelled, and was answered: {call:?}");
        }
        if is_cancelled && !(cancel.is_unheard && call.is_once()) {
            assert!(call.life.cancelled.is_none(), "it is cancelled twice: {call:?}");
            call.life.cancelled = Some(at);
            self.record.reached("a cancel is told");
        }
    }

    /// Raises the credit of a stream, as a caller.
    fn more(&mut self) {
        let Some(correlation) = self.any(|call| call.stream.is_some() && call.life.parts > 0) else { return };
        let (again, window) = (self.below(6) == 0, self.below(5_000));
        let ttl_ms = 100 + self.below(MAX_MORE_MS);
        let call = self.calls.get_mut(&correlation).expect("a call");
        let taken = self.chance.random_below(call.life.items + 1);
        let credit = call.life.bytes + window;
        call.life.credit = call.life.credit.max(credit);
        call.life.deliveries += 1;
        call.life.is_repeated |= again;
        call.life.until = Some(call.until().max(Instant::now() + Duration::from_millis(ttl_ms)));
        self.record.reached("a caller takes more of a stream");
        let publish = call.about("rpc.more", &json!([taken, credit, again]), &correlation, ttl_ms);
        self.deliver(publish);
    }

    /// Delivers a message to the node.
    fn deliver(&mut self, publish: Publish) {
        let number = in_short(publish.properties.correlation.as_deref());
        let payload = String::from_utf8_lossy(&publish.payload);
        self.note(&format!("to the node: {} of {number}: {payload}", publish.topic));
        self.record.event();
        let Publish { topic, payload, properties, qos, .. } = publish;
        let message = Message { topic, payload, properties, qos, retain: false, unread: Duration::ZERO };
        self.node().dispatcher.message(&message);
        self.hear();
    }

    /// Makes the node end its streams, or all calls, as in an orderly shutdown.
    fn drain(&mut self) {
        let is_all = self.below(2) == 0;
        self.note(&format!("the node ends its streams; all calls: {is_all}"));
        self.record.reached(if is_all { "a node ends its calls" } else { "a node ends its streams" });
        for call in self.calls.values_mut() {
            call.life.may_end = true;
        }
        for served in &self.node().objects {
            if is_all { served.end_calls() } else { served.end_streams() }
        }
    }

    /// Kills the node and starts it again.
    fn kill(&mut self) {
        if self.below(2) == 0 {
            let operations = self.below(20);
            self.node().crash_after(operations);
            // The last commit is on disk partially.
            self.node().commit(Fate::Committed);
        }
        self.note("the node is killed");
        self.record.reached("a node is killed");
        let disk = self.node.take().expect("it lives").kill();
        self.life += 1;
        self.unacknowledged.clear();
        self.cancels.clear();
        for call in &self.open {
            self.calls.get_mut(call).expect("a call").node_was_killed();
        }
        self.node = Some(Node::start(disk, &self.runs, self.life, self.odds.limits, &self.chance));
    }
}

/// Returns the number in the last two bytes of a correlation, for the trace.
fn in_short(correlation: Option<&[u8]>) -> String {
    let end = correlation.and_then(|correlation| correlation.last_chunk::<2>());
    end.map_or_else(String::new, |end| u16::from_be_bytes(*end).to_string())
}
