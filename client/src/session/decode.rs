//! From packets of the broker to messages and results.

use bytestring::ByteString;
use rumqttc::v5::mqttbytes::{self, v5 as packets};

use super::error::Unsent;
use super::message::{Message, QoS};
use crate::wire::Properties;

/// The message of a PUBLISH; `None` when its topic is not UTF-8.
pub(super) fn message(publish: packets::Publish) -> Option<Message> {
    let topic = ByteString::try_from(publish.topic).ok()?;
    let properties = publish.properties.map_or_else(Properties::default, |p| Properties {
        content_type: p.content_type,
        response_topic: p.response_topic,
        correlation: p.correlation_data.map(|c| c.to_vec()),
        expiry: p.message_expiry_interval,
        user: p.user_properties,
    });
    let qos = match publish.qos {
        mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    };
    Some(Message { topic, payload: publish.payload, properties, qos, retain: publish.retain })
}

/// The result that a PUBACK stands for.
pub(super) fn outcome(ack: packets::PubAck) -> Result<(), Unsent> {
    use packets::PubAckReason as Reason;
    let why = ack.properties.and_then(|properties| properties.reason_string).unwrap_or_default();
    let refused = |text: &'static str| Unsent::Refused(text.into());
    Err(match ack.reason {
        Reason::Success => return Ok(()),
        Reason::NoMatchingSubscribers => Unsent::NobodyThere,
        Reason::NotAuthorized => Unsent::Denied { why },
        Reason::QuotaExceeded => Unsent::Busy,
        Reason::TopicNameInvalid => refused("topic name invalid"),
        Reason::PayloadFormatInvalid => refused("payload format invalid"),
        Reason::PacketIdentifierInUse => refused("packet identifier in use"),
        Reason::UnspecifiedError | Reason::ImplementationSpecificError if why.is_empty() => {
            refused("no reason given")
        }
        Reason::UnspecifiedError | Reason::ImplementationSpecificError => Unsent::Refused(why.into()),
    })
}
