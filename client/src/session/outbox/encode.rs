//! Checks of messages against the limits of MQTT packets, and conversion of filters to packets.

use bytes::Bytes;
use rumqttc::v5::mqttbytes::{self, v5 as packets};

use crate::session::error::Unsent;
use crate::session::message::{Filter, Publish, QoS};
use crate::wire::topic::is_topic;

/// Maximum length of a string or binary data in a packet, in bytes (MQTT 5, 1.5.4).
pub(super) const MAX_STRING_BYTES: usize = u16::MAX as usize;

/// Checks that MQTT can express the message: a valid topic name, and no text longer than 65,535 bytes.
pub(super) fn check(publish: &Publish) -> Result<(), Unsent> {
    let topic = &publish.topic;
    if !is_topic(topic) {
        return Err(Unsent::BadTopic(topic.to_string()));
    }
    let properties = &publish.properties;
    let texts = properties.user.iter().flat_map(|(name, value)| [name.len(), value.len()]);
    let others = [&properties.content_type, &properties.response_topic];
    let longest = texts
        .chain(others.iter().filter_map(|t| t.as_ref().map(|t| t.len())))
        .chain(properties.correlation.as_ref().map(Bytes::len))
        .max();
    if longest > Some(MAX_STRING_BYTES) {
        return Err(Unsent::Refused("a property of more than 65,535 bytes".into()));
    }
    Ok(())
}

fn level(qos: QoS) -> mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
    }
}

pub(super) fn filter(filter: &Filter) -> packets::Filter {
    use packets::RetainForwardRule::{Never, OnEverySubscribe};
    packets::Filter {
        path: filter.topic.clone(),
        qos: level(filter.qos),
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: if filter.retained { OnEverySubscribe } else { Never },
    }
}
