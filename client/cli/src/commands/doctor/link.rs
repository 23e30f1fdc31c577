//! An MQTT 5 connection that shows what a session hides: reason codes, properties, and when messages are acknowledged.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::Bytes;
use rantai_client::printable;
use rantai_client::session::Address;
use rantai_client::wire::features::{BrokerFeatures, FEATURES_PROPERTY};
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{
    Codec, Connect, ConnectAck, ConnectAckReason, Disconnect, DisconnectReasonCode, Packet, PublishAck,
    PublishAck2, PublishAck2Reason, PublishAckReason, PublishProperties, RetainHandling, Subscribe,
    SubscribeAckReason, SubscriptionOptions,
};
use tokio::time::{Instant, timeout};

use super::trouble::Trouble;
use super::wire::Wire;

/// Messages that are sent before their acknowledgements have come.
const WINDOW: usize = 100;

/// A connection that the broker has accepted. Dropping it closes the connection without a DISCONNECT.
pub(super) struct Link {
    wire: Wire<Codec>,
    greeting: ConnectAck,
    received: VecDeque<Publish>,
    holds: bool,
    last_id: u16,
}

/// A message at QoS 1.
pub(super) fn message(topic: &str, payload: impl Into<Bytes>) -> Publish {
    Publish {
        dup: false,
        retain: false,
        qos: QoS::AtLeastOnce,
        topic: topic.into(),
        packet_id: None,
        payload: payload.into(),
        properties: Some(PublishProperties::default()),
    }
}

/// Options of a subscription at a QoS, without retained messages.
pub(super) fn live(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        retain_handling: RetainHandling::NoAtSubscribe,
        ..SubscriptionOptions::default()
    }
}

/// Options of a subscription at QoS 1, with retained messages.
pub(super) fn with_retained() -> SubscriptionOptions {
    SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() }
}

impl Link {
    /// Connects. Every wait of this connection ends at the deadline.
    pub(super) async fn connect(
        address: &Address,
        connect: Connect,
        deadline: Instant,
    ) -> Result<Self, Trouble> {
        let mut wire = Wire::open(address, Codec::default(), deadline).await?;
        wire.send(Packet::Connect(Box::new(connect))).await?;
        let greeting = match wire.next("a CONNACK").await? {
            Packet::ConnectAck(greeting) => *greeting,
            Packet::Disconnect(end) => {
                let code = Some(end.reason_code.into());
                return Err(Trouble::Closed { code, instead_of: "a CONNACK" });
            }
            _ => return Err(Trouble::Malformed("the first packet is no CONNACK".to_owned())),
        };
        if greeting.reason_code != ConnectAckReason::Success {
            let why = printable(greeting.reason_string.as_deref().unwrap_or_default());
            return Err(Trouble::Refused { code: greeting.reason_code.into(), why });
        }
        Ok(Self { wire, greeting, received: VecDeque::new(), holds: false, last_id: 0 })
    }

    pub(super) fn greeting(&self) -> &ConnectAck {
        &self.greeting
    }

    /// What the broker does for the bus, by its own word.
    pub(super) fn features(&self) -> Option<BrokerFeatures> {
        let mut properties = self.greeting.user_properties.iter();
        properties.find(|(name, _)| *name == FEATURES_PROPERTY).map(|(_, value)| BrokerFeatures::read(value))
    }

    /// Acknowledges no message from now on.
    pub(super) fn hold_acknowledgements(&mut self) {
        self.holds = true;
    }

