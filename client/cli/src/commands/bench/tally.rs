//! Results of the calls of a run.

use std::collections::BTreeMap;

use rantai_client::CallError;
use rantai_client::session::Unsent;
use rantai_client::wire::fault::{Code, Fault};
use rantai_load::latencies::Latencies;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Maximum number of kinds of errors, and of nodes, that are counted separately; all others are counted together.
const MAX_KINDS: usize = 32;
const OTHER: &str = "other";
/// Maximum length of an error's text that is kept, in characters.
const MAX_TEXT_CHARS: usize = 200;

/// Result of a call that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Node that answered.
    pub(super) node: Option<String>,
    /// Size of the data transferred, in bytes; 0 if it does not matter.
    pub(super) bytes: u64,
}

/// Error of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Kind of the error, one of a few words.
    pub(super) kind: String,
    /// Text for people.
    pub(super) text: String,
}

impl Problem {
    pub(super) fn new(kind: &str, text: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), text: text.into() }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            CallError::Fault(fault) => return (&**fault).into(),
            CallError::Lost => "lost",
            CallError::Unsent(error) => return error.into(),
            CallError::Name(_) => "wrong_name",
            CallError::Parameters(_) => "wrong_parameters",
            CallError::Result(_) => "wrong_result",
            _ => OTHER,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<&Fault> for Problem {
    fn from(fault: &Fault) -> Self {
        let kind = match fault.code {
            Code::NOT_JSON => "not_json",
            Code::NOT_A_REQUEST => "not_a_request",
            Code::NO_SUCH_METHOD => "no_such_method",
            Code::WRONG_PARAMETERS => "wrong_parameters",
            Code::BROKEN_OBJECT => "broken_object",
            Code::FAILED => "failed",
            Code::EXPIRED => "expired",
            Code::TIMED_OUT => "timed_out",
            Code::UNKNOWN_OBJECT => "unknown_object",
            Code::LOST_OBJECT => "lost_object",
            Code::BUSY => "busy",
            Code::DENIED => "denied",
            Code::TOO_LARGE => "too_large",
            Code::CANCELLED => "cancelled",
            Code::TRAIL_LIMIT => "trail_limit",
            Code::DEAD_HOP => "dead_hop",
            Code::NAME_TAKEN => "name_taken",
            Code::IDENTITY_REUSED => "identity_reused",
            Code::MISMATCH => "mismatch",
            Code(other) => return Self::new(&format!("code_{other}"), &fault.message),
        };
        Self::new(kind, &fault.message)
    }
}

impl From<&Unsent> for Problem {
    fn from(error: &Unsent) -> Self {
        let kind = match error {
            Unsent::NobodyThere => "nobody_there",
            Unsent::Busy => "busy",
            Unsent::Denied { .. } => "denied",
            Unsent::TooLarge { .. } => "too_large",
            Unsent::BadTopic(_) => "bad_topic",
            Unsent::Lost => "lost",
            Unsent::Offline => "offline",
            Unsent::Ended => "ended",
            _ => "refused",
        };
        Self::new(kind, error.to_string())
    }
}

/// Errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Errors {
    pub(super) count: u64,
    /// Text of the first error.
    pub(super) example: String,
}

