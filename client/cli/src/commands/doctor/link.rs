//! An MQTT 5 connection that shows what a session hides: reason codes, properties, and when messages are acknowledged.

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
use super::trouble::{Trouble, told};
use super::wire::Wire;

pub(super) use receiving::End;

/// Messages that are sent before their acknowledgements have come.
const WINDOW: usize = 100;
/// The Maximum Packet Size that the broker is told, in bytes. A packet that announces more ends the connection.
const MAX_PACKET: NonZeroU32 = NonZeroU32::new(1 << 20).expect("not 0");

/// How long the waits of a connection take, and which messages concern it.
#[derive(Clone)]
pub(super) struct Limits {
    /// Until then something is waited for that should come.
    pub(super) deadline: Instant,
    /// From the deadline on, the time in which the broker has to answer a PINGREQ.
    pub(super) grace: Duration,
    /// A part of every topic of the examination: messages of other topics are acknowledged and dropped.
    pub(super) mark: Rc<str>,
}

/// A connection that the broker has accepted. Dropping it closes the connection without a DISCONNECT.
pub(super) struct Link {
    wire: Wire<Codec>,
    greeting: ConnectAck,
    limits: Limits,
    received: VecDeque<Publish>,
    /// Bytes of the payloads in `received`.
    kept: usize,
    holds: bool,
    last_id: u16,
    /// PINGREQ that have not been answered.
    pings: u32,
    /// When the last packet was sent.
    sent: Instant,
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
    /// Connects as somebody, with a CONNECT of that identity's.
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

    /// Publishes and waits for the acknowledgement; returns whether somebody was subscribed, as far as the broker says.
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

    /// Publishes many messages at QoS 1, and returns when all are acknowledged. Where some are not allowed, the others are
    /// published all the same before the error is returned.
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
        let _ = self.send(Packet::Disconnect(end)).await;
    }

    async fn send(&mut self, packet: Packet) -> Result<(), Trouble> {
        self.sent = Instant::now();
        self.wire.send(packet).await
    }

    /// The next id that a packet of this connection has not just had.
    fn packet_id(&mut self) -> NonZeroU16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        NonZeroU16::new(self.last_id).expect("it goes on at 1")
    }
}

/// Whether somebody was subscribed, by an acknowledgement.
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

/// The end of a connection, as the broker says it.
fn closed(end: &Disconnect, instead_of: &'static str) -> Trouble {
    let why = reason(end.reason_string.as_deref(), end.server_reference.as_deref());
    Trouble::Closed { code: Some(end.reason_code.into()), why, instead_of }
}

/// What the broker says of a reason code, and the server that it names instead of itself.
fn reason(text: Option<&str>, server: Option<&str>) -> String {
    let text = told(text.unwrap_or_default());
    match server.map(told) {
        Some(server) if text.is_empty() => format!("it names {server}"),
        Some(server) => format!("{text}; it names {server}"),
        None => text,
    }
}
