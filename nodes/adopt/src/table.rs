//! Calls to one device: those that wait for it, and those that it has. Without I/O, and time comes in as a parameter.

use std::collections::BTreeMap;

use rantai_client::session::Unsent;
use rantai_client::shares::{CallerKey, ShareLimits};
use rantai_client::wire::device::DeviceState;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::ObjectName;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::answer;

/// Limits of one device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableLimits {
    /// Calls that the device has at one time.
    pub(crate) in_flight: usize,
    /// Bytes of the requests of all calls, shared among callers.
    pub(crate) bytes: u64,
    /// Bytes of an answer.
    pub(crate) answer: usize,
}

/// Whether the device is there, as far as the node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The node has not heard the state of the device on this connection yet.
    Unknown,
    /// It takes calls.
    Online,
    /// Calls wait for it.
    Asleep,
    /// It takes no calls, for this reason.
    Offline(String),
}

/// Call that is to wait for the device.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// JSON array of the parameters.
    pub(crate) params: String,
    /// When the caller is told that there was no answer.
    pub(crate) until: Instant,
    /// Whether the device may get it twice.
    pub(crate) is_repeatable: bool,
    pub(crate) caller: CallerKey,
}

/// Request to publish.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Number of the call, for [`Table::settled`].
    pub(crate) number: u64,
    pub(crate) payload: Vec<u8>,
    /// Time left, in seconds rounded up.
    pub(crate) expiry: u32,
}

/// What the device, or the node in its place, says to a call.
pub(crate) type Said = Result<Value, Fault>;

#[derive(Debug)]
struct Pending {
    asked: Asked,
    /// Whether the device has it, as far as the node knows.
    is_sent: bool,
    /// How often it was sent.
    sends: u32,
    told: oneshot::Sender<Said>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    sent_again: u64,
    answered: u64,
    unknown_id: u64,
    repeated: u64,
    unreadable: u64,
    too_large: u64,
    unanswered: u64,
    unsent: u64,
    wrong_state: u64,
}

/// Calls to one device.
#[derive(Debug)]
pub(crate) struct Table {
    object: ObjectName,
    limits: TableLimits,
    presence: Presence,
    /// First part of the ids: answers to another node, or another start of this one, do not have it.
    prefix: String,
    /// Number of the next call. Ids of lower numbers were given out.
    next: u64,
    /// Calls by their numbers, and so in the order in which they came.
    calls: BTreeMap<u64, Pending>,
    in_flight: usize,
    bytes: u64,
    counts: Counts,
    is_refusal_logged: bool,
}

impl Table {
    /// Without calls; `random` begins all ids.
    pub(crate) fn new(object: ObjectName, limits: TableLimits, random: u64) -> Self {
        Self {
            object,
            limits,
            presence: Presence::Unknown,
            prefix: format!("{random:016x}-"),
            next: 1,
            calls: BTreeMap::new(),
            in_flight: 0,
            bytes: 0,
            counts: Counts::default(),
            is_refusal_logged: false,
        }
    }

    /// Takes a call; what comes of it goes to the receiver.
    ///
    /// # Errors
    ///
    /// -32004 where the device is offline, -32005 where the requests that wait have too many bytes.
    pub(crate) fn begin(&mut self, asked: Asked) -> Result<(u64, oneshot::Receiver<Said>), Fault> {
        if let Presence::Offline(reason) = &self.presence {
            return Err(self.absent(reason));
        }
        let of_caller = self.calls.values().filter(|call| call.asked.caller == asked.caller);
        let held = of_caller.map(|call| call.asked.bytes()).sum();
        if !ShareLimits::new(self.limits.bytes).admits(self.bytes, held, asked.bytes()) {
            let text = format!("the requests that wait for {} have too many bytes together", self.object);
            return Err(Fault { message: text, ..Fault::busy(500) });
        }
        let number = self.next;
        self.next += 1;
        self.bytes += asked.bytes();
        let (told, said) = oneshot::channel();
        self.calls.insert(number, Pending { asked, is_sent: false, sends: 0, told });
        Ok((number, said))
    }

