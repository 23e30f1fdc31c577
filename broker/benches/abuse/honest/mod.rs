//! Honest clients during an attack: a caller with its responder, and a publisher with its subscriber.
//!
//! All four share one thread, so that their part of a latency does not depend on the scheduler. Calls begin on time,
//! one per millisecond, regardless of earlier ones: a reply that is late because the broker was busy also delays all
//! calls that were due meanwhile.

mod client;
mod ledger;
mod newcomer;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rantai_load::packet::{Frame, PUBACK, PUBLISH, Publish};
use rantai_testing::{Version, disconnect};

use client::client;
pub(crate) use client::{PASSWORD, USER};
pub(crate) use ledger::{Account, Ledger};
pub(crate) use newcomer::connect_repeatedly;

use crate::wire::{Wire, wait};

/// Time between two calls.
const CALL_PERIOD: Duration = Duration::from_millis(1);
/// Time between two messages of the publisher.
const PUBLISH_PERIOD: Duration = Duration::from_millis(5);
/// Maximum time to wait for open messages at the end.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Size of each payload, in bytes.
const PAYLOAD_BYTES: usize = 100;
const CALL_TOPIC: &str = "honest/call/echo";
const REPLY_TOPIC: &str = "honest/reply/caller";
const STREAM_TOPIC: &str = "honest/stream";

/// Signals to the honest clients: the beginning of the attack, and their end.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Time from which on calls are timed.
    pub(crate) counted_from: OnceLock<Instant>,
    /// Set when no more calls and messages are to begin.
    pub(crate) stop: AtomicBool,
}

/// The four clients, connected and subscribed.
#[derive(Debug)]
pub(crate) struct Honest {
    caller: Wire,
    responder: Wire,
    publisher: Wire,
    subscriber: Wire,
    replies: u16,
    /// Number of replies that the broker refused.
    refused_replies: u64,
    calls: Ledger,
    stream: Ledger,
}

/// Result of the honest clients.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) calls: Account,
    pub(crate) stream: Account,
    pub(crate) refused_replies: u64,
    /// Error that ended the run early, if one of the four was disconnected.
    pub(crate) cut_off: Option<String>,
}

impl Outcome {
    /// Returns the number of messages that were acknowledged and never arrived, including calls without a reply.
    pub(crate) fn lost(&self) -> u64 {
        self.calls.lost + self.calls.unanswered + self.stream.lost + self.stream.unanswered
    }

    /// Returns the number of messages that were refused, and of connections that were closed.
    pub(crate) fn refused(&self) -> u64 {
        self.calls.refused + self.stream.refused + self.refused_replies + u64::from(self.cut_off.is_some())
    }

    /// Returns the number of messages that arrived twice or after a later one.
    pub(crate) fn repeated(&self) -> u64 {
        self.calls.repeated + self.stream.repeated + self.stream.reordered
    }
}

impl Honest {
    /// Connects all four clients, and subscribes.
    pub(crate) fn connect(broker: SocketAddr) -> io::Result<Self> {
        let responder = client(broker, "honest-responder", Some("$share/honest/honest/call/#"))?;
        let subscriber = client(broker, "honest-subscriber", Some(STREAM_TOPIC))?;
        Ok(Self {
            caller: client(broker, "honest-caller", Some(REPLY_TOPIC))?,
            publisher: client(broker, "honest-publisher", None)?,
            responder,
            subscriber,
            replies: 0,
            refused_replies: 0,
            calls: Ledger::new(CALL_PERIOD),
            stream: Ledger::new(PUBLISH_PERIOD),
        })
    }

    /// Calls and publishes until the stop signal, then waits for open messages.
    pub(crate) fn run(mut self, signals: &Signals) -> Outcome {
        let mut cut_off = None;
        let mut stopped: Option<Instant> = None;
        while cut_off.is_none() {
            if let Some(&from) = signals.counted_from.get() {
                self.calls.count_from(from);
            }
            if stopped.is_none() && signals.stop.load(Ordering::Relaxed) {
                stopped = Some(Instant::now());
            }
            if let Some(stopped) = stopped
                && (self.is_settled(stopped) || stopped.elapsed() > SETTLE_TIMEOUT)
            {
                break;
            }
            cut_off = self.turn(stopped).err().map(|error| error.to_string());
        }
        for wire in [&mut self.caller, &mut self.responder, &mut self.publisher, &mut self.subscriber] {
            wire.out().extend(disconnect(Version::V5, 0, &[]));
            // Fails for a client that was disconnected, which was reported above.
            let _ = wire.flush();
        }
        Outcome {
            calls: self.calls.close(),
            stream: self.stream.close(),
            refused_replies: self.refused_replies,
            cut_off,
        }
    }

    fn is_settled(&self, stopped: Instant) -> bool {
        self.calls.is_settled(stopped) && self.stream.is_settled(stopped)
    }

