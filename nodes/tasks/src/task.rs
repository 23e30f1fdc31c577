//! Tasks and their states.

use std::time::Duration;

use rantai_client::object::Progress;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json;
use rantai_client::wire::name::{MethodName, ObjectName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::after;
use super::options::{MAX_BACKOFF_MS, Options};
use super::owner::Owner;

/// Maximum size of parameters, in bytes of JSON.
pub(crate) const MAX_PARAMS_BYTES: usize = 256 << 10;
/// Maximum nesting of parameters and results; the task that contains them is one level more.
pub(crate) const MAX_DEPTH: usize = json::MAX_DEPTH - 1;

/// Member that replaces parameters by a raw payload: `{"$payload": TEXT}` is sent as TEXT. It allows passing `null` as
/// text to a method with one parameter, where a bare `null` would stand for no parameters.
pub const PAYLOAD: &str = "$payload";

/// State of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waiting for its time, for its object, or for its dependencies.
    Queued,
    /// Called now, or called when the ledger ended.
    Running,
    /// Failed, and waiting to be called again.
    Retrying,
    /// Ended with a result.
    Succeeded,
    /// Failed permanently.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// Not executed before its expiry.
    Expired,
}

impl State {
    /// Returns whether the state is final.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired)
    }
}

/// Stored call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Id: a UUID in 32 hexadecimal digits.
    pub id: String,
    /// Object to call.
    pub object: String,
    /// Method to call.
    pub method: String,
    /// Parameters, as in a request.
    pub params: Value,
    /// Retries, times, priority and dependencies, as submitted.
    pub options: Options,
    /// State of the task.
    pub state: State,
    /// Time of the submission, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// Time of the next call, in milliseconds since 1970.
    pub due_ms: u64,
    /// Time of the end, in milliseconds since 1970.
    pub ended_ms: Option<u64>,
    /// Number of runs; a call that reached no object does not count.
    pub runs: u32,
    /// Number of runs before the latest retry by a user.
    pub forgiven: u32,
    /// Node that executes the task, or has executed it.
    pub node: Option<String>,
    /// Number of repeated calls that the object recognized as such, and did not execute again.
    pub repeats: u32,
    /// Result.
    pub result: Option<Value>,
    /// Error of the latest failed run.
    pub error: Option<Value>,
    /// User that the task belongs to; `None` if it was submitted by a client without a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether the result is secret: it is returned once, and is not stored on disk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Schedule that has created the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Whether the parameters contain the results of the dependencies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fed: bool,
    /// Parameters as submitted, if they now contain results of dependencies, and a later submission with the same key
    /// must be compared with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_params: Option<Value>,
    /// Reason why the task is not called although it may be due: no node serves its object. Not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// Progress of the current run. Not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Share that it counts against. Stored on disk, and never returned to callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub(crate) owner: Option<Owner>,
    /// Identity of the current run, in 32 hexadecimal digits. Stored on disk, and sent only to the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub(crate) correlation: Option<String>,
}

impl Task {
    /// Checks the arguments, and creates a task with a new `id`; `now` is in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// The call or its options are not valid.
    pub(crate) fn new(
        id: Uuid,
        object: &str,
        method: &str,
        params: Value,
        options: Options,
        now: u64,
    ) -> Result<Self, Fault> {
        ObjectName::new(object).map_err(|error| wrong_name("object", &error))?;
        MethodName::new(method).map_err(|error| wrong_name("method", &error))?;
        check_method(method)?;
        options.check()?;
        after::check(&params, options.after.len())?;
        if params.to_string().len() > MAX_PARAMS_BYTES {
            return Err(Fault::too_large(MAX_PARAMS_BYTES));
        }
        let due_ms = (now + options.delay_ms).max(options.at_ms.unwrap_or(0));
        Ok(Self {
            id: id.simple().to_string(),
            object: object.to_owned(),
            method: method.to_owned(),
            params,
            options,
            state: State::Queued,
            submitted_ms: now,
            due_ms,
            ended_ms: None,
            runs: 0,
            forgiven: 0,
            node: None,
            repeats: 0,
            result: None,
            error: None,
            user: None,
            secret: false,
            schedule: None,
            fed: false,
            submitted_params: None,
            waits: None,
            progress: None,
            owner: None,
            correlation: None,
        })
    }

