//! From packets of the broker to messages and results.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use rumqttc::v5::mqttbytes::{self, v5 as packets};

use super::error::{Unsent, because};
use super::message::{Message, QoS};
use crate::printable;
use crate::wire::Properties;

/// Characters that are taken of a Reason String.
const MAX_REASON_STRING: usize = 400;

/// The message of a PUBLISH that may have lain unread for this time; `None` when its topic is not UTF-8.
pub(super) fn message(publish: packets::Publish, unread: Duration) -> Option<Message> {
    let topic = ByteString::try_from(publish.topic).ok()?;
    let properties = publish.properties.map_or_else(Properties::default, |p| Properties {
        content_type: p.content_type,
        response_topic: p.response_topic,
        // Copied out of the read buffer, which a call that waits would keep.
        correlation: p.correlation_data.map(|c| Bytes::copy_from_slice(&c)),
        expiry: p.message_expiry_interval,
        user: p.user_properties,
    });
    let qos = match publish.qos {
        mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    };
    Some(Message { topic, payload: publish.payload, properties, qos, retain: publish.retain, unread })
}

/// The result that a PUBACK stands for.
pub(super) fn outcome(ack: &packets::PubAck) -> Result<(), Unsent> {
    use packets::PubAckReason as Reason;
    let why = said(ack);
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

/// The Reason String of a PUBACK.
pub(super) fn said(ack: &packets::PubAck) -> String {
    reason_string(ack.properties.as_ref().and_then(|properties| properties.reason_string.as_deref()))
}

/// Why a filter was refused, by its reason code in a SUBACK and the Reason String of that packet; `None` where it was granted.
pub(super) fn refusal(code: packets::SubscribeReasonCode, why: &str) -> Option<Cow<'static, str>> {
    use packets::SubscribeReasonCode as Code;
    let text = match code {
        Code::Success(_) => return None,
        Code::Failure | Code::Unspecified => "no reason given",
        Code::ImplementationSpecific => "the broker cannot do it",
        Code::NotAuthorized => "not allowed",
        Code::TopicFilterInvalid => "not a filter",
        Code::PkidInUse => "packet id in use",
        Code::QuotaExceeded => "too many subscriptions",
        Code::SharedSubscriptionsNotSupported => "the broker has no shared subscriptions",
        Code::SubscriptionIdNotSupported => "the broker has no subscription identifiers",
        Code::WildcardSubscriptionsNotSupported => "the broker has no wildcard subscriptions",
    };
    Some(if why.is_empty() { text.into() } else { format!("{text}{}", because(why)).into() })
}

/// What a broker says in a Reason String, fit for logs and terminals; empty where it says nothing.
pub(super) fn reason_string(text: Option<&str>) -> String {
    let shown: String = text.unwrap_or_default().chars().take(MAX_REASON_STRING).collect();
    printable(&shown)
}
