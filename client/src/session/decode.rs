//! From acknowledgements of the broker to results.

use std::borrow::Cow;

use rumqttc::v5::mqttbytes::v5 as packets;

use super::error::{Unsent, because};
use crate::printable;

/// Characters that are taken of a Reason String.
const MAX_REASON_STRING: usize = 400;

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