    /// Returns the id as a UUID.
    pub(crate) fn uuid(&self) -> Uuid {
        Uuid::try_parse(&self.id).unwrap_or_default()
    }

    /// Begins a new run. Each run has its own `correlation`, because an object that has the reply to another run would
    /// send that one again. It is random and secret, because a client that knows it could reply in place of the object.
    pub(crate) fn begin_run(&mut self, correlation: Uuid) {
        (self.state, self.runs) = (State::Running, self.runs + 1);
        self.correlation = Some(correlation.simple().to_string());
    }

    /// Returns the identity of the current run. For a run begun by an earlier version, that is the id of the task plus
    /// the number of earlier runs.
    pub(crate) fn identity(&self) -> Uuid {
        let kept = self.correlation.as_deref().and_then(|kept| Uuid::try_parse(kept).ok());
        let counted = || self.uuid().as_u128().wrapping_add(u128::from(self.runs.saturating_sub(1)));
        kept.unwrap_or_else(|| Uuid::from_u128(counted()))
    }

    pub(crate) fn expires_ms(&self) -> Option<u64> {
        self.options.expires_ms.map(|time| self.submitted_ms + time)
    }

    /// Returns the ids of the dependencies.
    pub(crate) fn before(&self) -> impl ExactSizeIterator<Item = Uuid> {
        self.options.after.iter().map(|id| Uuid::try_parse(id).unwrap_or_default())
    }

    /// Sets the parameters that contain the results of the dependencies.
    pub(crate) fn feed(&mut self, params: Value) {
        let submitted = std::mem::replace(&mut self.params, params);
        self.submitted_params = self.options.key.is_some().then_some(submitted);
        self.fed = true;
    }

    /// Returns the raw payload of the call, if there is one in place of parameters.
    pub(crate) fn payload(&self) -> Option<&str> {
        let members = self.params.as_object().filter(|members| members.len() == 1)?;
        members.get(PAYLOAD)?.as_str()
    }

    /// Returns whether `other` was submitted with the same object, method and parameters, and, if the parameters refer to
    /// results of other tasks, with the same dependencies. Other options may differ.
    pub(crate) fn is_same_call(&self, other: &Self) -> bool {
        let params = match &self.submitted_params {
            Some(submitted) => submitted,
            // Fed by an earlier version: the submitted parameters are not known.
            None if self.fed => &other.params,
            None => &self.params,
        };
        (&self.object, &self.method) == (&other.object, &other.method)
            && given(params) == given(&other.params)
            && (self.options.after == other.options.after || !after::refers(&other.params))
    }

    pub(crate) fn end(&mut self, state: State, now: u64) {
        self.state = state;
        self.ended_ms = Some(now);
    }

    /// Queues an ended task again, on request.
    pub(crate) fn take_up(&mut self, now: u64) {
        (self.state, self.ended_ms, self.due_ms) = (State::Queued, None, now);
        self.forgiven = self.runs;
        self.options.expires_ms = None;
    }

    /// Records a failed run, and decides about a retry. `chance` from 0 to 1 scales its delay.
    pub(crate) fn failed(&mut self, fault: &Fault, now: u64, chance: f64) {
        self.error = serde_json::to_value(fault).ok();
        let tries = self.runs.saturating_sub(self.forgiven);
        let again = tries <= self.options.retries && may_succeed_later(fault);
        if !again {
            return self.end(State::Failed, now);
        }
        let most = self.options.backoff_ms.saturating_mul(1 << (tries - 1).min(31)).min(MAX_BACKOFF_MS);
        self.state = State::Retrying;
        self.due_ms = now + Duration::from_millis(most).mul_f64(chance).as_millis() as u64;
    }
}

