//! Receiving on a connection, and detecting that a packet does not come.

use std::num::NonZeroU16;
use std::time::Duration;

use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{Packet, PublishAck, PublishAck2, PublishAck2Reason, PublishAckReason};
use tokio::time::Instant;

use super::super::trouble::Trouble;
use super::{Link, closed};

/// Maximum size of the messages that are kept while waiting for something else, in bytes; more are taken for endless.
const MAX_KEPT_BYTES: usize = 32 << 20;
/// Size of a message besides its payload, in bytes.
const PER_MESSAGE: usize = 512;
/// Topics of the broker's own statistics, which the examination subscribes to too.
const SYSTEM: &str = "$SYS/";

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ConnectionEnd {
    /// By a DISCONNECT with the reason code of a takeover.
    TakenOver,
    /// In another way.
    Otherwise,
    /// It did not end: the broker answers.
    Alive,
}

/// Result of one step of reading.
enum Step {
    Packet(Packet),
    /// A message was kept.
    Kept,
    /// A packet was answered or dropped.
    Taken,
    /// The last PINGREQ was answered: the effects of packets sent before it have been seen.
    Pong,
    /// The time is over.
    Late,
}

impl Link {
    /// Returns the next message on a topic; `expected` describes it in errors. Messages on other topics are dropped.
    pub(in super::super) async fn receive(
        &mut self,
        topic: &str,
        expected: &'static str,
    ) -> Result<Publish, Trouble> {
        loop {
            if let Some(message) = self.pop(topic) {
                return Ok(message);
            }
            self.wait(expected, true).await?;
        }
    }

    /// Returns the next message on a topic within this time, or before the broker answers a PINGREQ that is sent at its end;
    /// `None` if none came.
    ///
    /// # Errors
    ///
    /// [`Trouble::Silent`] if the broker does not answer the PINGREQ: then nothing can be concluded from the missing message.
    pub(in super::super) async fn receive_within(
        &mut self,
        topic: &str,
        time: Duration,
    ) -> Result<Option<Publish>, Trouble> {
        self.receive_where(time, |message| *message.topic == *topic).await
    }

    /// Like [`receive_within`](Self::receive_within), with a condition instead of a topic.
    pub(in super::super) async fn receive_where(
        &mut self,
        time: Duration,
        wanted: impl Fn(&Publish) -> bool,
    ) -> Result<Option<Publish>, Trouble> {
        const EXPECTED: &str = "the answer to a PINGREQ";
        let mut until = (Instant::now() + time).min(self.last_moment());
        let mut has_pinged = false;
        loop {
            while let Some(message) = self.next_kept() {
                if wanted(&message) {
                    return Ok(Some(message));
                }
            }
            match self.step(until, EXPECTED).await? {
                Step::Pong if has_pinged => return Ok(None),
                Step::Late if has_pinged => return Err(Trouble::Silent(EXPECTED)),
                Step::Late => {
                    // The broker has as much time as for any other answer.
                    until = self.last_moment();
                    self.ping().await?;
                    has_pinged = true;
                }
                Step::Pong | Step::Packet(_) | Step::Kept | Step::Taken => {}
            }
        }
    }

    /// Acknowledges a message at QoS 1.
    pub(in super::super) async fn acknowledge(&mut self, message: &Publish) -> Result<(), Trouble> {
        match message.packet_id {
            Some(id) => self.send(Packet::PublishAck(first(id))).await,
            None => Ok(()),
        }
    }

    /// Returns whether and how the broker ends the connection within this time.
    ///
    /// # Errors
    ///
    /// [`Trouble::Silent`] if it neither ends the connection nor answers.
    pub(in super::super) async fn end_within(&mut self, time: Duration) -> Result<ConnectionEnd, Trouble> {
        match self.receive_where(time, |_| false).await {
            Ok(_) => Ok(ConnectionEnd::Alive),
            Err(Trouble::Closed { code: Some(0x8e), .. }) => Ok(ConnectionEnd::TakenOver),
            Err(Trouble::Closed { .. }) => Ok(ConnectionEnd::Otherwise),
            Err(trouble) => Err(trouble),
        }
    }

    /// Reads until `wanted` accepts a packet; keeps messages that come before it.
    pub(super) async fn wait_for<T>(
        &mut self,
        expected: &'static str,
        mut wanted: impl FnMut(Packet) -> Option<T>,
    ) -> Result<T, Trouble> {
        loop {
            if let Some(packet) = self.wait(expected, false).await?
                && let Some(found) = wanted(packet)
            {
                return Ok(found);
            }
        }
    }