    /// Returns the next request to publish, if the device takes one now.
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<Outgoing> {
        if self.presence != Presence::Online || self.in_flight >= self.limits.in_flight {
            return None;
        }
        let waiting = self.calls.iter_mut().find(|(_, call)| !call.is_sent && call.asked.until > now);
        let (&number, call) = waiting?;
        self.in_flight += 1;
        self.counts.sent += 1;
        self.counts.sent_again += u64::from(call.was_sent());
        call.is_sent = true;
        call.sends += 1;
        let Asked { method, params, until, .. } = &call.asked;
        let left = until.duration_since(now);
        let ttl_ms = left.as_millis().max(1);
        let id = format!("{}{number}", self.prefix);
        let payload = format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{params},"ttl_ms":{ttl_ms}}}"#
        );
        let expiry = u32::try_from(ttl_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
        Some(Outgoing { number, payload: payload.into_bytes(), expiry })
    }

    /// Takes note of what became of a request that was published.
    pub(crate) fn settled(&mut self, number: u64, error: Unsent) {
        let object = &self.object;
        let fault = match error {
            Unsent::NobodyThere => {
                let absent = self.absent("it does not subscribe to its calls");
                // It may have had the call before.
                let is_first = self.calls.get(&number).is_none_or(|call| call.sends <= 1);
                if is_first { absent } else { absent.with_maybe_executed() }
            }
            Unsent::Busy => {
                Fault { message: format!("{object} takes no more messages now"), ..Fault::busy(500) }
            }
            Unsent::TooLarge { limit, .. } => Fault::too_large(limit),
            Unsent::Offline => return self.wait_again(number, true),
            // It may have arrived.
            Unsent::Lost | Unsent::Ended => return self.wait_again(number, false),
            refused => {
                if !std::mem::replace(&mut self.is_refusal_logged, true) {
                    tracing::warn!("{object}: calls cannot be sent to the device: {refused}");
                }
                Fault::new(
                    Code::BROKEN_OBJECT,
                    format!("the node of {object} cannot send calls to it; its log says why"),
                )
            }
        };
        self.end(number, Err(fault));
    }

    /// Takes an answer. One whose id is not that of a call which the device has is counted, and changes nothing.
    pub(crate) fn answered(&mut self, payload: &[u8]) {
        let Some(id) = answer::id(payload) else {
            self.counts.unreadable += 1;
            return;
        };
        let number = id.strip_prefix(&*self.prefix).and_then(|number| number.parse::<u64>().ok());
        let Some(number) = number.filter(|number| (1..self.next).contains(number)) else {
            self.counts.unknown_id += 1;
            return;
        };
        match self.calls.get(&number) {
            None => self.counts.repeated += 1,
            // Ids can be guessed from the one before.
            Some(call) if !call.was_sent() => self.counts.unknown_id += 1,
            Some(_) if payload.len() > self.limits.answer => {
                self.counts.too_large += 1;
                self.end(number, Err(Fault::too_large(self.limits.answer)));
            }
            Some(_) => {
                self.counts.answered += 1;
                self.end(number, answer::outcome(payload));
            }
        }
    }

    /// Takes note of a state that the device has published; `None` for a payload that is none.
    pub(crate) fn changed(&mut self, state: Option<DeviceState>) {
        match state {
            Some(DeviceState::Online) => self.appeared(),
            Some(DeviceState::Asleep) => self.presence = Presence::Asleep,
            Some(DeviceState::Offline) => self.disappeared("its state says so"),
            None => self.counts.wrong_state += 1,
        }
    }

    /// The connection was lost: the state that comes on the next one counts.
    pub(crate) fn disconnected(&mut self) {
        self.presence = Presence::Unknown;
    }

    /// The device takes calls. What was sent before may be lost: it is sent again where the device may get it twice.
    fn appeared(&mut self) {
        if self.presence == Presence::Online {
            return;
        }
        self.presence = Presence::Online;
        for call in self.calls.values_mut().filter(|call| call.is_sent && call.asked.is_repeatable) {
            call.is_sent = false;
            self.in_flight -= 1;
        }
    }

    /// The device takes no calls: all of them end.
    pub(crate) fn disappeared(&mut self, reason: &str) {
        self.presence = Presence::Offline(reason.to_owned());
        let fault = self.absent(reason);
        for (_, call) in std::mem::take(&mut self.calls) {
            let fault = fault.clone();
            let fault = if call.was_sent() { fault.with_maybe_executed() } else { fault };
            let _ = call.told.send(Err(fault));
        }
        self.bytes = 0;
        self.in_flight = 0;
    }

    /// Without a state by now, the device has never said that it is there.
    pub(crate) fn assume_offline(&mut self) {
        if self.presence == Presence::Unknown {
            self.disappeared("it has not said that it is online");
        }
    }

    /// Ends a call whose time is over, and returns what its caller is told.
    pub(crate) fn run_out(&mut self, number: u64) -> Fault {
        let was_sent = self.remove(number).is_some_and(|call| call.was_sent());
        let object = &self.object;
        if was_sent {
            self.counts.unanswered += 1;
            let text = format!("{object} has the call and did not answer it in time");
            return Fault::new(Code::TIMED_OUT, text).with("device", self.state()).with_maybe_executed();
        }
        self.counts.unsent += 1;
        let why = match self.presence {
            Presence::Online => "was busy with other calls",
            Presence::Asleep => "was asleep",
            Presence::Unknown | Presence::Offline(_) => "was not there",
        };
        let text = format!("{object} {why} until the deadline: the call was not sent to it");
        Fault::new(Code::EXPIRED, text).with("device", self.state())
    }

    /// Forgets a call that its caller has given up.
    pub(crate) fn forget(&mut self, number: u64) {
        drop(self.remove(number));
    }

    /// Returns counts for `rpc.stats`.
    pub(crate) fn report(&self) -> Value {
        let counts = &self.counts;
        json!({
            "state": self.state(),
            "waiting": self.calls.len() - self.in_flight,
            "in_flight": self.in_flight,
            "bytes": self.bytes,
            "sent": counts.sent,
            "sent_again": counts.sent_again,
            "answered": counts.answered,
            "unanswered": counts.unanswered,
            "unsent": counts.unsent,
            "ignored": {
                "unknown_id": counts.unknown_id,
                "repeated": counts.repeated,
                "unreadable": counts.unreadable,
                "wrong_state": counts.wrong_state,
            },
            "too_large": counts.too_large,
        })
    }

    fn state(&self) -> &'static str {
        match self.presence {
            Presence::Unknown => "unknown",
            Presence::Online => "online",
            Presence::Asleep => "asleep",
            Presence::Offline(_) => "offline",
        }
    }

    fn absent(&self, reason: &str) -> Fault {
        let text = format!("the device of {} is offline: {reason}", self.object);
        Fault::new(Code::LOST_OBJECT, text).with("device", "offline")
    }

    fn end(&mut self, number: u64, said: Said) {
        if let Some(call) = self.remove(number) {
            // Its caller may be gone.
            let _ = call.told.send(said);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Pending> {
        let call = self.calls.remove(&number)?;
        self.bytes -= call.asked.bytes();
        self.in_flight -= usize::from(call.is_sent);
        Some(call)
    }

    /// A request was not sent, or may be lost: it waits again where that is sure, or where the device may get it twice.
    fn wait_again(&mut self, number: u64, is_unsent: bool) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if call.is_sent && (is_unsent || call.asked.is_repeatable) {
            call.is_sent = false;
            self.in_flight -= 1;
            if is_unsent {
                call.sends -= 1;
                self.counts.sent -= 1;
            }
        }
    }
}

impl Pending {
    /// Whether the device may have it, or may have had it.
    fn was_sent(&self) -> bool {
        self.sends > 0
    }
}

impl Asked {
    fn bytes(&self) -> u64 {
        (self.method.len() + self.params.len()) as u64
    }
}

#[cfg(test)]
mod tests;
