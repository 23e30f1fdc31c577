//! Converts acknowledgements of the broker to results.

use std::borrow::Cow;

use rumqttc::v5::mqttbytes::v5 as packets;

use super::error::{Unsent, because};
use crate::printable;

/// Maximum number of characters kept of a Reason String.
const MAX_REASON_STRING: usize = 400;

/// Returns the result of a publish according to its PUBACK.
pub(super) fn outcome(ack: &packets::PubAck) -> Result<(), Unsent> {
    use packets::PubAckReason as Reason;
    let why = ack_reason(ack);
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

/// Returns the Reason String of a PUBACK.
pub(super) fn ack_reason(ack: &packets::PubAck) -> String {
    reason_string(ack.properties.as_ref().and_then(|properties| properties.reason_string.as_deref()))
}

/// Returns why a filter was refused, from its reason code in a SUBACK and the packet's Reason String; `None` if it was
/// granted.
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

/// Returns a Reason String with control characters escaped, for logs and terminals; empty if there is none.
pub(super) fn reason_string(text: Option<&str>) -> String {
    let shown: String = text.unwrap_or_default().chars().take(MAX_REASON_STRING).collect();
    printable(&shown)
}
