//! State of one seed: a ledger, its objects, and their events, on a clock that jumps from event to event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rantai_client::Response;
use rantai_client::environment::{Environment, ManualClock};
use rantai_client::object::Emitter;
use rantai_client::shares::CallerKey;
use rantai_client::wire::name::{ObjectName, Root};
use rantai_testing::Record;
use serde_json::json;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::disk::{Disk, Stop};
use super::fake::{CallResult, FakeObjects, NODES, OBJECTS};
use super::nodes::{FakeNode, Outcome};
use super::odds::Odds;
use super::promises::Promises;
use crate::executor::Executor;
use crate::interface::Tasks as _;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::options::Options;
use crate::owner::Asking;
use crate::schedule::{Schedule, Timing};
use crate::shared::LedgerState;
use crate::store::Store;
use crate::task::Task;
use crate::{runner, scheduler};

pub(super) const MINUTE_MS: u64 = 60_000;
/// 2026-01-01, 00:00 UTC.
pub(super) const START_MS: u64 = 1_767_225_600_000;

/// Event at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// A request arrives at a node.
    Request {
        node: &'static str,
        task: Box<Task>,
    },
    /// A method ends, on this start of the node.
    Done {
        node: &'static str,
        start: u64,
        task: Box<Task>,
    },
    /// An answer arrives at the ledger.
    Answer {
        identity: Uuid,
        answer: CallResult,
    },
    /// A call fails: its connection is lost, or its time limit has passed.
    GiveUp {
        number: u64,
        answer: CallResult,
    },
    NodeGone(&'static str),
    NodeBack(&'static str),
    Crash,
}

pub(super) struct World {
    pub(super) clock: ManualClock,
    /// Random numbers of the world; those of the ledger are separate.
    pub(super) chance: Environment,
    pub(super) odds: Odds,
    pub(super) record: Record,
    seed: u64,
    starts: u64,
    disk: Disk,
    pub(super) limits: Limits,
    pub(super) store: Store,
    pub(super) ledger: Ledger,
    pub(super) executor: Arc<Executor<FakeObjects>>,
    pub(super) objects: FakeObjects,
    pub(super) runs: BTreeMap<u64, JoinHandle<()>>,
    /// Events by time, and by the order in which they were planned.
    planned: BTreeMap<(u64, u64), Event>,
    number: u64,
    /// Whether calls are executed and answered by the simulation, instead of by the test.
    answers: bool,
    pub(super) nodes: BTreeMap<&'static str, FakeNode>,
    pub(super) promises: Promises,
    /// Tasks of keys, by user and key, with the number that distinguishes two calls.
    pub(super) keys: BTreeMap<(Option<String>, String), (Uuid, u64)>,
    /// Counter for unique marks.
    pub(super) marks: u64,
}

impl World {
    /// Creates a world in which answers are random, nodes go and come back, and the ledger crashes.
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self::quiet(seed);
        world.answers = true;
        for node in NODES {
            let mut time = START_MS;
            for _ in 0..4 {
                time += world.below(4 * MINUTE_MS);
                world.plan(time, Event::NodeGone(node));
                time += 1 + world.below(2 * MINUTE_MS);
                world.plan(time, Event::NodeBack(node));
            }
        }
        for _ in 0..4 {
            let time = START_MS + world.below(15 * MINUTE_MS);
            world.plan(time, Event::Crash);
        }
        world
    }

    /// Creates a world in which only the test causes events.
    pub(super) fn quiet(seed: u64) -> Self {
        let limits = Limits { per_object: 3, ..Limits::default() };
        Self::with(seed, Odds::quiet(), limits, Record::default())
    }

    /// Creates a world without disturbances, in which answers are random and the ledger crashes once.
    pub(super) fn answering(seed: u64) -> Self {
        let mut world = Self::quiet(seed);
        world.answers = true;
        let time = START_MS + world.below(2 * MINUTE_MS);
        world.plan(time, Event::Crash);
        world
    }

    /// Creates a world with disturbances derived from a seed.
    pub(super) fn disturbed(seed: u64, odds: Odds, limits: Limits, record: Record) -> Self {
        let mut world = Self::with(seed, odds, limits, record);
        world.answers = true;
        world
    }

    fn with(seed: u64, odds: Odds, limits: Limits, record: Record) -> Self {
        let clock = ManualClock::new(START_MS);
        let chance = Environment::simulated(clock.clone(), seed ^ 0xC0FF_EE00);
        let disk = Disk::default();
        let store = Store::open_with(disk.opener()).expect("a store");
        let objects = FakeObjects::default().of(disk.clone());
        for object in OBJECTS {
            let nodes = NODES.map(str::to_owned).into();
            objects.state.lock().nodes.insert(object.to_owned(), nodes);
        }
        let environment = Environment::simulated(clock.clone(), seed);
        let promises = Promises::new(limits.clone(), record.clone());
        let (ledger, executor) = start(&store, &limits, &environment, &objects, &disk);
        Self {
            clock,
            chance,
            odds,
            record,
            seed,
            starts: 0,
            disk,
            limits,
            store,
            ledger,
            executor,
            objects,
            runs: BTreeMap::new(),
            planned: BTreeMap::new(),
            number: 0,
            answers: false,
            nodes: NODES.map(|node| (node, FakeNode::default())).into(),
            promises,
            keys: BTreeMap::new(),
            marks: 0,
        }
    }

    pub(super) async fn submit(&mut self, object: &str, options: Options) -> String {
        self.submit_by(CallerKey::Unnamed, object, options).await
    }

    pub(super) async fn submit_by(&mut self, caller: CallerKey, object: &str, options: Options) -> String {
        let params = Some(json!([1]));
        let ledger = self.ledger_of(caller);
        let id = ledger.submit(object.to_owned(), "use".to_owned(), params, Some(options)).await;
        let id = id.expect("submitted");
        self.note(&format!("submit {id} {object}"));
        id
    }

    /// Returns the ledger for requests of this caller; `root` is an admin.
    pub(super) fn ledger_of(&self, caller: CallerKey) -> Ledger {
        let user = match &caller {
            CallerKey::User(user) => Some(user.to_string()),
            CallerKey::Client(_) | CallerKey::Unnamed => None,
        };
        let asking = Asking { is_admin: user.as_deref() == Some("root"), user, share_of: caller };
        Ledger { asking, ..self.ledger.clone() }
    }

    pub(super) async fn schedule(&mut self, name: &str, cron: &str) {
        let timing = Timing { cron: cron.to_owned(), zone: "UTC".to_owned(), overlap: true };
        let (object, method) = ("printer".to_owned(), "use".to_owned());
        self.ledger.schedule(name.to_owned(), timing, object, method, None, None).await.expect("a schedule");
    }

    pub(super) fn scheduled(&self, name: &str) -> Schedule {
        self.store.scheduled(name).expect("read").expect("known")
    }

    pub(super) fn task(&self, id: &str) -> Task {
        self.store.get(Uuid::try_parse(id).expect("an id")).expect("read").expect("known")
    }

    /// Returns the number of calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.objects.state.lock().made
    }

    /// Returns the identities of all calls.
    pub(super) fn identities(&self) -> BTreeSet<String> {
        self.promises.identities().map(|identity| identity.simple().to_string()).collect()
    }

    /// Ends the disturbances: nodes stay, and nothing crashes.
    pub(super) fn end_disturbances(&mut self) {
        self.disk.go_on();
        self.planned.retain(|_, event| !matches!(event, Event::NodeGone(_) | Event::Crash));
    }

    /// Processes events until this time.
    pub(super) async fn run_until(&mut self, end: u64) {
        loop {
            self.work().await;
            match self.next_time().filter(|time| *time <= end) {
                Some(time) => self.clock.set(time.max(self.now())),
                None => break,
            }
        }
        self.jump(end).await;
    }

    /// Sets the clock without processing events in between.
    pub(super) async fn jump(&mut self, time: u64) {
        self.clock.set(time);
        self.work().await;
    }

    /// Processes events until a call waits for its answer. Returns the time.
    pub(super) async fn next_call(&mut self) -> u64 {
        loop {
            self.work().await;
            if !self.runs.is_empty() {
                return self.now();
            }
            let time = self.next_time().expect("something will be called");
            self.clock.set(time);
        }
    }

    /// Answers the only call that waits.
    pub(super) async fn answer(&mut self, outcome: Outcome) {
        let number = *self.runs.keys().next().expect("a call");
        self.finish(number, Ok(Response { outcome, node: None, repeated: false, secret: false })).await;
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(super) fn note(&self, text: &str) {
        self.record.note(format!("{} {text}", self.now().cast_signed() - START_MS.cast_signed()));
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.chance.random_below(end)
    }

    /// Draws an event with this probability.
    pub(super) fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn plan(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.planned.insert((time, self.number), event);
    }

    /// Plans to kill the ledger during a later write: in the middle of it, or right after it.
    pub(super) fn kill_at_write(&self) {
        let stop = match self.below(3) {
            0 => Stop::AfterSyncs(1 + self.below(6)),
            _ => Stop::AfterOperations(self.below(60)),
        };
        self.note(&format!("the ledger is killed by its disk: {stop:?}"));
        self.disk.stop(stop);
    }

    /// Returns whether the ledger will be killed during a later write.
    pub(super) fn is_doomed(&self) -> bool {
        self.disk.is_stopping()
    }

    /// Runs `work`, which needs the disk; returns `None` if the ledger was killed by it, after restarting the ledger.
    pub(super) async fn unless_killed<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let disk = self.disk.clone();
        let done = tokio::select! {
            biased;
            done = work => (!disk.is_stopped()).then_some(done),
            () = disk.stopped() => None,
        };
        if done.is_none() {
            self.record.reached("the ledger is killed at a write");
            self.restart().await;
        }
        done
    }

    /// Kills the ledger, and starts it again.
    pub(super) async fn restart(&mut self) {
        loop {
            self.disk.stop_now();
            for run in std::mem::take(&mut self.runs).into_values() {
                run.abort();
                let _ = run.await;
            }
            self.starts += 1;
            self.disk = self.disk.restarted();
            if self.below(12) == 0 {
                self.disk.stop(Stop::AfterOperations(self.below(40)));
            }
            self.note("the ledger is started again");
            self.record.event();
            match Store::open_with(self.disk.opener()) {
                Ok(store) if !self.disk.is_stopped() => {
                    self.store = store;
                    break;
                }
                _ => self.record.reached("the ledger is killed while it opens its file"),
            }
        }
        self.objects = self.objects.of(self.disk.clone());
        let environment = Environment::simulated(self.clock.clone(), self.seed ^ (self.starts << 32));
        (self.ledger, self.executor) =
            start(&self.store, &self.limits, &environment, &self.objects, &self.disk);
        runner::load(&self.ledger.shared).await;
        scheduler::load(&self.ledger.shared).expect("read");
        self.promises.ledger_was_killed();
        self.check();
    }

    /// Checks that the store contains what was promised.
    pub(super) fn check(&mut self) {
        self.promises.check(&self.store, self.clock.now_ms());
    }

    fn next_time(&self) -> Option<u64> {
        let shared = &self.ledger.shared;
        let planned = self.planned.keys().next().map(|(time, _)| *time);
        // Nothing is due now, so that these return the time of the next task.
        let agenda = if self.has_place() { shared.agenda.next(0).err().flatten() } else { None };
        let timetable = shared.timetable.next(0).err().flatten();
        [planned, agenda, timetable].into_iter().flatten().min()
    }

    fn has_place(&self) -> bool {
        self.runs.len() < self.limits.at_once
    }

    /// Executes everything that is due now.
    pub(super) async fn work(&mut self) {
        loop {
            let (now, shared) = (self.now(), self.ledger.shared.clone());
            if let Some(event) = self.planned.first_entry().filter(|event| event.key().0 <= now) {
                let event = event.remove();
                if self.is_over(&event) {
                    continue;
                }
                self.record.event();
                self.happen(event).await;
            } else if let Ok((due, row)) = shared.timetable.next(now) {
                self.pass(&shared, due, &row).await;
            } else if self.has_place()
                && let Ok(id) = shared.agenda.next(now)
            {
                self.begin(id).await;
            } else {
                return;
            }
        }
    }

    /// Returns whether an answer has preceded this time limit of its call.
    fn is_over(&self, event: &Event) -> bool {
        let waits = |number| self.objects.state.lock().calls.contains_key(&number);
        matches!(event, Event::GiveUp { number, .. } if !waits(*number))
    }

    async fn pass(&mut self, shared: &Arc<LedgerState>, due: u64, row: &str) {
        let before = self.store.scheduled(row).expect("read");
        let Some(passed) = self.unless_killed(scheduler::pass(shared, due, row)).await else { return };
        passed.expect("written");
        let after = self.store.scheduled(row).expect("read");
        self.note(&format!("the time of schedule {row} passes"));
        self.promises.schedule_passed(before, after, due, self.clock.now_ms(), &self.store);
    }

    async fn begin(&mut self, id: Uuid) {
        let before = self.store.get(id).expect("read");
        let executor = self.executor.clone();
        let Some(begun) = self.unless_killed(executor.begin(id)).await else { return };
        let Some(run) = begun else {
            return self.promises.look_at_passed_over(before.as_ref(), &self.store);
        };
        let number = self.calls() + 1;
        self.note(&format!("call {number}: {id}, run {} on {:?}", run.task.runs, run.task.node));
        let task = run.task.clone();
        self.promises.called(before.as_ref(), &task, &self.store, self.clock.now_ms());
        self.runs.insert(number, tokio::spawn(run.carry_out()));
        while self.calls() < number {
            tokio::task::yield_now().await;
        }
        self.promises.check_places(&self.objects.state.lock());
        if self.answers {
            self.send_request(number, task);
        }
    }

    /// Delivers an answer, and waits for the end of the run.
    pub(super) async fn finish(&mut self, number: u64, answer: CallResult) {
        let call = self.objects.state.lock().calls.remove(&number).expect("a call");
        let id = call.task.id.clone();
        self.promises.answered(&call.task, &answer);
        assert!(call.answer.send(answer).is_ok(), "its run waits");
        if self.run_ends(number).await {
            let task = self.task(&id);
            self.note(&format!("answer {number}: {id} is {:?}", task.state));
            self.promises.look_at(&task);
            Promises::check_backoff(&task, self.clock.now_ms());
        }
    }

    /// Waits until a run has ended; returns false if the ledger was killed by its disk.
    pub(super) async fn run_ends(&mut self, number: u64) -> bool {
        let run = self.runs.remove(&number).expect("its run");
        let abort = run.abort_handle();
        let Some(ended) = self.unless_killed(run).await else {
            abort.abort();
            return false;
        };
        ended.expect("no panic");
        true
    }
}

fn start(
    store: &Store,
    limits: &Limits,
    environment: &Environment,
    objects: &FakeObjects,
    disk: &Disk,
) -> (Ledger, Arc<Executor<FakeObjects>>) {
    let shared = Arc::new(LedgerState::new(store.clone(), limits.clone(), environment.clone()));
    let (read, disk) = (store.clone(), disk.clone());
    // Everything that is published must be on disk already.
    let publish = move |publish: rantai_client::session::Publish| {
        if disk.is_stopped() {
            return;
        }
        let told: crate::interface::Summary = serde_json::from_slice(&publish.payload).expect("a summary");
        let id = Uuid::try_parse(&told.id).expect("an id");
        let stored = read.get(id).expect("read").map(|task| task.state);
        assert_eq!(stored, Some(told.state), "the state of {id} is told before it is on disk");
    };
    let name = ObjectName::any("tasks").expect("a name");
    let _ = shared.emitter.set(Emitter::new(Root::default(), name, Arc::new(publish)));
    (Ledger::of(shared.clone()), Arc::new(Executor::new(shared, objects.clone())))
}
