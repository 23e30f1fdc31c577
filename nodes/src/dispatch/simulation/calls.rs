//! Calls, and the promises of the dispatcher for each of them.

use std::time::Duration;

use bytes::Bytes;
use rantai_client::session::{Publish, QoS};
use rantai_client::wire::Properties;
use rantai_client::wire::stream::{has_more, part_bytes, part_offset};
use serde_json::Value;
use tokio::time::Instant;

use super::node::NODE;
use super::work::{Run, item};

/// Tolerance for the end of a call.
pub(super) const GRACE: Duration = Duration::from_millis(5);
/// Tolerance for the end of a stream that follows retransmitted parts.
const RESENT: Duration = Duration::from_millis(260);
/// Time within which the result of a method marked `once` must be on disk.
const WRITTEN: Duration = Duration::from_secs(1);

const BUSY: &str = "-32005";
const LOST_OBJECT: &str = "-32004";
const CANCELLED: &str = "-32008";
const IDENTITY_REUSED: &str = "-32014";
const MISMATCH: &str = "-32015";

/// Call, with its state in the present life of the node.
#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) object: &'static str,
    pub(super) method: &'static str,
    pub(super) params: Value,
    pub(super) correlation: Vec<u8>,
    pub(super) caller: String,
    pub(super) qos: QoS,
    pub(super) is_oneway: bool,
    /// Initial credit of its stream; `None` if it accepts none.
    pub(super) stream: Option<u64>,
    pub(super) deadline: Instant,
    /// Result of a method marked `once` that an earlier life of the node has sent.
    pub(super) value_before: Option<Bytes>,
    pub(super) life: LifeRecord,
}

/// Replies to a call in one life of the node.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is something of its own that has happened or not")]
pub(super) struct LifeRecord {
    /// Number of messages that may have been answered.
    pub(super) deliveries: u64,
    /// Time of the first of them.
    pub(super) first_delivery: Option<Instant>,
    pub(super) answers: u64,
    /// Status and payload of its reply, if that is not a refusal.
    pub(super) outcome: Option<(String, Bytes)>,
    pub(super) is_refused: bool,
    /// Time of its cancellation.
    pub(super) cancelled: Option<Instant>,
    /// Whether the node has ended calls, or was told that nobody waits for replies to its caller.
    pub(super) may_end: bool,
    pub(super) forwarded: u64,
    /// Deadline of a stream, which `rpc.more` extends.
    pub(super) until: Option<Instant>,
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) credit: u64,
    pub(super) parts: u64,
    /// Whether the send queue was too long for streams, which then wait.
    pub(super) is_paused: bool,
    /// Whether a retransmission of parts was requested.
    pub(super) is_repeated: bool,
}

impl CallRecord {
    pub(super) fn is_once(&self) -> bool {
        self.method.starts_with("put")
    }

    /// Returns whether its end follows retransmitted parts, for which the send queue was too long.
    fn waits_for_queue(&self) -> bool {
        self.stream.is_some() && self.life.is_repeated && self.life.is_paused
    }

    /// Returns the tolerance for its end, which includes retransmitted parts that a stream waits for.
    fn slack(&self) -> Duration {
        if self.stream.is_some() && self.life.is_repeated { RESENT } else { GRACE }
    }

    pub(super) fn reply_topic(&self) -> String {
        format!("rantai/reply/{}/{}", self.object, self.caller)
    }

    /// Returns its deadline at the node.
    pub(super) fn until(&self) -> Instant {
        self.life.until.map_or(self.deadline, |until| until.max(self.deadline))
    }

    /// Builds its request, with the remaining time.
    pub(super) fn request(&self) -> Publish {
        let mut properties = self.properties(self.left_ms());
        if self.is_oneway {
            properties.user.push(("oneway", "1"));
        }
        if let Some(credit) = self.stream {
            properties.user.push(("stream", credit.to_string()));
        }
        let topic = format!("rantai/call/{}/{}", self.object, self.method);
        Publish::new(topic, self.params.to_string()).properties(properties).qos(self.qos)
    }

