//! Messages, and subscriptions to them.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use crate::wire::Properties;

/// Delivery guarantee: MQTT QoS 0 or 1. Rantai does not use QoS 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum QoS {
    /// QoS 0: sent once, without an acknowledgement.
    AtMostOnce,
    /// QoS 1: acknowledged by the broker, possibly delivered more than once.
    #[default]
    AtLeastOnce,
}

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The topic name, without wildcards.
    pub topic: ByteString,
    /// The payload, as it is on the wire.
    pub payload: Bytes,
    /// MQTT properties.
    pub properties: Properties,
    /// The delivery guarantee towards the broker.
    pub qos: QoS,
    /// Whether the broker keeps it as the topic's retained message.
    pub retain: bool,
    /// At QoS 1: whether it waits for a connection, and is retransmitted after a reconnect until it is
    /// acknowledged. False for messages that must not arrive twice or late: they fail with [`Unsent::Lost`](super::Unsent::Lost) where
    /// it is unknown whether they arrived, and with [`Unsent::Offline`](super::Unsent::Offline) where they were not sent.
    pub resend: bool,
}

impl Publish {
    /// A message at QoS 1, not retained, retransmitted until it is acknowledged.
    pub fn new(topic: impl Into<ByteString>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            properties: Properties::default(),
            qos: QoS::AtLeastOnce,
            retain: false,
            resend: true,
        }
    }

    /// Sets the properties.
    #[must_use]
    pub fn properties(self, properties: Properties) -> Self {
        Self { properties, ..self }
    }

    /// Sets the delivery guarantee.
    #[must_use]
    pub fn qos(self, qos: QoS) -> Self {
        Self { qos, ..self }
    }

    /// Has the broker retain it.
    #[must_use]
    pub fn retain(self) -> Self {
        Self { retain: true, ..self }
    }

    /// Does not retransmit after a reconnect; fails with [`Unsent::Lost`](super::Unsent::Lost) or [`Unsent::Offline`](super::Unsent::Offline) instead.
    #[must_use]
    pub fn once(self) -> Self {
        Self { resend: false, ..self }
    }
}

/// A received message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The topic name.
    pub topic: ByteString,
    /// The payload, as it is on the wire.
    pub payload: Bytes,
    /// MQTT properties.
    pub properties: Properties,
    /// The QoS of its delivery.
    pub qos: QoS,
    /// Whether it is a retained copy, which the broker sends when a subscription begins.
    pub retain: bool,
    /// How long it may have lain unread, as the process did not run; nothing is known of this, and it is 0, unless
    /// [`Options::notices_standstill`](super::Options::notices_standstill).
    pub unread: Duration,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The topic filter, wildcards and `$share/GROUP/` included.
    pub topic: String,
    /// The highest QoS of deliveries.
    pub qos: QoS,
    /// Whether retained messages are sent when it begins.
    pub retained: bool,
    /// Whether it is made again after a reconnect.
    pub lasting: bool,
}

impl Filter {
    /// A subscription at QoS 1, with retained messages, made again after reconnects.
    pub fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), qos: QoS::AtLeastOnce, retained: true, lasting: true }
    }

    /// Sets the highest QoS.
    #[must_use]
    pub fn qos(self, qos: QoS) -> Self {
        Self { qos, ..self }
    }

    /// Without retained messages (MQTT 5, 3.8.3.1: retain handling 2).
    #[must_use]
    pub fn live(self) -> Self {
        Self { retained: false, ..self }
    }

    /// Ends with the connection: it is not made again after a reconnect.
    #[must_use]
    pub fn passing(self) -> Self {
        Self { lasting: false, ..self }
    }
}