/// Refuses the built-in methods of objects, such as `rpc.cancel`: the ledger must not call them on behalf of others.
pub(crate) fn check_method(method: &str) -> Result<(), Fault> {
    if !method.starts_with("rpc.") {
        return Ok(());
    }
    let text = format!("cannot store a call of {method}: it is built in; call the object itself");
    Err(Fault::new(Code::DENIED, text))
}

/// Returns the error (-32602) of a name; `error` says what is allowed.
fn wrong_name(path: &str, error: &dyn std::error::Error) -> Fault {
    let expected = error.to_string();
    Fault::new(Code::WRONG_PARAMETERS, format!("{path}: {expected}"))
        .with("path", path)
        .with("expected", expected)
}

/// Normalizes parameters for comparison: empty ones become null, and numbers are as on the bus.
fn given(params: &Value) -> Value {
    let none = match params {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    if none { Value::Null } else { json::portable(params.clone()) }
}

/// Returns whether a retry may succeed: not if the call itself is wrong.
fn may_succeed_later(fault: &Fault) -> bool {
    fault.is_retryable()
        || matches!(fault.code, Code::FAILED | Code::BROKEN_OBJECT | Code::TIMED_OUT | Code::CANCELLED)
            && fault.data.get("kind").is_none_or(|kind| kind != "outcome_unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn task(options: Options) -> Task {
        Task::new(Uuid::now_v7(), "pages", "add", json!([1, 2]), options, 1_000).expect("a task")
    }

    #[test]
    fn options_are_checked() {
        let refused =
            |options: Options| Task::new(Uuid::now_v7(), "pages", "add", json!(null), options, 0).is_err();
        assert!(refused(Options { retries: 1_001, ..Options::default() }));
        assert!(refused(Options { timeout_ms: 0, ..Options::default() }));
        assert!(refused(Options { priority: 10, ..Options::default() }));
        assert!(refused(Options { key: Some(String::new()), ..Options::default() }));
        assert!(refused(Options { expires_ms: Some(0), ..Options::default() }));
        assert!(Task::new(Uuid::now_v7(), "a b", "add", json!(null), Options::default(), 0).is_err());
        assert!(Task::new(Uuid::now_v7(), "pages", "", json!(null), Options::default(), 0).is_err());
        assert!(
            Task::new(Uuid::now_v7(), "pages", "add", json!("x".repeat(300_000)), Options::default(), 0)
                .is_err()
        );
        assert_eq!(task(Options { delay_ms: 500, ..Options::default() }).due_ms, 1_500);
        assert_eq!(task(Options { delay_ms: 500, at_ms: Some(9_000), ..Options::default() }).due_ms, 9_000);
    }

    #[test]
    fn retries_wait_longer_each_time_and_end() {
        let mut task = task(Options { retries: 3, ..Options::default() });
        let fault = Fault::failed("no_paper", "the printer has none");
        for (run, wait) in [(1, 1_000), (2, 2_000), (3, 4_000)] {
            task.runs = run;
            task.failed(&fault, 0, 1.0);
            assert_eq!((task.state, task.due_ms), (State::Retrying, wait));
        }
        task.runs = 4;
        task.failed(&fault, 7, 1.0);
        assert_eq!((task.state, task.ended_ms), (State::Failed, Some(7)));
        let mut wrong = self::task(Options { retries: 3, ..Options::default() });
        wrong.runs = 1;
        wrong.failed(&Fault::wrong_parameter("x", "a number"), 0, 1.0);
        assert_eq!(wrong.state, State::Failed, "it would be as wrong the next time");
        let mut long = self::task(Options { retries: 1_000, ..Options::default() });
        long.runs = 900;
        long.failed(&fault, 0, 1.0);
        assert_eq!(long.due_ms, MAX_BACKOFF_MS);
    }

    #[test]
    fn payload_is_the_single_string_member_of_an_object() {
        let payload =
            |params: Value| Task { params, ..task(Options::default()) }.payload().map(str::to_owned);
        assert_eq!(payload(json!({"$payload": "null"})).as_deref(), Some("null"));
        for params in [json!({"$payload": null}), json!({"$payload": "null", "a": 1}), json!(["$payload"])] {
            assert_eq!(payload(params), None);
        }
    }

    #[test]
    fn calls_are_equal_by_object_method_and_parameters() {
        let call = |object: &str, method: &str, params: Value, retries: u32| {
            let options = Options { retries, key: Some("k".to_owned()), ..Options::default() };
            Task::new(Uuid::now_v7(), object, method, params, options, 1_000).expect("a task")
        };
        let first = call("pages", "add", json!([4, {"a": 1, "b": 2}]), 0);
        for (object, method, params, same) in [
            ("pages", "add", json!([4, {"b": 2, "a": 1}]), true),
            ("pages", "add", json!([4.0, {"a": 1, "b": 2}]), true),
            ("pages", "add", json!([5, {"a": 1, "b": 2}]), false),
            ("pages", "add", json!(null), false),
            ("pages", "sub", json!([4, {"a": 1, "b": 2}]), false),
            ("books", "add", json!([4, {"a": 1, "b": 2}]), false),
        ] {
            let other = call(object, method, params, 3);
            assert_eq!((first.is_same_call(&other), other.is_same_call(&first)), (same, same), "{other:?}");
        }
        let none = call("pages", "add", json!(null), 0);
        assert!(
            [json!([]), json!({})]
                .into_iter()
                .all(|none_too| none.is_same_call(&call("pages", "add", none_too, 0)))
        );
        assert!(!none.is_same_call(&call("pages", "add", json!([null]), 0)));
        let mut fed = call("pages", "add", json!([{"$result": 0}]), 0);
        fed.feed(json!([7]));
        assert_eq!(fed.params, json!([7]));
        assert!(fed.is_same_call(&call("pages", "add", json!([{"$result": 0}]), 0)));
        assert!(!fed.is_same_call(&call("pages", "add", json!([7]), 0)));
        // Results of different dependencies count as different parameters.
        let after = |params: Value, before: u128| {
            let after = vec![Uuid::from_u128(before).to_string()];
            let options = Options { after, key: Some("k".to_owned()), ..Options::default() };
            Task::new(Uuid::now_v7(), "pages", "add", params, options, 1_000).expect("a task")
        };
        for (params, same) in [
            (json!([{"$result": 0}]), false),
            (json!({"a": [{"$outcome": "all"}]}), false),
            (json!([4]), true),
        ] {
            let mut first = after(params.clone(), 1);
            assert!(first.is_same_call(&after(params.clone(), 1)));
            assert_eq!(first.is_same_call(&after(params.clone(), 2)), same, "{params}");
            first.feed(json!([7]));
            assert_eq!(first.is_same_call(&after(params.clone(), 2)), same, "{params}");
        }
    }

    #[test]
    fn every_run_has_its_own_identity() {
        let mut task = task(Options::default());
        let [first, second] = [Uuid::new_v4(), Uuid::new_v4()];
        task.begin_run(first);
        assert_eq!((task.identity(), task.runs), (first, 1));
        task.begin_run(second);
        assert_eq!((task.identity(), task.runs), (second, 2));
    }

    #[test]
    fn identity_of_a_run_of_an_earlier_version_is_derived() {
        let mut task = task(Options::default());
        task.runs = 1;
        assert_eq!(task.identity(), task.uuid());
        task.runs = 2;
        assert_eq!(task.identity().as_u128(), task.uuid().as_u128() + 1);
    }

    #[test]
    fn built_in_methods_are_refused() {
        for method in ["rpc.yield", "rpc.cancel", "rpc.ping", "rpc.anything"] {
            let refused = Task::new(Uuid::now_v7(), "pages", method, json!(null), Options::default(), 0);
            let fault = refused.expect_err(method);
            assert!(fault.code == Code::DENIED && fault.message.contains(method), "{fault}");
        }
    }
}