    /// Waits for a packet until the deadline, and from then on until the broker answers a PINGREQ. Messages are kept; returns
    /// `None` after keeping one if `for_message` is true.
    async fn wait(&mut self, expected: &'static str, for_message: bool) -> Result<Option<Packet>, Trouble> {
        let mut until = self.limits.deadline;
        let mut has_pinged = false;
        loop {
            match self.step(until, expected).await? {
                Step::Packet(packet) => return Ok(Some(packet)),
                Step::Kept if for_message => return Ok(None),
                Step::Pong if has_pinged => return Err(Trouble::Missing(expected)),
                Step::Kept | Step::Taken | Step::Pong => {}
                Step::Late if has_pinged => return Err(Trouble::Silent(expected)),
                Step::Late => {
                    until = self.last_moment();
                    self.ping().await?;
                    has_pinged = true;
                }
            }
        }
    }

    async fn step(&mut self, until: Instant, expected: &'static str) -> Result<Step, Trouble> {
        // A broker may set a keep-alive that is shorter than the wait (MQTT 5, 3.2.2.3.14).
        let keep_alive = self.greeting.server_keepalive_sec.filter(|seconds| *seconds > 0);
        let ping_at = keep_alive.map(|seconds| self.sent + Duration::from_secs(seconds.into()) / 2);
        let turn = ping_at.map_or(until, |at| at.min(until));
        match self.wire.next(turn, expected).await? {
            Some(packet) => self.take(packet, expected).await,
            None if turn < until => {
                self.ping().await?;
                Ok(Step::Taken)
            }
            None => Ok(Step::Late),
        }
    }

    /// Keeps and acknowledges messages; returns all other packets.
    async fn take(&mut self, packet: Packet, expected: &'static str) -> Result<Step, Trouble> {
        match packet {
            Packet::Publish(message) => {
                let is_ours = message.topic.contains(&*self.limits.mark);
                let acknowledgement = match (message.packet_id, message.qos) {
                    (Some(_), _) if self.holds && is_ours => None,
                    (Some(id), QoS::AtLeastOnce) => Some(Packet::PublishAck(first(id))),
                    (Some(id), QoS::ExactlyOnce) => Some(Packet::PublishReceived(first(id))),
                    _ => None,
                };
                let is_kept = is_ours || message.topic.starts_with(SYSTEM);
                if is_kept {
                    self.kept += message.payload.len() + PER_MESSAGE;
                    self.received.push_back(*message);
                }
                if self.kept > MAX_KEPT_BYTES {
                    return Err(Trouble::wrong(format!(
                        "the broker sent {MAX_KEPT_BYTES} bytes that were not asked for"
                    )));
                }
                if let Some(acknowledgement) = acknowledgement {
                    self.send(acknowledgement).await?;
                }
                Ok(if is_kept { Step::Kept } else { Step::Taken })
            }
            Packet::PublishRelease(release) => {
                self.send(Packet::PublishComplete(second(release.packet_id))).await?;
                Ok(Step::Taken)
            }
            Packet::PingResponse => {
                self.pings = self.pings.saturating_sub(1);
                Ok(if self.pings == 0 { Step::Pong } else { Step::Taken })
            }
            Packet::Disconnect(end) => Err(closed(&end, expected)),
            other => Ok(Step::Packet(other)),
        }
    }

    async fn ping(&mut self) -> Result<(), Trouble> {
        self.pings += 1;
        self.send(Packet::PingRequest).await
    }

    /// Returns the time by which the broker has to have answered.
    fn last_moment(&self) -> Instant {
        self.limits.deadline + self.limits.grace
    }

    fn next_kept(&mut self) -> Option<Publish> {
        let message = self.received.pop_front()?;
        self.kept = self.kept.saturating_sub(message.payload.len() + PER_MESSAGE);
        Some(message)
    }

    fn pop(&mut self, topic: &str) -> Option<Publish> {
        while let Some(message) = self.next_kept() {
            if *message.topic == *topic {
                return Some(message);
            }
        }
        None
    }
}

pub(super) fn first(packet_id: NonZeroU16) -> PublishAck {
    let reason_code = PublishAckReason::Success;
    PublishAck { packet_id, reason_code, properties: Vec::new(), reason_string: None }
}

pub(super) fn second(packet_id: NonZeroU16) -> PublishAck2 {
    let reason_code = PublishAck2Reason::Success;
    PublishAck2 { packet_id, reason_code, properties: Vec::new(), reason_string: None }
}