    /// Sends messages that are due, except for those due after the end; waits for an event, and handles received
    /// packets.
    fn turn(&mut self, stopped: Option<Instant>) -> io::Result<()> {
        let now = Instant::now();
        self.send_due(stopped.unwrap_or(now));
        // Limits the wait, so that signals are noticed.
        let mut until = now + Duration::from_millis(5);
        if stopped.is_none() {
            let due = [self.calls.next_due(), self.stream.next_due()];
            until = due.into_iter().flatten().fold(until, Instant::min);
        }
        for wire in [&mut self.caller, &mut self.responder, &mut self.publisher, &mut self.subscriber] {
            wire.flush()?;
        }
        wait(&[&self.caller, &self.responder, &self.publisher, &self.subscriber], until)?;
        self.take_caller().map_err(|error| during("the caller", &error))?;
        self.take_responder().map_err(|error| during("the responder", &error))?;
        self.take_publisher().map_err(|error| during("the publisher", &error))?;
        self.take_subscriber().map_err(|error| during("the subscriber", &error))
    }

    fn send_due(&mut self, now: Instant) {
        let mut payload = [b'x'; PAYLOAD_BYTES];
        while self.calls.next_due().is_some_and(|due| due <= now) {
            let (number, packet_id) = self.calls.send();
            let request = Publish {
                topic: CALL_TOPIC.as_bytes(),
                qos: 1,
                packet_id,
                response_topic: REPLY_TOPIC.as_bytes(),
                correlation: &number.to_be_bytes(),
                payload: &payload,
                ..Publish::default()
            };
            request.write(self.caller.out());
        }
        while self.stream.next_due().is_some_and(|due| due <= now) {
            let (number, packet_id) = self.stream.send();
            payload[..8].copy_from_slice(&number.to_be_bytes());
            let topic = STREAM_TOPIC.as_bytes();
            Publish { topic, qos: 1, packet_id, payload: &payload, ..Publish::default() }
                .write(self.publisher.out());
        }
    }

    fn take_caller(&mut self) -> io::Result<()> {
        let mut acknowledgements = Vec::new();
        self.caller.fill(usize::MAX)?;
        let now = Instant::now();
        while let Some(frame) = self.caller.next_frame() {
            match frame.kind() {
                PUBACK => self.calls.acknowledge(packet_id(frame), frame.reason()),
                PUBLISH => {
                    frame.acknowledge(&mut acknowledgements);
                    let reply = frame.request().ok_or_else(unreadable)?;
                    self.calls.arrive(number(reply.correlation)?, now);
                }
                _ => refuse_others(frame)?,
            }
        }
        self.caller.out().append(&mut acknowledgements);
        Ok(())
    }

    fn take_responder(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        self.responder.fill(usize::MAX)?;
        while let Some(frame) = self.responder.next_frame() {
            match frame.kind() {
                PUBACK => self.refused_replies += u64::from(frame.reason() >= 0x80),
                PUBLISH => {
                    frame.acknowledge(&mut out);
                    let request = frame.request().ok_or_else(unreadable)?;
                    self.replies = self.replies.checked_add(1).unwrap_or(1);
                    Publish {
                        topic: request.response_topic,
                        qos: 1,
                        packet_id: self.replies,
                        correlation: request.correlation,
                        payload: request.payload,
                        ..Publish::default()
                    }
                    .write(&mut out);
                }
                _ => refuse_others(frame)?,
            }
        }
        self.responder.out().append(&mut out);
        self.responder.flush()
    }

    fn take_publisher(&mut self) -> io::Result<()> {
        self.publisher.fill(usize::MAX)?;
        while let Some(frame) = self.publisher.next_frame() {
            match frame.kind() {
                PUBACK => self.stream.acknowledge(packet_id(frame), frame.reason()),
                _ => refuse_others(frame)?,
            }
        }
        Ok(())
    }

    fn take_subscriber(&mut self) -> io::Result<()> {
        let mut acknowledgements = Vec::new();
        self.subscriber.fill(usize::MAX)?;
        let now = Instant::now();
        while let Some(frame) = self.subscriber.next_frame() {
            match frame.kind() {
                PUBLISH => {
                    frame.acknowledge(&mut acknowledgements);
                    let message = frame.request().ok_or_else(unreadable)?;
                    self.stream.arrive(number(message.payload)?, now);
                }
                _ => refuse_others(frame)?,
            }
        }
        self.subscriber.out().append(&mut acknowledgements);
        Ok(())
    }
}

fn packet_id(frame: Frame<'_>) -> u16 {
    frame.body().first_chunk().map_or(0, |id| u16::from_be_bytes(*id))
}

fn number(bytes: &[u8]) -> io::Result<u64> {
    bytes.first_chunk().map(|number| u64::from_be_bytes(*number)).ok_or_else(unreadable)
}

fn refuse_others(frame: Frame<'_>) -> io::Result<()> {
    let (kind, reason) = (frame.kind(), frame.reason());
    Err(io::Error::other(format!("the broker sent packet type {kind} with {reason:#04x}")))
}

fn unreadable() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a message is not as it was sent")
}

fn during(who: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{who}: {error}"))
}
