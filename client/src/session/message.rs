//! Messages and subscriptions.

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

/// Message to publish.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Topic name, without wildcards.
    pub topic: ByteString,
    /// Payload as sent.
    pub payload: Bytes,
    /// MQTT properties.
    pub properties: Properties,
    /// QoS of publishing to the broker.
    pub qos: QoS,
    /// Whether the broker keeps it as the topic's retained message.
    pub retain: bool,
    /// For QoS 1: whether the message waits for a connection, and is retransmitted after a reconnect until it is
    /// acknowledged. False for messages that must not arrive twice or late: they fail with
    /// [`Unsent::Lost`](super::Unsent::Lost) if it is unknown whether they arrived, and with
    /// [`Unsent::Offline`](super::Unsent::Offline) if they were not sent.
    pub resend: bool,
}

impl Publish {
    /// Creates a message at QoS 1, not retained, that is retransmitted until it is acknowledged.
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

    /// Sets the QoS.
    #[must_use]
    pub fn qos(self, qos: QoS) -> Self {
        Self { qos, ..self }
    }

    /// Makes it a retained message.
    #[must_use]
    pub fn retain(self) -> Self {
        Self { retain: true, ..self }
    }

    /// Disables retransmission after a reconnect: publishing fails with [`Unsent::Lost`](super::Unsent::Lost) or
    /// [`Unsent::Offline`](super::Unsent::Offline) instead.
    #[must_use]
    pub fn once(self) -> Self {
        Self { resend: false, ..self }
    }
}

/// Received message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Topic name.
    pub topic: ByteString,
    /// Payload as received.
    pub payload: Bytes,
    /// MQTT properties.
    pub properties: Properties,
    /// QoS of the delivery.
    pub qos: QoS,
    /// Whether it is a retained message, which the broker sends when a subscription begins.
    pub retain: bool,
    /// How long the message may have been waiting to be read because the process did not run; 0 unless
    /// [`Options::notices_standstill`](super::Options::notices_standstill) is set.
    pub unread: Duration,
}

/// Subscription to a topic filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Topic filter, including wildcards and `$share/GROUP/`.
    pub topic: String,
    /// Maximum QoS of deliveries.
    pub qos: QoS,
    /// Whether the broker sends retained messages when the subscription begins.
    pub retained: bool,
    /// Whether the filter is subscribed again after a reconnect.
    pub lasting: bool,
}

impl Filter {
    /// Creates a subscription at QoS 1, with retained messages, that is renewed after reconnects.
    pub fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), qos: QoS::AtLeastOnce, retained: true, lasting: true }
    }

    /// Sets the maximum QoS.
    #[must_use]
    pub fn qos(self, qos: QoS) -> Self {
        Self { qos, ..self }
    }

    /// Excludes retained messages (MQTT 5, 3.8.3.1: retain handling 2).
    #[must_use]
    pub fn live(self) -> Self {
        Self { retained: false, ..self }
    }

    /// Makes the subscription ephemeral: it ends with the connection, and is not renewed.
    #[must_use]
    pub fn passing(self) -> Self {
        Self { lasting: false, ..self }
    }
}
