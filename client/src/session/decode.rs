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

/// The result that the reason code of a PUBACK stands for.
pub(super) fn outcome(reason: packets::PubAckReason) -> Result<(), Unsent> {
    use packets::PubAckReason as Reason;
    Err(match reason {
        Reason::Success => return Ok(()),
        Reason::NoMatchingSubscribers => Unsent::NobodyThere,
        Reason::NotAuthorized => Unsent::Denied,
        Reason::QuotaExceeded => Unsent::Busy,
        Reason::TopicNameInvalid => Unsent::Refused("topic name invalid"),
        Reason::PayloadFormatInvalid => Unsent::Refused("payload format invalid"),
        Reason::PacketIdentifierInUse => Unsent::Refused("packet identifier in use"),
        Reason::UnspecifiedError | Reason::ImplementationSpecificError => Unsent::Refused("no reason given"),
    })
}
