//! Users of the ledger: they submit, cancel, retry and read tasks.

use rantai_client::shares::{CallerKey, ShareLimits};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{Content, Response};
use serde_json::json;
use uuid::Uuid;

use super::fake::{NODES, ONCE, PLAIN, SECRET};
use super::odds::Disturbance;
use super::world::{Event, MINUTE_MS, World};
use crate::after::When;
use crate::interface::{Submission, Tasks as _};
use crate::limits::Limits;
use crate::options::Options;
use crate::schedule::{Schedule, Timing};
use crate::store::{Kept, is_open};
use crate::task::{State, Task};

/// Maximum number of tasks in one submission.
const MAX_AT_ONCE: u64 = 8;
/// Maximum time for which a node is gone, in milliseconds.
const GONE_MS: u64 = 90_000;
/// Maximum time by which the clock jumps ahead or is set back, in milliseconds.
const JUMP_MS: u64 = 120 * MINUTE_MS;
const SET_BACK_MS: u64 = 10 * MINUTE_MS;
const CRONS: [&str; 4] = ["* * * * *", "*/20 * * * * *", "*/3 * * * *", "30 2 * * *"];

fn callers() -> [CallerKey; 4] {
    [
        CallerKey::User("ada".parse().expect("a name")),
        CallerKey::User("bob".parse().expect("a name")),
        CallerKey::Client("sensor".parse().expect("an id")),
        CallerKey::Unnamed,
    ]
}

fn user_of(caller: &CallerKey) -> Option<String> {
    match caller {
        CallerKey::User(user) => Some(user.to_string()),
        CallerKey::Client(_) | CallerKey::Unnamed => None,
    }
}

fn is_unknown(fault: &Fault) -> bool {
    fault.code == Code::FAILED && fault.data["kind"] == "no_such_task"
}

impl World {
    /// Performs a disturbance drawn from the seed.
    pub(super) async fn disturb(&mut self) {
        let disturbance = self.odds.disturbance(&self.chance);
        self.record.event();
        match disturbance {
            Disturbance::Submit => self.submit_one().await,
            Disturbance::SubmitAll => self.submit_several().await,
            Disturbance::SubmitKey => self.submit_with_key().await,
            Disturbance::Cancel => self.cancel_any().await,
            Disturbance::Retry => self.retry_any().await,
            Disturbance::Read => self.read_any().await,
            Disturbance::List => self.list_all().await,
            Disturbance::Wait => self.wait_for_any(),
            Disturbance::Schedule => self.make_schedule().await,
            Disturbance::Unschedule => self.end_schedule().await,
            Disturbance::Forget => self.forget().await,
            Disturbance::NodeGone => {
                let node = NODES[self.below(NODES.len() as u64) as usize];
                let back = self.now() + 1 + self.below(GONE_MS);
                self.plan(self.now(), Event::NodeGone(node));
                self.plan(back, Event::NodeBack(node));
            }
            Disturbance::Kill => self.plan(self.now(), Event::Crash),
            Disturbance::KillAtWrite => self.kill_at_write(),
            Disturbance::Jump => {
                self.record.reached("the clock jumps");
                let time = self.now() + self.below(JUMP_MS);
                self.jump(time).await;
            }
            Disturbance::SetBack => {
                self.record.reached("the clock is set back");
                let time = self.now() - self.below(SET_BACK_MS);
                self.jump(time).await;
            }
        }
    }

    fn any_caller(&self) -> CallerKey {
        callers()[self.below(4) as usize].clone()
    }

    fn mark(&mut self) -> u64 {
        self.marks += 1;
        self.marks
    }

