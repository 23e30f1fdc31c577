//! A ledger, its objects, and everything that happens to them, on a clock that jumps from event to event.

use std::collections::BTreeMap;
use std::sync::Arc;

use rantai_client::environment::{Environment, ManualClock};
use rantai_client::shares::CallerKey;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{CallError, Content, Response};
use serde_json::json;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::fake::{CallResult, FakeObjects, ONCE, PendingCall};
use crate::after::When;
use crate::executor::Executor;
use crate::interface::Tasks as _;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::options::Options;
use crate::owner::Asking;
use crate::schedule::{Schedule, Timing};
use crate::shared::Shared;
use crate::store::{Store, is_open};
use crate::task::{State, Task};
use crate::{runner, scheduler};

pub(super) const MINUTE_MS: u64 = 60_000;
/// 2026-01-01, 00:00 UTC.
pub(super) const START_MS: u64 = 1_767_225_600_000;

type Outcome = Result<Content, Box<Fault>>;

/// What happens at a time.
#[derive(Debug)]
enum Event {
    Answer(u64),
    NodeGone(&'static str),
    NodeBack(&'static str),
    Cancel(String),
    Crash,
}

pub(super) struct World {
    clock: ManualClock,
    /// Chance of the world; the ledger has another one.
    chance: Environment,
    ledger_environment: Environment,
    store: Store,
    ledger: Ledger,
    executor: Executor<FakeObjects>,
    objects: FakeObjects,
    runs: BTreeMap<u64, JoinHandle<()>>,
    /// By time, and number in which they were planned.
    planned: BTreeMap<(u64, u64), Event>,
    number: u64,
    /// Calls are answered by chance, instead of by the test.
    answers: bool,
    /// What each node has carried out, by identity: it outlives the node's absence.
    remembered: BTreeMap<(String, Uuid), Outcome>,
    /// How often each identity of a `once` method was carried out.
    executions: BTreeMap<Uuid, u32>,
    submitted: Vec<String>,
    pub(super) trace: Vec<String>,
}

impl World {
    /// A world in which answers are random, nodes go and come back, tasks are cancelled, and the ledger crashes.
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self::quiet(seed);
        world.answers = true;
        for node in ["one", "two"] {
            let mut time = START_MS;
            for _ in 0..4 {
                time += world.chance.random_below(4 * MINUTE_MS);
                world.plan(time, Event::NodeGone(node));
                time += 1 + world.chance.random_below(2 * MINUTE_MS);
                world.plan(time, Event::NodeBack(node));
            }
        }
        for _ in 0..4 {
            let time = START_MS + world.chance.random_below(15 * MINUTE_MS);
            world.plan(time, Event::Crash);
        }
        world
    }

    /// A world in which nothing happens but what the test does.
    pub(super) fn quiet(seed: u64) -> Self {
        let clock = ManualClock::new(START_MS);
        let ledger_environment = Environment::simulated(clock.clone(), seed);
        let chance = Environment::simulated(clock.clone(), seed ^ 0xC0FF_EE00);
        let (store, objects) = (Store::open(None).expect("a store"), FakeObjects::default());
        for object in ["printer", ONCE] {
            let nodes = ["one", "two"].map(str::to_owned).into();
            objects.state.lock().nodes.insert(object.to_owned(), nodes);
        }
        let (ledger, executor) = start(&store, &ledger_environment, &objects);
        Self {
            clock,
            chance,
            ledger_environment,
            store,
            ledger,
            executor,
            objects,
            runs: BTreeMap::new(),
            planned: BTreeMap::new(),
            number: 0,
            answers: false,
            remembered: BTreeMap::new(),
            executions: BTreeMap::new(),
            submitted: Vec::new(),
            trace: Vec::new(),
        }
    }

    /// A quiet world in which answers are random, and the ledger crashes once.
    pub(super) fn answering(seed: u64) -> Self {
        let mut world = Self::quiet(seed);
        world.answers = true;
        let time = START_MS + world.chance.random_below(2 * MINUTE_MS);
        world.plan(time, Event::Crash);
        world
    }

    pub(super) async fn submit(&mut self, object: &str, options: Options) -> String {
        self.submit_by(CallerKey::Unnamed, object, options).await
    }

    pub(super) async fn submit_by(&mut self, caller: CallerKey, object: &str, options: Options) -> String {
        let params = Some(json!([1]));
        let ledger = self.ledger_of(caller);
        let id = ledger.submit(object.to_owned(), "use".to_owned(), params, Some(options)).await;
        let id = id.expect("submitted");
        self.submitted.push(id.clone());
        self.note(&format!("submit {id} {object}"));
        id
    }

    /// What calls were recognised by.
    pub(super) fn identities(&self) -> std::collections::BTreeSet<String> {
        self.remembered.keys().map(|(_, identity)| identity.simple().to_string()).collect()
    }

    /// The ledger as this caller has it; `root` is an admin.
    pub(super) fn ledger_of(&self, caller: CallerKey) -> Ledger {
        let user = match &caller {
            CallerKey::User(user) => Some(user.to_string()),
            CallerKey::Client(_) | CallerKey::Unnamed => None,
        };
        let asking = Asking { is_admin: user.as_deref() == Some("root"), user, share_of: caller };
        Ledger { asking, ..self.ledger.clone() }
    }

    pub(super) async fn submit_random(&mut self) {
        let below = |end| self.chance.random_below(end);
        let object = if below(2) == 0 { "printer" } else { ONCE };
        let before = (below(3) == 0).then(|| self.submitted.last().cloned()).flatten();
        let options = Options {
            retries: below(4) as u32,
            backoff_ms: 500,
            delay_ms: below(5 * MINUTE_MS),
            priority: below(10) as u8,
            expires_ms: (below(4) == 0).then_some(6 * MINUTE_MS),
            after: before.into_iter().collect(),
            when: When::Ended,
            ..Options::default()
        };
        let cancelled = (below(6) == 0).then(|| START_MS + below(8 * MINUTE_MS));
        let id = self.submit(object, options).await;
        if let Some(time) = cancelled {
            self.plan(time, Event::Cancel(id));
        }
    }

    pub(super) async fn schedule(&mut self, name: &str, cron: &str) {
        let timing = Timing { cron: cron.to_owned(), zone: "UTC".to_owned(), overlap: true };
        let (object, method) = ("printer".to_owned(), "use".to_owned());
        self.ledger.schedule(name.to_owned(), timing, object, method, None, None).await.expect("a schedule");
    }

    pub(super) async fn unschedule(&mut self, name: &str) {
        let schedule = self.scheduled(name);
        // A crash misses none of them, as the ledger begins anew at once.
        assert_eq!(schedule.made + schedule.skipped, (self.now() - START_MS) / MINUTE_MS, "{schedule:?}");
        assert!(self.ledger.unschedule(name.to_owned()).await.expect("an answer"));
    }

    pub(super) fn scheduled(&self, name: &str) -> Schedule {
        self.store.scheduled(name).expect("read").expect("known")
    }

    pub(super) fn task(&self, id: &str) -> Task {
        self.store.get(Uuid::try_parse(id).expect("an id")).expect("read").expect("known")
    }

    /// Calls that were made so far.
    pub(super) fn calls(&self) -> u64 {
        self.objects.state.lock().made
    }

    /// From now on nodes stay, and nothing crashes.
    pub(super) fn end_disturbances(&mut self) {
        self.planned.retain(|_, event| !matches!(event, Event::NodeGone(_) | Event::Crash));
    }

    /// Lets time pass from event to event.
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

    /// Sets the clock without stopping in between.
    pub(super) async fn jump(&mut self, time: u64) {
        self.clock.set(time);
        self.work().await;
    }

    /// Lets time pass until a call waits for its answer. Returns the time.
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

    /// Answers the one call that waits.
    pub(super) async fn answer(&mut self, outcome: Outcome) {
        let number = *self.runs.keys().next().expect("a call");
        self.finish(number, Ok(Response { outcome, node: None, repeated: false, secret: false })).await;
    }

    /// What has to hold at the end.
    pub(super) fn check(&self) {
        let tasks = self.store.list(None, usize::MAX, |_| true).expect("read");
        assert!(tasks.len() >= self.submitted.len() + 10, "schedules make some too: {}", tasks.len());
        for task in &tasks {
            assert!(!is_open(task), "{task:?}");
            assert!(task.runs <= task.options.retries + 1, "{task:?}");
            let expired = task.expires_ms().filter(|_| task.state == State::Expired);
            assert!(expired.is_none_or(|time| task.ended_ms >= Some(time)), "{task:?}");
            if task.state == State::Succeeded {
                assert_eq!(
                    task.result,
                    Some(json!(task.identity().to_string())),
                    "the result of another run: {task:?}"
                );
            }
        }
        let twice: Vec<_> = self.executions.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    fn note(&mut self, text: &str) {
        self.trace.push(format!("{} {text}", self.now() - START_MS));
    }

    fn plan(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.planned.insert((time, self.number), event);
    }

    fn next_time(&self) -> Option<u64> {
        let shared = &self.ledger.shared;
        let planned = self.planned.keys().next().map(|(time, _)| *time);
        // Nothing is due now: what they return is when something will be.
        let (agenda, timetable) = (shared.agenda.next(0).err(), shared.timetable.next(0).err());
        [planned, agenda.flatten(), timetable.flatten()].into_iter().flatten().min()
    }

    /// Everything that is due now.
    async fn work(&mut self) {
        loop {
            let (now, shared) = (self.now(), self.ledger.shared.clone());
            if let Some(event) = self.planned.first_entry().filter(|event| event.key().0 <= now) {
                let event = event.remove();
                self.happen(event).await;
            } else if let Ok((due, name)) = shared.timetable.next(now) {
                scheduler::pass(&shared, due, &name).await.expect("written");
            } else if let Ok(id) = shared.agenda.next(now) {
                self.begin(id).await;
            } else {
                return;
            }
        }
    }

    async fn begin(&mut self, id: Uuid) {
        let Some(run) = self.executor.begin(id).await else { return };
        let number = self.objects.state.lock().made + 1;
        self.note(&format!("call {number}: {id}, run {} on {:?}", run.task.runs, run.task.node));
        self.runs.insert(number, tokio::spawn(run.carry_out()));
        while self.objects.state.lock().made < number {
            tokio::task::yield_now().await;
        }
        if self.answers {
            let time = self.now() + 1 + self.chance.random_below(20_000);
            self.plan(time, Event::Answer(number));
        }
    }

    async fn happen(&mut self, event: Event) {
        self.note(&format!("{event:?}"));
        match event {
            Event::Answer(number) => {
                let call = self.objects.state.lock().calls.get(&number).map(|call| call.task.clone());
                // Its call may have ended with its node, by a crash or by being cancelled.
                let Some(task) = call else { return };
                let answer = self.carry_out(&task);
                self.finish(number, answer).await;
            }
            Event::NodeGone(node) => {
                for nodes in self.objects.state.lock().nodes.values_mut() {
                    nodes.remove(node);
                }
                let lost: Vec<u64> = {
                    let state = self.objects.state.lock();
                    let on_it = |call: &PendingCall| call.task.node.as_deref() == Some(node);
                    state.calls.iter().filter(|(_, call)| on_it(call)).map(|(number, _)| *number).collect()
                };
                for number in lost {
                    // Whether it had got to it is as it may be.
                    if self.chance.random_below(2) == 0 {
                        let task = self.objects.state.lock().calls[&number].task.clone();
                        let _ = self.carry_out(&task);
                    }
                    self.finish(number, Err(CallError::Lost)).await;
                }
            }
            Event::NodeBack(node) => {
                for nodes in self.objects.state.lock().nodes.values_mut() {
                    nodes.insert(node.to_owned());
                }
                self.executor.look_for_absent();
            }
            Event::Cancel(id) => {
                let number = {
                    let state = self.objects.state.lock();
                    state.calls.iter().find(|(_, call)| call.task.id == id).map(|(number, _)| *number)
                };
                let cancelled = self.ledger.cancel(id).await.expect("an answer");
                if let Some(run) = number.filter(|_| cancelled).and_then(|number| self.runs.remove(&number)) {
                    run.await.expect("no panic");
                }
                if let Some(number) = number {
                    self.objects.state.lock().calls.remove(&number);
                }
            }
            Event::Crash => {
                for run in std::mem::take(&mut self.runs).into_values() {
                    run.abort();
                    let _ = run.await;
                }
                self.objects.state.lock().calls.clear();
                (self.ledger, self.executor) = start(&self.store, &self.ledger_environment, &self.objects);
                runner::load(&self.ledger.shared).await;
                scheduler::load(&self.ledger.shared).expect("read");
            }
        }
    }

    /// What a node does with a call, and answers.
    fn carry_out(&mut self, task: &Task) -> CallResult {
        let (node, identity) = (task.node.clone().expect("it was called"), task.identity());
        let known = self.remembered.get(&(node.clone(), identity)).cloned();
        let repeated = known.is_some();
        let outcome = match known {
            Some(outcome) => outcome,
            None if self.chance.random_below(8) == 0 => return Err(Fault::busy(300).into()),
            None => {
                if task.object == ONCE {
                    *self.executions.entry(identity).or_default() += 1;
                }
                let fails = self.chance.random_below(4) == 0;
                let failure = || Err(Box::new(Fault::new(Code::FAILED, "no paper")));
                let outcome = if fails { failure() } else { Ok(Content::Value(json!(identity.to_string()))) };
                self.remembered.insert((node.clone(), identity), outcome.clone());
                outcome
            }
        };
        if self.chance.random_below(8) == 0 {
            return Err(CallError::Lost);
        }
        Ok(Response { outcome, node: Some(node), repeated, secret: false })
    }

    /// Hands an answer over, and lets the run end.
    async fn finish(&mut self, number: u64, answer: CallResult) {
        let call = self.objects.state.lock().calls.remove(&number).expect("a call");
        let id = call.task.id.clone();
        assert!(call.answer.send(answer).is_ok(), "its run waits");
        self.runs.remove(&number).expect("its run").await.expect("no panic");
        let task = self.task(&id);
        self.note(&format!("answer {number}: {id} is {:?}", task.state));
    }
}

fn start(store: &Store, environment: &Environment, objects: &FakeObjects) -> (Ledger, Executor<FakeObjects>) {
    let limits = Limits { per_object: 3, ..Limits::default() };
    let shared = Arc::new(Shared::new(store.clone(), limits, environment.clone()));
    (Ledger::of(shared.clone()), Executor::new(shared, objects.clone()))
}
