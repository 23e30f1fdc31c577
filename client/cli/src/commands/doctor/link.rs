//! MQTT 5 connection that gives access to what a session hides: reason codes, properties, and the time of acknowledgements.

mod receiving;

use std::collections::{HashSet, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rantai_client::wire::features::{BrokerFeatures, FEATURES_PROPERTY};
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{
    Codec, Connect, ConnectAck, ConnectAckReason, Disconnect, DisconnectReasonCode, Packet, PublishAck,
    PublishAckReason, PublishProperties, RetainHandling, Subscribe, SubscribeAckReason, SubscriptionOptions,
};
use tokio::time::Instant;

use super::identity::Identity;
use super::trouble::{Trouble, excerpt};
use super::wire::Wire;

pub(super) use receiving::ConnectionEnd;

/// Maximum number of messages in flight.
const WINDOW: usize = 100;
/// Maximum Packet Size that is announced to the broker, in bytes. A packet that is longer ends the connection.
const MAX_PACKET: NonZeroU32 = NonZeroU32::new(1 << 20).expect("not 0");

/// Time limits of a connection, and the mark of messages that concern it.
#[derive(Clone)]
pub(super) struct Limits {
    /// Deadline for packets that should come.
    pub(super) deadline: Instant,
    /// Time limit after the deadline for the broker to answer a PINGREQ.
    pub(super) grace: Duration,
    /// Part of every topic of the examination: other messages are acknowledged and dropped.
    pub(super) mark: Rc<str>,
}

/// Connection that the broker has accepted. Dropping it closes the connection without a DISCONNECT.
pub(super) struct Link {
    wire: Wire<Codec>,
    greeting: ConnectAck,
    limits: Limits,
    received: VecDeque<Publish>,
    /// Size of the payloads in `received`, in bytes.
    kept: usize,
    holds: bool,
    last_id: u16,
    /// Number of PINGREQs that have not been answered.
    pings: u32,
    /// Time at which the last packet was sent.
    sent: Instant,
}

/// Creates a message at QoS 1.
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

/// Options of a subscription at this QoS, without retained messages.
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
    /// Connects to the identity's address with this CONNECT.
    pub(super) async fn connect(
        identity: &Identity,
        connect: Connect,
        limits: Limits,
    ) -> Result<Self, Trouble> {
        let codec = Codec::new(MAX_PACKET.get(), 0);
        let mut wire = Wire::open(&identity.address, codec, limits.deadline).await?;
        let connect = Connect { max_packet_size: Some(MAX_PACKET), ..connect };
        wire.send(Packet::Connect(Box::new(connect))).await?;
        let expected = "a CONNACK";
        let greeting = match wire.next(limits.deadline, expected).await? {
            Some(Packet::ConnectAck(greeting)) => *greeting,
            Some(Packet::Disconnect(end)) => return Err(closed(&end, expected)),
            Some(_) => return Err(Trouble::Malformed("the first packet is no CONNACK".to_owned())),
            None => return Err(Trouble::Silent(expected)),
        };
        if greeting.reason_code != ConnectAckReason::Success {
            let why = reason(greeting.reason_string.as_deref(), greeting.server_reference.as_deref());
            return Err(Trouble::Refused { code: greeting.reason_code.into(), why });
        }
        if let Some(limit) = greeting.max_packet_size {
            wire.codec().set_max_outbound_size(limit.max(1));
        }
        wire.set_deadline(limits.deadline + limits.grace);
        Ok(Self {
            wire,
            greeting,
            limits,
            received: VecDeque::new(),
            kept: 0,
            holds: false,
            last_id: 0,
            pings: 0,
            sent: Instant::now(),
        })
    }

    pub(super) fn greeting(&self) -> &ConnectAck {
        &self.greeting
    }

    /// Returns the features that the broker announces.
    pub(super) fn features(&self) -> Option<BrokerFeatures> {
        let mut properties = self.greeting.user_properties.iter();
        properties.find(|(name, _)| *name == FEATURES_PROPERTY).map(|(_, value)| BrokerFeatures::read(value))
    }

    /// Stops acknowledging messages.
    pub(super) fn hold_acknowledgements(&mut self) {
        self.holds = true;
    }

    /// Subscribes to a filter; accepts any QoS that the broker grants.
    pub(super) async fn subscribe(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
    ) -> Result<(), Trouble> {
        let packet_id = self.packet_id();
        let topic_filters = vec![(filter.into(), options)];
        let subscribe = Subscribe { packet_id, id: None, user_properties: Vec::new(), topic_filters };
        self.send(Packet::Subscribe(subscribe)).await?;
        let answer = self
            .wait_for("a SUBACK", |packet| match packet {
                Packet::SubscribeAck(answer) if answer.packet_id == packet_id => Some(answer),
                _ => None,
            })
            .await?;
        let action = || format!("subscribe to {filter}");
        let why = || reason(answer.reason_string.as_deref(), None);
        match answer.status.first() {
            Some(
                SubscribeAckReason::GrantedQos0
                | SubscribeAckReason::GrantedQos1
                | SubscribeAckReason::GrantedQos2,
            ) => Ok(()),
            Some(SubscribeAckReason::NotAuthorized) => Err(Trouble::Denied { action: action(), why: why() }),
            Some(SubscribeAckReason::SharedSubscriptionNotSupported) => {
                Err(Trouble::wrong("the broker has no shared subscriptions"))
            }
            Some(other) => Err(Trouble::Declined { action: action(), code: u8::from(*other), why: why() }),
            None => Err(Trouble::Malformed("a SUBACK without a reason code".to_owned())),
        }
    }

    /// Publishes and waits for the acknowledgement; returns whether there are subscribers, which is true unless the broker says
    /// otherwise.
    pub(super) async fn publish(&mut self, mut message: Publish) -> Result<bool, Trouble> {
        let topic = message.topic.clone();
        let qos = message.qos;
        let id = (qos != QoS::AtMostOnce).then(|| self.packet_id());
        message.packet_id = id;
        self.send(Packet::Publish(Box::new(message))).await?;
        let Some(id) = id else { return Ok(true) };
        let expected = if qos == QoS::AtLeastOnce { "a PUBACK" } else { "a PUBREC" };
        let answer = self
            .wait_for(expected, |packet| match (packet, qos) {
                (Packet::PublishAck(answer), QoS::AtLeastOnce)
                | (Packet::PublishReceived(answer), QoS::ExactlyOnce)
                    if answer.packet_id == id =>
                {
                    Some(answer)
                }
                _ => None,
            })
            .await?;
        let anybody = outcome(&topic, &answer)?;
        if qos == QoS::ExactlyOnce {
            self.send(Packet::PublishRelease(receiving::second(id))).await?;
            self.wait_for("a PUBCOMP", |packet| match packet {
                Packet::PublishComplete(answer) if answer.packet_id == id => Some(()),
                _ => None,
            })
            .await?;
        }
        Ok(anybody)
    }

    /// Publishes many messages at QoS 1, and returns once all are acknowledged. If some are denied, the others are still
    /// published before the error is returned.
    pub(super) async fn publish_all(
        &mut self,
        messages: impl IntoIterator<Item = Publish>,
    ) -> Result<(), Trouble> {
        let window = WINDOW.min(usize::from(self.greeting.receive_max.get()));
        let mut messages = messages.into_iter().fuse();
        let (mut open, mut denied) = (HashSet::new(), Ok(()));
        loop {
            for mut message in messages.by_ref().take(window - open.len()) {
                let id = self.packet_id();
                message.packet_id = Some(id);
                self.wire.write(Packet::Publish(Box::new(message)))?;
                open.insert(id);
            }
            if open.is_empty() {
                return denied;
            }
            self.sent = Instant::now();
            self.wire.flush().await?;
            let answer = self
                .wait_for("a PUBACK", |packet| match packet {
                    Packet::PublishAck(answer) if open.remove(&answer.packet_id) => Some(answer),
                    _ => None,
                })
                .await?;
            match outcome("one of many topics", &answer) {
                Ok(_) => {}
                Err(trouble @ Trouble::Denied { .. }) => denied = Err(trouble),
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Ends the connection with a DISCONNECT, so that no will is published.
    pub(super) async fn close(mut self) {
        let end = Disconnect {
            reason_code: DisconnectReasonCode::NormalDisconnection,
            session_expiry_interval_secs: None,
            server_reference: None,
            reason_string: None,
            user_properties: Vec::new(),
        };
        // The broker may have closed the connection already.
        let _ = self.send(Packet::Disconnect(end)).await;
    }

    async fn send(&mut self, packet: Packet) -> Result<(), Trouble> {
        self.sent = Instant::now();
        self.wire.send(packet).await
    }

    /// Returns the next packet id.
    fn packet_id(&mut self) -> NonZeroU16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        NonZeroU16::new(self.last_id).expect("it goes on at 1")
    }
}

/// Returns whether there are subscribers, according to an acknowledgement.
fn outcome(topic: &str, answer: &PublishAck) -> Result<bool, Trouble> {
    let action = || format!("publish to {topic}");
    let why = || reason(answer.reason_string.as_deref(), None);
    match answer.reason_code {
        PublishAckReason::Success => Ok(true),
        PublishAckReason::NoMatchingSubscribers => Ok(false),
        PublishAckReason::NotAuthorized => Err(Trouble::Denied { action: action(), why: why() }),
        other => Err(Trouble::Declined { action: action(), code: other as u8, why: why() }),
    }
}

/// Creates the error for a DISCONNECT of the broker.
fn closed(end: &Disconnect, instead_of: &'static str) -> Trouble {
    let why = reason(end.reason_string.as_deref(), end.server_reference.as_deref());
    Trouble::Closed { code: Some(end.reason_code.into()), why, instead_of }
}

/// Formats the Reason String, and the server that the broker refers to.
fn reason(text: Option<&str>, server: Option<&str>) -> String {
    let text = excerpt(text.unwrap_or_default());
    match server.map(excerpt) {
        Some(server) if text.is_empty() => format!("it names {server}"),
        Some(server) => format!("{text}; it names {server}"),
        None => text,
    }
}