    /// Builds a request of a built-in method about it, with its reply topic.
    pub(super) fn about(&self, method: &str, params: &Value, correlation: &[u8], ttl_ms: u64) -> Publish {
        let topic = format!("rantai/at/{NODE}/{}/{method}", self.object);
        let mut properties = self.properties(ttl_ms);
        properties.correlation = Some(correlation.to_vec().into());
        Publish::new(topic, params.to_string()).properties(properties)
    }

    pub(super) fn left_ms(&self) -> u64 {
        self.deadline.saturating_duration_since(Instant::now()).as_millis() as u64
    }

    fn properties(&self, ttl_ms: u64) -> Properties {
        Properties {
            response_topic: Some(self.reply_topic().into()),
            correlation: Some(self.correlation.clone().into()),
            user: [("ttl_ms", ttl_ms.to_string())].into(),
            ..Properties::default()
        }
    }

    /// Handles that its node was killed: the next life knows only what is in the journal.
    pub(super) fn node_was_killed(&mut self) {
        let outcome = self.life.outcome.take().filter(|(status, _)| self.is_once() && status == "ok");
        self.value_before = self.value_before.take().or(outcome.map(|(_, value)| value));
        self.life = LifeRecord::default();
    }

    /// Checks a message of the dispatcher on its reply topic. Returns the state that this reaches.
    pub(super) fn answered(
        &mut self,
        publish: &Publish,
        at: Instant,
        runs: &[Run],
        life: u64,
    ) -> &'static str {
        let status = publish.properties.user("status").unwrap_or_default().to_owned();
        if has_more(&publish.properties) {
            return self.part(publish);
        }
        let is_refusal = matches!(&*status, BUSY | IDENTITY_REUSED | MISMATCH);
        self.life.answers += 1;
        let end_again = self.life.is_repeated && self.life.parts > 0;
        assert!(
            self.life.answers <= self.life.deliveries || end_again,
            "{} answers to {} messages: {self:?}",
            self.life.answers,
            self.life.deliveries
        );
        assert!(!self.is_oneway, "nobody waits for an answer: {self:?}");
        let is_running = runs.iter().any(|run| run.life == life && run.ended.is_none());
        if is_refusal {
            self.life.is_refused = true;
            if status == BUSY {
                let is_known = self.life.outcome.is_some() || is_running;
                assert!(!is_known, "a repeat is told busy, though its call was carried out: {self:?}");
                return "a call is told busy";
            }
            return "a repeat is refused";
        }
        if let Some((first_status, first)) = &self.life.outcome {
            assert_eq!((&status, &publish.payload), (first_status, first), "another answer: {self:?}");
            return "a repeat gets the same answer";
        }
        let is_late = at > self.until() + self.slack() && !self.waits_for_queue();
        assert!(!is_late, "it is answered after its deadline: {self:?}");
        assert!(
            self.life.cancelled.is_none() || status == CANCELLED,
            "{status}, and it was cancelled: {self:?}"
        );
        let may_end = self.life.cancelled.is_some() || self.life.may_end;
        assert!(may_end || !matches!(&*status, CANCELLED | LOST_OBJECT), "{status}: {self:?}");
        if let Some(from) = part_offset(&publish.properties) {
            assert_eq!(from, self.life.items, "the end of a stream leaves a gap: {self:?}");
        }
        if status == "ok" {
            self.check_value(&publish.payload, runs);
        }
        self.life.outcome = Some((status.clone(), publish.payload.clone()));
        match &*status {
            "ok" if self.life.parts > 0 => "a stream ends",
            "ok" => "a call succeeds",
            CANCELLED => "a call is cancelled",
            LOST_OBJECT => "a call ends with its node",
            "-32002" => "a call runs longer than it may",
            "-32010" => "the next object of a chain is not there",
            _ => "a call fails",
        }
    }

    /// Checks that a result belongs to a run of this call, or is all items of its stream.
    fn check_value(&mut self, payload: &Bytes, runs: &[Run]) {
        if self.method == "items" {
            self.take_items(payload);
            let count = self.params[0].as_u64().expect("a number");
            assert_eq!(self.life.items, count, "items are missing: {self:?}");
            return;
        }
        let value: Value = serde_json::from_slice(payload).expect("JSON");
        let number = value["run"].as_u64().expect("it says which run it is of") as usize;
        assert!(runs.iter().any(|run| run.number == number), "the result of another call: {self:?}");
        if let Some(before) = &self.value_before {
            assert_eq!(before, payload, "another result than before its node was killed: {self:?}");
        }
    }

    /// Checks a part of its stream.
    fn part(&mut self, publish: &Publish) -> &'static str {
        let from = part_offset(&publish.properties).expect("its offset");
        assert!(self.stream.is_some(), "parts for a caller that takes none: {self:?}");
        assert!(from <= self.life.items, "items {}..{from} are missing: {self:?}", self.life.items);
        if from < self.life.items || (from == 0 && self.life.parts > 0 && publish.payload.len() <= 2) {
            assert!(self.life.is_repeated, "parts come again, and nobody has asked for that: {self:?}");
            return "parts of a stream come again";
        }
        assert!(self.life.outcome.is_none(), "a part after the end: {self:?}");
        assert!(
            self.life.bytes < self.life.credit,
            "{} bytes, and {} were granted: {self:?}",
            self.life.bytes,
            self.life.credit
        );
        self.life.bytes += part_bytes(&publish.payload);
        self.life.parts += 1;
        self.take_items(&publish.payload);
        "a part of a stream comes"
    }

    fn take_items(&mut self, payload: &Bytes) {
        let items: Vec<Value> = serde_json::from_slice(payload).expect("a list");
        let bytes = self.params[1].as_u64().expect("a number") as usize;
        for found in items {
            assert_eq!(found, item(self.life.items, bytes), "item {}: {self:?}", self.life.items);
            self.life.items += 1;
        }
    }

    /// Checks what must be true after its deadline.
    pub(super) fn check_over(&self, runs: &[Run], life: u64, disk_fails: bool) {
        let here: Vec<_> = runs.iter().filter(|run| run.life == life).collect();
        assert!(here.len() <= 1 || self.is_oneway, "it was carried out twice: {self:?}, {runs:?}");
        assert!(
            !self.is_once() || runs.len() <= 1,
            "a `once` method was carried out twice: {self:?}, {runs:?}"
        );
        assert!(here.iter().all(|run| run.ended.is_some()), "it goes on after its deadline: {self:?}");
        let Some(first) = self.life.first_delivery else { return };
        let is_answered = self.life.outcome.is_some() || self.life.is_refused || self.life.forwarded > 0;
        if is_answered || self.is_oneway || self.waits_for_queue() {
            return;
        }
        let until = self.until();
        let Some(run) = here.first() else {
            // Its beginning was not on disk in time.
            let is_pending = self.is_once() && (disk_fails || until.duration_since(first) < WRITTEN);
            assert!(is_pending, "it was neither carried out nor refused: {self:?}");
            return;
        };
        match run.completed {
            Some(completed) if self.is_once() => {
                assert!(
                    disk_fails || completed + WRITTEN > until,
                    "it has a result, and no answer: {self:?}"
                );
            }
            Some(completed) => {
                assert!(completed + self.slack() >= until, "it has a result, and no answer: {self:?}");
            }
            None => {
                let ended = run.ended.expect("it has ended");
                assert!(
                    ended + self.slack() >= until,
                    "it was ended before its time, without an answer: {self:?}"
                );
            }
        }
        let is_late = self.life.cancelled.is_none_or(|cancelled| cancelled + self.slack() >= until);
        assert!(is_late, "it was cancelled, and has no answer: {self:?}");
    }
}