/// Counts and latencies. Its size does not depend on the number of calls.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Latencies of calls that succeeded, from when they were due.
    pub(super) latencies: Latencies,
    /// Delays between when calls were due and when they began.
    pub(super) late: Latencies,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) bytes: u64,
    pub(super) errors: BTreeMap<String, Errors>,
    /// Number of calls answered by each node.
    pub(super) nodes: BTreeMap<String, u64>,
    pub(super) last_begun: Option<Instant>,
    pub(super) last_succeeded: Option<Instant>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            latencies: Latencies::new(),
            late: Latencies::new(),
            succeeded: 0,
            failed: 0,
            bytes: 0,
            errors: BTreeMap::new(),
            nodes: BTreeMap::new(),
            last_begun: None,
            last_succeeded: None,
        }
    }

    pub(super) fn begun(&mut self, due: Instant, begun: Instant) {
        self.late.record(begun.saturating_duration_since(due));
        self.last_begun = self.last_begun.max(Some(begun));
    }

    pub(super) fn ended(&mut self, due: Instant, ended: Instant, result: Result<Done, Problem>) {
        match result {
            Ok(Done { node, bytes }) => {
                self.succeeded += 1;
                self.bytes += bytes;
                self.latencies.record(ended.saturating_duration_since(due));
                self.last_succeeded = self.last_succeeded.max(Some(ended));
                if let Some(node) = node {
                    *place(&mut self.nodes, &node, || 0) += 1;
                }
            }
            Err(problem) => self.problem(&problem, 1),
        }
    }

    /// Counts `count` calls that failed with this error.
    pub(super) fn problem(&mut self, problem: &Problem, count: u64) {
        if count == 0 {
            return;
        }
        self.failed += count;
        // Texts from the bus must not control the terminal.
        let text = || problem.text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect();
        place(&mut self.errors, &problem.kind, || Errors { count: 0, example: text() }).count += count;
    }

    pub(super) fn errors_json(&self) -> Value {
        let errors = self.errors.iter().map(|(kind, Errors { count, example })| {
            (kind.clone(), json!({"count": count, "example": example}))
        });
        Value::Object(errors.collect())
    }
}

/// Returns the value of `key`, or that of all other keys if there are too many.
fn place<'a, T>(map: &'a mut BTreeMap<String, T>, key: &str, new: impl FnOnce() -> T) -> &'a mut T {
    let key = if map.contains_key(key) || map.len() < MAX_KINDS { key } else { OTHER };
    if !map.contains_key(key) {
        map.insert(key.to_owned(), new());
    }
    map.get_mut(key).expect("put there if it was not")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn latencies_count_successes_and_errors_keep_their_first_text() {
        let mut tally = Tally::new();
        let due = Instant::now();
        tally.begun(due, due + Duration::from_millis(3));
        tally.ended(due, due + Duration::from_millis(5), Ok(Done { node: Some("a".to_owned()), bytes: 7 }));
        for text in ["one\x1b[2J", "two"] {
            let failed = Err(Problem::new("busy", text));
            tally.ended(due, due + Duration::from_secs(9), failed);
        }
        assert_eq!((tally.succeeded, tally.failed, tally.bytes), (1, 2, 7));
        assert_eq!(tally.errors_json(), json!({"busy": {"count": 2, "example": "one[2J"}}));
        let summary = tally.latencies.summary().expect("one");
        assert!((summary.max / 5_000.0 - 1.0).abs() < 0.001, "failures are not in it: {summary:?}");
        assert!((tally.late.summary().expect("one").max / 3_000.0 - 1.0).abs() < 0.001);
        assert_eq!(tally.nodes, BTreeMap::from([("a".to_owned(), 1)]));
        assert_eq!(tally.last_succeeded, Some(due + Duration::from_millis(5)));
    }

    #[tokio::test]
    async fn tally_is_bounded_whatever_nodes_reply() {
        let mut tally = Tally::new();
        let now = Instant::now();
        for number in 0..10_000 {
            tally.problem(&Problem::new(&format!("code_{number}"), "x".repeat(100_000)), 1);
            tally.ended(now, now, Ok(Done { node: Some(number.to_string()), bytes: 0 }));
        }
        assert_eq!((tally.errors.len(), tally.nodes.len()), (MAX_KINDS + 1, MAX_KINDS + 1));
        assert!(tally.errors.values().all(|errors| errors.example.len() <= MAX_TEXT_CHARS));
        assert_eq!(tally.errors.values().map(|errors| errors.count).sum::<u64>(), 10_000);
        assert_eq!(tally.nodes[OTHER], 10_000 - MAX_KINDS as u64);
    }

    #[test]
    fn every_error_code_has_its_own_kind() {
        let kind = |code| Problem::from(&Fault::new(code, "")).kind;
        let kinds: HashSet<String> = Code::ALL.iter().map(|code| kind(*code)).collect();
        assert_eq!(kinds.len(), Code::ALL.len());
        assert!(kinds.iter().all(|kind| !kind.starts_with("code_")), "{kinds:?}");
        assert_eq!(kind(Code(-32_099)), "code_-32099");
    }
}