    /// Subscribes to a filter, at whatever QoS the broker grants.
    pub(super) async fn subscribe(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
    ) -> Result<(), Trouble> {
        let packet_id = self.packet_id();
        let topic_filters = vec![(filter.into(), options)];
        let subscribe = Subscribe { packet_id, id: None, user_properties: Vec::new(), topic_filters };
        self.wire.send(Packet::Subscribe(subscribe)).await?;
        let answer = self
            .wait_for("a SUBACK", |packet| match packet {
                Packet::SubscribeAck(answer) if answer.packet_id == packet_id => Some(answer),
                _ => None,
            })
            .await?;
        let why = || printable(answer.reason_string.as_deref().unwrap_or_default());
        match answer.status.first() {
            Some(
                SubscribeAckReason::GrantedQos0
                | SubscribeAckReason::GrantedQos1
                | SubscribeAckReason::GrantedQos2,
            ) => Ok(()),
            Some(SubscribeAckReason::NotAuthorized) => {
                Err(Trouble::Denied { action: format!("subscribe to {filter}"), why: why() })
            }
            Some(SubscribeAckReason::SharedSubscriptionNotSupported) => {
                Err(Trouble::wrong("the broker has no shared subscriptions"))
            }
            Some(other) => Err(Trouble::wrong(format!(
                "SUBSCRIBE to {filter} was answered with {:#04x}",
                u8::from(*other)
            ))),
            None => Err(Trouble::Malformed("a SUBACK without a reason code".to_owned())),
        }
    }

    /// Publishes and waits for the acknowledgement; returns whether somebody was subscribed, as far as the broker says.
    pub(super) async fn publish(&mut self, mut message: Publish) -> Result<bool, Trouble> {
        let topic = message.topic.clone();
        let qos = message.qos;
        let id = (qos != QoS::AtMostOnce).then(|| self.packet_id());
        message.packet_id = id;
        self.wire.send(Packet::Publish(Box::new(message))).await?;
        let Some(id) = id else { return Ok(true) };
        let expected = if qos == QoS::AtLeastOnce { "a PUBACK" } else { "a PUBREC" };
        let answer = self
            .wait_for(expected, |packet| match packet {
                Packet::PublishAck(answer) | Packet::PublishReceived(answer) if answer.packet_id == id => {
                    Some(answer)
                }
                _ => None,
            })
            .await?;
        let anybody = outcome(&topic, &answer)?;
        if qos == QoS::ExactlyOnce {
            self.wire.send(Packet::PublishRelease(second(id))).await?;
            self.wait_for("a PUBCOMP", |packet| match packet {
                Packet::PublishComplete(answer) if answer.packet_id == id => Some(()),
                _ => None,
            })
            .await?;
        }
        Ok(anybody)
    }

    /// Publishes many messages at QoS 1, and returns when all are acknowledged. Where some are not allowed, the others are
    /// published all the same before the error is returned.
    pub(super) async fn publish_all(
        &mut self,
        messages: impl IntoIterator<Item = Publish>,
    ) -> Result<(), Trouble> {
        let window = WINDOW.min(usize::from(self.greeting.receive_max.get()));
        let mut messages = messages.into_iter().fuse();
        let (mut open, mut denied) = (0, Ok(()));
        loop {
            for mut message in messages.by_ref().take(window - open) {
                message.packet_id = Some(self.packet_id());
                self.wire.write(Packet::Publish(Box::new(message)))?;
                open += 1;
            }
            if open == 0 {
                return denied;
            }
            self.wire.flush().await?;
            let answer = self
                .wait_for("a PUBACK", |packet| match packet {
                    Packet::PublishAck(answer) => Some(answer),
                    _ => None,
                })
                .await?;
            match outcome("one of many topics", &answer) {
                Ok(_) => {}
                Err(trouble @ Trouble::Denied { .. }) => denied = Err(trouble),
                Err(trouble) => return Err(trouble),
            }
            open -= 1;
        }
    }

    /// The next message; `expected` says in errors what it is.
    pub(super) async fn receive(&mut self, expected: &'static str) -> Result<Publish, Trouble> {
        loop {
            if let Some(message) = self.received.pop_front() {
                return Ok(message);
            }
            let packet = self.wire.next(expected).await?;
            self.take(packet, expected).await?;
        }
    }