    fn any_object(&self) -> &'static str {
        match self.below(100) {
            chance if chance < self.odds.once => ONCE,
            _ if self.happens(self.odds.secret) => SECRET,
            _ => PLAIN,
        }
    }

    /// Chooses any known and stored task that matches.
    fn any_task(&self, wanted: impl Fn(&Task) -> bool) -> Option<Task> {
        let known = self.promises.known();
        for _ in 0..4 {
            // Mostly one of the latest tasks.
            let back = self.below(if self.below(3) == 0 { known.len() as u64 } else { 25 }) as usize;
            let Some(id) = known.iter().rev().nth(back) else { continue };
            let task = self.store.get(*id).expect("read").expect("kept");
            if wanted(&task) {
                return Some(task);
            }
        }
        None
    }

    fn any_options(&self) -> Options {
        Options {
            retries: self.below(4) as u32,
            backoff_ms: 100 + self.below(5_000),
            delay_ms: if self.below(2) == 0 { self.below(3 * MINUTE_MS) } else { 0 },
            at_ms: (self.below(10) == 0).then(|| self.now() + self.below(MINUTE_MS)),
            expires_ms: (self.below(4) == 0).then(|| 5_000 + self.below(10 * MINUTE_MS)),
            timeout_ms: if self.below(2) == 0 { 5_000 + self.below(60_000) } else { 600_000 },
            priority: self.below(10) as u8,
            when: if self.below(2) == 0 { When::Succeeded } else { When::Ended },
            ..Options::default()
        }
    }

    async fn submit_one(&mut self) {
        let caller = self.any_caller();
        let user = user_of(&caller);
        let mut options = self.any_options();
        let mut params = vec![json!("task"), json!(self.mark())];
        for _ in 0..self.below(6).saturating_sub(3) {
            let before = self.any_task(|task| task.user == user);
            options.after.extend(before.map(|task| task.id));
        }
        if !options.after.is_empty() && self.below(2) == 0 {
            params.push(json!({"$result": 0}));
        }
        let other = if self.below(20) == 0 { self.any_task(|task| task.user != user) } else { None };
        options.after.extend(other.iter().map(|task| task.id.clone()));
        let call = Submission {
            object: self.any_object().to_owned(),
            method: "use".to_owned(),
            params: json!(params),
            options,
        };
        let result = self.submit_as(&caller, vec![call]).await;
        if other.is_some()
            && let Some(result) = result
        {
            assert!(is_unknown(&result.expect_err("it comes after a task of somebody else")));
            self.record.reached("a task after one of somebody else is refused");
        }
    }

    async fn submit_several(&mut self) {
        let (caller, batch, size) = (self.any_caller(), self.mark(), 2 + self.below(MAX_AT_ONCE - 1));
        let mut calls = Vec::new();
        for place in 0..size {
            let mut options = self.any_options();
            let mut params = vec![json!("batch"), json!(batch), json!(size)];
            if place > 0 && self.below(2) == 0 {
                options.after = vec![format!("#{}", self.below(place))];
                params.push(json!({"$result": 0}));
            }
            let object = self.any_object().to_owned();
            calls.push(Submission { object, method: "use".to_owned(), params: json!(params), options });
        }
        if self.submit_as(&caller, calls).await.is_some_and(|result| result.is_ok()) {
            self.record.reached("several tasks are submitted at once");
        }
    }

    /// Submits calls; returns `None` if the ledger was killed meanwhile, so that it is not known whether they are
    /// stored.
    async fn submit_as(
        &mut self,
        caller: &CallerKey,
        calls: Vec<Submission>,
    ) -> Option<Result<Vec<String>, Fault>> {
        let (ledger, more) = (self.ledger_of(caller.clone()), calls.len() as u64);
        let admitted = self.admits(caller, Kept::Tasks, ShareLimits::new(self.limits.tasks), more);
        let result = self.unless_killed(ledger.submit_all(calls)).await?;
        match &result {
            Ok(ids) => {
                assert!(admitted, "{caller} has more than its share");
                self.note(&format!("{caller} submits {ids:?}"));
                self.record.reached("a task is submitted");
                for id in ids {
                    self.promises.submitted(Uuid::try_parse(id).expect("an id"));
                }
            }
            Err(fault) if fault.code == Code::BUSY => {
                let has_room = self.limits.bytes == Limits::default().bytes;
                assert!(!admitted || !has_room, "{caller} is refused within its share: {fault}");
                self.record.reached("a task is refused, as the ledger or a share of it is full");
            }
            Err(fault) => assert!(is_unknown(fault), "{fault}"),
        }
        Some(result)
    }

    /// Returns whether the rule of shares allows a caller to keep more.
    fn admits(&self, caller: &CallerKey, kept: Kept, limits: ShareLimits, more: u64) -> bool {
        let held = self.store.holdings().held(kept);
        let name = caller.to_string();
        let own = held.iter().find(|(other, _)| *other == name).map_or(0, |(_, held)| held.count);
        limits.admits(held.iter().map(|(_, held)| held.count).sum(), own, more)
    }

    async fn submit_with_key(&mut self) {
        let (caller, key, variant) = (self.any_caller(), format!("key{}", self.below(6)), self.below(2));
        let user = user_of(&caller);
        let row = (user.clone(), key.clone());
        // After a kill of the ledger the user does not know whether the task is stored, and submits it again.
        for _ in 0..4 {
            let known = self.keys.get(&row).copied().filter(|(id, _)| !self.promises.is_forgotten(*id));
            let options = Options { key: Some(key.clone()), ..self.any_options() };
            let params = Some(json!(["key", variant]));
            let submitted = self.ledger_of(caller.clone());
            let submitted = submitted.submit(PLAIN.to_owned(), "use".to_owned(), params, Some(options));
            let Some(result) = self.unless_killed(submitted).await else { continue };
            match (known, result) {
                (Some((id, first)), Ok(again)) => {
                    assert_eq!((first, id.simple().to_string()), (variant, again), "{row:?}");
                    self.record.reached("a task is submitted again by its key");
                }
                (Some((_, first)), Err(fault)) => {
                    assert!(first != variant && fault.code == Code::IDENTITY_REUSED, "{row:?}: {fault}");
                    self.record.reached("another call by the same key is refused");
                }
                (None, Ok(id)) => {
                    let id = Uuid::try_parse(&id).expect("an id");
                    self.promises.submitted(id);
                    self.keys.insert(row, (id, variant));
                }
                (None, Err(fault)) => assert_eq!(fault.code, Code::BUSY, "{row:?}: {fault}"),
            }
            return;
        }
    }

    async fn cancel_any(&mut self) {
        let is_running = self.below(2) == 0;
        let Some(task) = self.any_task(|task| !is_running || task.state == State::Running) else { return };
        let caller = self.any_caller();
        if user_of(&caller) != task.user {
            let refused = self.unless_killed(self.ledger_of(caller).cancel(task.id.clone())).await;
            if let Some(refused) = refused {
                assert!(is_unknown(&refused.expect_err("it is somebody else's")));
                self.record.reached("somebody else's task is not cancelled");
            }
            return;
        }
        let id = task.uuid();
        let number = {
            let state = self.objects.state.lock();
            state.calls.iter().find(|(_, call)| call.task.id == task.id).map(|(number, _)| *number)
        };
        self.promises.touched(id);
        self.note(&format!("cancel {id}"));
        // Whether two simultaneous writes share a commit does not depend on the seed.
        let meets_answer = !self.is_doomed() && self.happens(self.odds.answer_meets_cancel);
        if let Some(number) = number.filter(|_| meets_answer) {
            self.answer_unseen(number);
        }
        let ledger = self.ledger_of(caller);
        let Some(cancelled) = self.unless_killed(ledger.cancel(task.id.clone())).await else { return };
        let is_cancelled = cancelled.expect("an answer");
        assert_eq!(is_cancelled, is_open(&task), "{task:?}");
        if is_cancelled {
            self.record.reached("a task is cancelled");
            self.promises.cancelled(id);
        }
        // The task may be retried before its run has ended.
        if is_cancelled && self.below(4) == 0 {
            self.record.reached("a task is taken up again at once");
            self.retry(&task).await;
        }
        if let Some(number) = number.filter(|number| self.runs.contains_key(number)) {
            if !self.run_ends(number).await {
                return;
            }
            let is_told = self.objects.state.lock().cancelled.contains(&task.identity());
            assert!(is_told || meets_answer, "nobody is told that {id} was cancelled");
            self.record.reached("a run is told to stop");
        }
        self.promises.look_at(&self.task(&task.id));
    }

    /// Delivers an answer that the run has not handled yet.
    fn answer_unseen(&mut self, number: u64) {
        let call = self.objects.state.lock().calls.remove(&number).expect("a call");
        let (identity, secret) = (call.task.identity(), call.task.object == SECRET);
        let outcome = Ok(Content::Value(json!(identity.to_string())));
        let answer =
            Ok(Response { outcome, node: call.task.node.clone().map(Into::into), repeated: false, secret });
        self.promises.answered(&call.task, &answer);
        self.record.reached("an answer comes in the moment in which its task is cancelled");
        assert!(call.answer.send(answer).is_ok(), "its run waits");
    }

    async fn retry_any(&mut self) {
        let wants_ended = self.below(4) > 0;
        if let Some(task) = self.any_task(|task| !wants_ended || !is_open(task)) {
            self.retry(&task).await;
            if let Some(task) = self.store.get(task.uuid()).expect("read") {
                self.promises.look_at(&task);
            }
        }
    }

    /// Retries a task, as an admin.
    async fn retry(&mut self, task: &Task) {
        let state = self.task(&task.id).state;
        self.promises.touched(task.uuid());
        let admin = self.ledger_of(CallerKey::User("root".parse().expect("a name")));
        let Some(taken_up) = self.unless_killed(admin.retry(task.id.clone())).await else { return };
        let taken_up = taken_up.expect("an answer");
        assert_eq!(taken_up, state.is_ended() && state != State::Succeeded, "it is {state:?}");
        if taken_up {
            self.note(&format!("retry {}", task.id));
            self.record.reached("a task is taken up again");
            self.promises.taken_up(task.uuid());
        }
    }

    async fn read_any(&mut self) {
        let Some(task) = self.any_task(|_| true) else { return };
        let is_admin = self.below(5) == 0;
        let caller =
            if is_admin { CallerKey::User("root".parse().expect("a name")) } else { self.any_caller() };
        let ledger = self.ledger_of(caller.clone());
        let Some(read) = self.unless_killed(ledger.get(task.id.clone())).await else { return };
        let is_owner = user_of(&caller) == task.user;
        match read {
            Ok(read) => {
                assert!(is_owner || is_admin, "{caller} reads a task of {:?}", task.user);
                assert!(read.owner.is_none() && read.correlation.is_none(), "it is told to nobody");
                assert_eq!((read.state, read.runs), (task.state, task.runs));
                if is_owner {
                    self.promises.told_to_owner(&read);
                } else {
                    assert!(!read.secret || read.result.is_none(), "a secret is told to an admin");
                }
                self.record.reached("a task is read");
            }
            Err(fault) => {
                assert!(is_unknown(&fault) && !is_owner && !is_admin, "{caller}: {fault}");
                self.record.reached("somebody else's task is not read");
            }
        }
    }

    async fn list_all(&mut self) {
        let caller = self.any_caller();
        let user = user_of(&caller);
        let ledger = self.ledger_of(caller);
        let Some(listed) = self.unless_killed(ledger.list(None, None)).await else { return };
        let listed: Vec<String> = listed.expect("a list").into_iter().map(|summary| summary.id).collect();
        let own = self.store.list(None, 200, |task| task.user == user).expect("read");
        assert_eq!(listed, own.into_iter().map(|task| task.id).collect::<Vec<_>>(), "the tasks of {user:?}");
        self.record.reached("tasks are listed");
    }

    fn wait_for_any(&mut self) {
        if let Some(task) = self.any_task(is_open) {
            let ended = self.ledger.shared.ended(&task);
            self.promises.waits(task.uuid(), ended);
        }
    }

    async fn make_schedule(&mut self) {
        let (caller, name, mark) = (self.any_caller(), format!("s{}", self.below(3)), self.mark());
        let cron = CRONS[self.below(CRONS.len() as u64) as usize].to_owned();
        let timing = Timing { cron, zone: "Europe/Berlin".to_owned(), overlap: self.below(2) == 0 };
        let options = Options { at_ms: None, delay_ms: self.below(20_000), ..self.any_options() };
        let (object, params) = (self.any_object().to_owned(), Some(json!(["schedule", mark])));
        let row = Schedule::row(user_of(&caller).as_deref(), &name);
        let is_known = self.store.scheduled(&row).expect("read").is_some();
        let limits = ShareLimits::new(self.limits.schedules);
        let admitted = is_known || self.admits(&caller, Kept::Schedules, limits, 1);
        let ledger = self.ledger_of(caller);
        let made = ledger.schedule(name, timing, object, "use".to_owned(), params, Some(options));
        let Some(made) = self.unless_killed(made).await else { return };
        assert_eq!(made.is_ok(), admitted, "{made:?}");
        self.note(&format!("schedule {row}"));
        self.record.reached(match made {
            Ok(_) if is_known => "a schedule is replaced",
            Ok(_) => "a schedule is made",
            Err(_) => "a schedule is refused",
        });
    }

    async fn end_schedule(&mut self) {
        let schedules = self.store.schedules("", usize::MAX, |_| true).expect("read");
        if schedules.is_empty() {
            return;
        }
        let schedule = &schedules[self.below(schedules.len() as u64) as usize];
        let name = format!("{}/{}", schedule.user.clone().unwrap_or_default(), schedule.name);
        let admin = self.ledger_of(CallerKey::User("root".parse().expect("a name")));
        if let Some(ended) = self.unless_killed(admin.unschedule(name)).await {
            assert!(ended.expect("an answer"), "it was there: {schedule:?}");
            self.record.reached("a schedule is ended");
        }
    }

    /// Removes all schedules, and makes all nodes available.
    pub(super) async fn calm(&mut self) {
        self.note("nothing is disturbed any more");
        self.end_disturbances();
        while !self.store.schedules("", 1, |_| true).expect("read").is_empty() {
            self.end_schedule().await;
        }
        for node in NODES {
            self.node_comes_back(node);
        }
    }

    /// Checks what must be true at the end.
    pub(super) fn check_end(&mut self) {
        self.promises.check_end(&self.store, self.clock.now_ms());
    }

    async fn forget(&mut self) {
        self.check();
        self.promises.forgets(&self.store);
        let executor = self.executor.clone();
        if self.unless_killed(executor.forget()).await.is_some() {
            self.check();
        }
    }
}
