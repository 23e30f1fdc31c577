//! Checks the ledger's promises (docs/tasks.md).

use std::collections::{BTreeMap, BTreeSet};

use rantai_client::CallError;
use rantai_client::wire::fault::Code;
use rantai_testing::Record;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::fake::{CallResult, FakeState, ONCE, SECRET};
use super::nodes::fault_of;
use crate::after::When;
use crate::limits::Limits;
use crate::options::MAX_BACKOFF_MS;
use crate::schedule::Schedule;
use crate::store::{Kept, Store, is_open};
use crate::task::{State, Task};

/// Outcome of a run, as reported to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunOutcome {
    /// Unknown, so that it is called again with the same identity.
    Unknown,
    /// The method was not started, so that it does not count as a run.
    ReachedNobody,
    Succeeded,
    /// Failed; a retry may succeed.
    Failed,
    /// Failed; a retry would fail too.
    Refused,
}

/// State of a run, by its identity.
#[derive(Debug)]
struct RunRecord {
    task: Uuid,
    told: RunOutcome,
}

/// Acknowledged state of a task, and what is known of it.
#[derive(Debug, Default)]
struct KnownTask {
    /// The task as stored at the last check.
    last: Option<Task>,
    /// Whether its cancellation was acknowledged.
    is_cancelled: bool,
    /// Whether a user has asked to retry or cancel it since the last check.
    is_touched: bool,
    /// Identity of its latest run.
    run: Option<Uuid>,
}

/// Promises of the ledger, and what it has done.
#[derive(Debug)]
pub(super) struct Promises {
    limits: Limits,
    record: Record,
    tasks: BTreeMap<Uuid, KnownTask>,
    runs: BTreeMap<Uuid, RunRecord>,
    /// Number of executions of each run of a `once` method.
    carried_out: BTreeMap<Uuid, u32>,
    /// Tasks whose secret results are in memory and were not returned yet.
    secrets: BTreeSet<Uuid>,
    forgotten: BTreeSet<Uuid>,
    /// Stored tasks before old ones were removed.
    forgetting: Option<Vec<Task>>,
    /// Tasks that schedules have created, by the schedules' marks.
    made: BTreeMap<u64, BTreeSet<Uuid>>,
    /// Receivers that wait for the end of a task.
    waiting: Vec<(Uuid, oneshot::Receiver<()>)>,
}

/// Returns the mark that distinguishes a schedule of the simulation: it is in the parameters of all its tasks.
pub(super) fn mark_of(params: &Value) -> Option<u64> {
    params.as_array().filter(|params| params.first() == Some(&json!("schedule")))?.get(1)?.as_u64()
}

fn outcome_of(answer: &CallResult) -> RunOutcome {
    match answer {
        Ok(response) if response.outcome.is_ok() => return RunOutcome::Succeeded,
        Err(CallError::Fault(fault)) if fault.maybe_executed() => return RunOutcome::Unknown,
        Err(error) if error.fault().is_none() => return RunOutcome::Unknown,
        _ => {}
    }
    let fault = fault_of(answer).expect("it is no success");
    let is_unknown = fault.data.get("kind").is_some_and(|kind| kind == "outcome_unknown");
    match fault.code {
        Code::BUSY => RunOutcome::ReachedNobody,
        Code::FAILED | Code::BROKEN_OBJECT if !is_unknown => RunOutcome::Failed,
        _ => RunOutcome::Refused,
    }
}