    /// The next message that comes within this time.
    pub(super) async fn receive_within(&mut self, time: Duration) -> Result<Option<Publish>, Trouble> {
        match timeout(time, self.receive("a message")).await {
            Err(_) => Ok(None),
            Ok(received) => received.map(Some),
        }
    }

    /// Acknowledges a message at QoS 1.
    pub(super) async fn acknowledge(&mut self, message: &Publish) -> Result<(), Trouble> {
        match message.packet_id {
            Some(id) => self.wire.send(Packet::PublishAck(first(id))).await,
            None => Ok(()),
        }
    }

    /// Waits until the broker ends the connection; returns whether it does within this time.
    pub(super) async fn is_ended_within(&mut self, time: Duration) -> bool {
        let ended = async { while self.receive("the end").await.is_ok() {} };
        timeout(time, ended).await.is_ok()
    }

    /// Ends the connection with a DISCONNECT: no will is published.
    pub(super) async fn close(mut self) {
        let end = Disconnect {
            reason_code: DisconnectReasonCode::NormalDisconnection,
            session_expiry_interval_secs: None,
            server_reference: None,
            reason_string: None,
            user_properties: Vec::new(),
        };
        // The broker may have ended the connection before.
        let _ = self.wire.send(Packet::Disconnect(end)).await;
    }

    /// Reads until a packet is what is waited for; messages that come before it are kept.
    async fn wait_for<T>(
        &mut self,
        expected: &'static str,
        mut wanted: impl FnMut(Packet) -> Option<T>,
    ) -> Result<T, Trouble> {
        loop {
            let packet = self.wire.next(expected).await?;
            if let Some(packet) = self.take(packet, expected).await?
                && let Some(found) = wanted(packet)
            {
                return Ok(found);
            }
        }
    }

    /// Keeps and acknowledges messages; returns every other packet.
    async fn take(&mut self, packet: Packet, expected: &'static str) -> Result<Option<Packet>, Trouble> {
        match packet {
            Packet::Publish(message) => {
                let acknowledgement = match (message.packet_id, message.qos) {
                    (Some(_), _) if self.holds => None,
                    (Some(id), QoS::AtLeastOnce) => Some(Packet::PublishAck(first(id))),
                    (Some(id), QoS::ExactlyOnce) => Some(Packet::PublishReceived(first(id))),
                    _ => None,
                };
                self.received.push_back(*message);
                if let Some(acknowledgement) = acknowledgement {
                    self.wire.send(acknowledgement).await?;
                }
                Ok(None)
            }
            Packet::PublishRelease(release) => {
                self.wire.send(Packet::PublishComplete(second(release.packet_id))).await?;
                Ok(None)
            }
            Packet::Disconnect(end) => {
                Err(Trouble::Closed { code: Some(end.reason_code.into()), instead_of: expected })
            }
            other => Ok(Some(other)),
        }
    }

    fn packet_id(&mut self) -> NonZeroU16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        NonZeroU16::new(self.last_id).expect("it goes on at 1")
    }
}

/// Whether somebody was subscribed, by an acknowledgement.
fn outcome(topic: &str, answer: &PublishAck) -> Result<bool, Trouble> {
    match answer.reason_code {
        PublishAckReason::Success => Ok(true),
        PublishAckReason::NoMatchingSubscribers => Ok(false),
        PublishAckReason::NotAuthorized => {
            let why = printable(answer.reason_string.as_deref().unwrap_or_default());
            Err(Trouble::Denied { action: format!("publish to {topic}"), why })
        }
        other => Err(Trouble::wrong(format!("a message to {topic} was answered with {:#04x}", other as u8))),
    }
}

fn first(packet_id: NonZeroU16) -> PublishAck {
    let reason_code = PublishAckReason::Success;
    PublishAck { packet_id, reason_code, properties: Vec::new(), reason_string: None }
}

fn second(packet_id: NonZeroU16) -> PublishAck2 {
    let reason_code = PublishAck2Reason::Success;
    PublishAck2 { packet_id, reason_code, properties: Vec::new(), reason_string: None }
}