impl Promises {
    pub(super) fn new(limits: Limits, record: Record) -> Self {
        Self {
            limits,
            record,
            tasks: BTreeMap::new(),
            runs: BTreeMap::new(),
            carried_out: BTreeMap::new(),
            secrets: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            forgetting: None,
            made: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    pub(super) fn identities(&self) -> impl Iterator<Item = Uuid> {
        self.runs.keys().copied()
    }

    /// Returns the tasks that were acknowledged or seen and are not removed, oldest first.
    pub(super) fn known(&self) -> Vec<Uuid> {
        self.tasks.keys().copied().filter(|id| !self.forgotten.contains(id)).collect()
    }

    pub(super) fn is_forgotten(&self, id: Uuid) -> bool {
        self.forgotten.contains(&id)
    }

    pub(super) fn submitted(&mut self, id: Uuid) {
        self.tasks.entry(id).or_default();
    }

    /// Records that a user asks to cancel or retry a task.
    pub(super) fn touched(&mut self, id: Uuid) {
        self.tasks.entry(id).or_default().is_touched = true;
    }

    pub(super) fn cancelled(&mut self, id: Uuid) {
        self.tasks.entry(id).or_default().is_cancelled = true;
    }

    /// Records a retry by a user: the next run is a new one, whatever the outcome of the last.
    pub(super) fn taken_up(&mut self, id: Uuid) {
        let known = self.tasks.entry(id).or_default();
        (known.is_cancelled, known.run) = (false, None);
    }

    pub(super) fn waits(&mut self, id: Uuid, ended: oneshot::Receiver<()>) {
        self.waiting.push((id, ended));
    }

    /// Discards what was only in the ledger's memory.
    pub(super) fn ledger_was_killed(&mut self) {
        self.secrets.clear();
        self.waiting.clear();
        // It is not known whether requests in progress were executed.
        for known in self.tasks.values_mut().filter(|known| known.is_touched) {
            known.run = None;
            known.is_cancelled = false;
        }
    }

    /// Records that a method is executed.
    pub(super) fn carried_out(&mut self, task: &Task) {
        let times = self.carried_out.entry(task.identity()).or_default();
        *times += 1;
        if *times > 1 {
            assert!(task.object != ONCE, "a `once` method is carried out twice: {task:?}");
            self.record.reached("a method that may be is carried out twice");
        }
    }

    /// Records that the ledger receives an answer.
    pub(super) fn answered(&mut self, task: &Task, answer: &CallResult) {
        let run = self.runs.get_mut(&task.identity()).expect("it was called");
        // Recorded at once, although the ledger may be killed before the outcome is on disk.
        run.told = outcome_of(answer);
        self.record.reached(match run.told {
            RunOutcome::Unknown => "nobody knows what came of a call",
            RunOutcome::ReachedNobody => "a call reaches nobody",
            RunOutcome::Succeeded => "a call succeeds",
            RunOutcome::Failed => "a call fails",
            RunOutcome::Refused => "a call fails for good",
        });
        if run.told == RunOutcome::Succeeded && task.object == SECRET {
            self.secrets.insert(task.uuid());
        }
    }

    /// Checks the result returned to a task's owner: a secret one is returned once, while the ledger lives.
    pub(super) fn told_to_owner(&mut self, task: &Task) {
        if task.object != SECRET || task.state != State::Succeeded {
            return;
        }
        assert!(task.secret, "{task:?}");
        let is_kept = self.secrets.remove(&task.uuid());
        assert_eq!(task.result.is_some(), is_kept, "a secret is told once: {task:?}");
        self.record.reached(if is_kept { "a secret is told" } else { "a secret is not told again" });
    }

    /// Checks a call of a task that was stored as `before` until then.
    pub(super) fn called(&mut self, before: Option<&Task>, task: &Task, store: &Store, now: u64) {
        let before = before.expect("it was stored");
        let stored = store.get(task.uuid()).expect("read").expect("stored");
        assert_eq!(
            (stored.state, &stored.node, stored.identity()),
            (State::Running, &task.node, task.identity()),
            "it is called before it is on disk that it runs: {stored:?}"
        );
        assert!(task.node.is_some() && !before.state.is_ended(), "{before:?}");
        let identity = task.identity();
        let known = self.tasks.entry(task.uuid()).or_default();
        if before.state == State::Running {
            assert_eq!(
                identity,
                before.identity(),
                "a call whose answer is not known is made as another one"
            );
            self.record.reached("a call is made again by the same identity");
            if task.object == ONCE {
                assert_eq!(task.node, before.node, "a `once` method is called on another node: {task:?}");
            } else if task.node != before.node {
                self.record.reached("a call is made again on another node");
            }
        } else {
            assert!(!self.runs.contains_key(&identity), "two runs have one identity: {task:?}");
            assert!(before.due_ms <= now, "it is called before its time: {before:?}");
            let told = known.run.and_then(|run| self.runs.get(&run)).map(|run| run.told);
            assert!(
                matches!(told, None | Some(RunOutcome::Failed | RunOutcome::ReachedNobody)),
                "another run begins after one of which it was told {told:?}: {before:?}"
            );
            assert!(
                before.expires_ms().is_none_or(|time| now < time),
                "it is called after its time: {before:?}"
            );
        }
        let run =
            self.runs.entry(identity).or_insert(RunRecord { task: task.uuid(), told: RunOutcome::Unknown });
        assert_eq!(run.task, task.uuid(), "two tasks have one identity");
        known.run = Some(identity);
        if !task.options.after.is_empty() && before.state == State::Queued && before.runs == 0 {
            self.check_before(before, task, store);
        }
    }

    /// Checks that a task's dependencies have ended, and that it got their outcomes.
    fn check_before(&self, before: &Task, task: &Task, store: &Store) {
        let mut results = Vec::new();
        for id in task.before() {
            let one = store.get(id).expect("read").expect("what an open task comes after is kept");
            let fits = match task.options.when {
                When::Succeeded => one.state == State::Succeeded,
                When::Ended => one.state.is_ended(),
            };
            // The dependency may have been retried after it let this task begin.
            let again = one.forgiven > 0;
            assert!(
                fits || again || before.fed,
                "it is called before what it comes after: {task:?}, {one:?}"
            );
            results.push((one.result, again));
        }
        self.record.reached("a task begins after others");
        let submitted = before.params.as_array().filter(|_| !before.fed);
        for (place, param) in submitted.into_iter().flatten().enumerate() {
            if *param == json!({"$result": 0}) && !results[0].1 {
                assert_eq!(task.params[place], json!(results[0].0), "it is given another result: {task:?}");
                self.record.reached("a task is given the result of another");
            }
        }
    }

    /// Checks that a task was not called for a reason.
    pub(super) fn look_at_passed_over(&mut self, before: Option<&Task>, store: &Store) {
        let Some(before) = before.filter(|before| is_open(before)) else { return };
        let Some(task) = store.get(before.uuid()).expect("read") else { return };
        match task.state {
            State::Expired => self.record.reached("a task expires"),
            State::Failed => {
                let kind = task.error.as_ref().map(|error| error["data"]["kind"].clone());
                assert_eq!(kind, Some(json!("dependency_failed")), "it fails without being called: {task:?}");
                // A retried task may find that its dependencies were removed.
                let is_kept = |id| store.get(id).expect("read").is_some();
                assert!(task.options.when == When::Succeeded || !task.before().all(is_kept), "{task:?}");
                self.record.reached("a task fails with one that it comes after");
            }
            _ => {}
        }
        self.look_at(&task);
    }

    /// Checks that the limits of concurrent runs are kept.
    pub(super) fn check_places(&self, objects: &FakeState) {
        let mut by_object = BTreeMap::<&str, usize>::new();
        for call in objects.calls.values() {
            *by_object.entry(&call.task.object).or_default() += 1;
        }
        for (object, running) in by_object {
            assert!(running <= self.limits.of(object), "{running} calls of {object} at once");
            if running == self.limits.of(object) {
                self.record.reached("an object has as many calls as it may");
            }
        }
        assert!(objects.calls.len() <= self.limits.at_once, "{} calls at once", objects.calls.len());
        if objects.calls.len() == self.limits.at_once {
            self.record.reached("the ledger has as many calls as it may");
        }
    }

    /// Checks the task of a schedule whose time `due` has come.
    pub(super) fn schedule_passed(
        &mut self,
        before: Option<Schedule>,
        after: Option<Schedule>,
        due: u64,
        now: u64,
        store: &Store,
    ) {
        let Some(before) = before.filter(|before| before.next_ms == Some(due)) else {
            return self.record.reached("a time comes of a schedule that is no more");
        };
        let after = after.expect("it is there still");
        assert_eq!(after.next_ms, before.timing.next(now).expect("a timing"), "{after:?}");
        assert_eq!(after.made + after.skipped, before.made + before.skipped + 1, "{before:?}, {after:?}");
        let get = |id: &Option<String>| {
            let id = id.as_ref().map(|id| Uuid::try_parse(id).expect("an id"))?;
            store.get(id).expect("read")
        };
        let is_last_open = get(&before.last).as_ref().is_some_and(is_open);
        if after.made == before.made {
            self.record.reached("a time of a schedule makes no task");
            return;
        }
        assert!(before.timing.overlap || !is_last_open, "a schedule overlaps itself: {before:?}");
        let made = get(&after.last).expect("what a schedule made is stored in the same commit");
        assert_eq!((&made.user, made.submitted_ms, &made.params), (&after.user, now, &after.params));
        self.record.reached("a schedule makes a task");
        self.submitted(made.uuid());
    }

    /// Records a task as it is stored now.
    pub(super) fn look_at(&mut self, task: &Task) {
        let known = self.tasks.entry(task.uuid()).or_default();
        if let Some(last) = known.last.as_ref().filter(|last| last.state.is_ended() && !known.is_touched) {
            assert_eq!(last, task, "a task that has ended changes");
        }
        assert!(!known.is_cancelled || task.state == State::Cancelled, "it was cancelled: {task:?}");
        let most = task.forgiven + task.options.retries + 1;
        assert!(task.runs <= most, "it was called more than {most} times: {task:?}");
        assert_eq!(task.state.is_ended(), task.ended_ms.is_some(), "{task:?}");
        match task.state {
            State::Succeeded => {
                let run = self.runs.get(&task.identity());
                assert!(
                    run.is_some_and(|run| run.told == RunOutcome::Succeeded),
                    "nothing of it succeeded: {task:?}"
                );
                let is_of_run = |result: &Value| {
                    result.as_str().is_some_and(|text| text.starts_with(&task.identity().to_string()))
                };
                let is_kept = task.result.as_ref().is_some_and(is_of_run);
                assert_eq!(
                    is_kept,
                    task.object != SECRET,
                    "the result is of another run, or secret: {task:?}"
                );
            }
            State::Cancelled => assert!(task.result.is_none(), "{task:?}"),
            State::Failed => assert!(task.error.is_some() && task.result.is_none(), "{task:?}"),
            State::Expired => {
                assert!(task.ended_ms >= task.expires_ms() && task.result.is_none(), "{task:?}");
            }
            State::Running => assert!(task.node.is_some(), "{task:?}"),
            State::Queued => {}
            State::Retrying => self.record.reached("a task waits to be called again"),
        }
        known.last = Some(task.clone());
        known.is_touched = false;
    }

    /// Checks that a failed task is due within its backoff.
    pub(super) fn check_backoff(task: &Task, now: u64) {
        if task.state == State::Retrying {
            let tries = task.runs.saturating_sub(task.forgiven).max(1);
            let most = task.options.backoff_ms.saturating_mul(1 << (tries - 1).min(31)).min(MAX_BACKOFF_MS);
            // A busy node suggests itself when to retry.
            assert!(task.due_ms <= now + most.max(300), "it waits for too long: {task:?}");
        }
    }

    /// Checks that the store contains what was promised.
    pub(super) fn check(&mut self, store: &Store, now: u64) {
        if let Some(before) = self.forgetting.take() {
            self.check_forgotten(&before, store, now);
        }
        let stored = store.list(None, usize::MAX, |_| true).expect("read");
        assert!(stored.len() as u64 <= self.limits.tasks, "more tasks than there may be: {}", stored.len());
        let mut batches = BTreeMap::<(u64, u64), u64>::new();
        let mut held = BTreeMap::<String, (u64, u64)>::new();
        let mut there = BTreeSet::new();
        for task in &stored {
            self.look_at(task);
            there.insert(task.uuid());
            if let Some(owner) = &task.owner {
                let (count, bytes) = held.entry(owner.caller.clone()).or_default();
                (*count, *bytes) = (*count + 1, *bytes + owner.bytes);
            }
            if let Some(mark) = mark_of(&task.params) {
                self.made.entry(mark).or_default().insert(task.uuid());
            }
            if let Some(batch) = batch_of(&task.params) {
                *batches.entry(batch).or_default() += 1;
            }
        }
        for id in self.tasks.keys() {
            assert!(there.contains(id) || self.forgotten.contains(id), "task {id} is lost");
        }
        if self.forgotten.is_empty() {
            for ((batch, size), count) in batches {
                assert_eq!(count, size, "of submission {batch} a part is stored");
            }
        }
        let counted = store.holdings().held(Kept::Tasks).into_iter();
        let counted: BTreeMap<_, _> =
            counted.map(|(caller, held)| (caller, (held.count, held.bytes))).collect();
        assert_eq!(counted, held, "what callers hold is counted otherwise than it is stored");
        self.check_schedules(store);
        self.check_waiting(store);
    }

    fn check_schedules(&mut self, store: &Store) {
        let schedules = store.schedules("", usize::MAX, |_| true).expect("read");
        assert!(schedules.len() as u64 <= self.limits.schedules);
        for schedule in schedules {
            let Some(mark) = mark_of(&schedule.params) else { continue };
            let made = self.made.entry(mark).or_default();
            assert_eq!(made.len() as u64, schedule.made, "tasks that {schedule:?} has made");
        }
    }

    /// Checks that callers that wait for a task are notified of its end.
    fn check_waiting(&mut self, store: &Store) {
        let record = self.record.clone();
        self.waiting.retain_mut(|(id, ended)| {
            let has_ended = store.get(*id).expect("read").is_none_or(|task| task.state.is_ended());
            let is_told = ended.try_recv().is_ok();
            assert!(is_told || !has_ended, "nobody was told of the end of {id}");
            if is_told {
                record.reached("somebody who waits for a task is told of its end");
            }
            !is_told
        });
    }

    /// Records the tasks before old ones are removed.
    pub(super) fn forgets(&mut self, store: &Store) {
        self.forgetting = Some(store.list(None, usize::MAX, |_| true).expect("read"));
    }

    /// Checks the tasks that were removed; `before` were stored.
    fn check_forgotten(&mut self, before: &[Task], store: &Store, now: u64) {
        let kept = self.limits.kept.as_millis() as u64;
        let open = || before.iter().filter(|task| is_open(task));
        for task in before {
            if store.get(task.uuid()).expect("read").is_some() {
                continue;
            }
            assert!(
                task.ended_ms.is_some_and(|ended| ended + kept < now),
                "it is forgotten too early: {task:?}"
            );
            let waits = open().any(|other| other.before().any(|id| id == task.uuid()));
            assert!(!waits, "it is forgotten, and another one waits for it: {task:?}");
            self.record.reached("a task is forgotten");
            self.forgotten.insert(task.uuid());
        }
    }

    /// Checks what must be true once nothing has been disturbed for a while: all tasks have ended.
    pub(super) fn check_end(&mut self, store: &Store, now: u64) {
        self.check(store, now);
        let open = store.list(None, usize::MAX, is_open).expect("read");
        assert!(open.is_empty(), "they have not ended: {open:#?}");
        assert!(self.waiting.is_empty(), "somebody still waits");
    }
}

/// Returns the submission that a task is part of, and the number of its tasks.
fn batch_of(params: &Value) -> Option<(u64, u64)> {
    let params = params.as_array().filter(|params| params.first() == Some(&json!("batch")))?;
    Some((params.get(1)?.as_u64()?, params.get(2)?.as_u64()?))
}
