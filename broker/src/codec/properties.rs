//! What rmqtt-codec does not tell apart in the properties of MQTT 5: a property that stands twice, or whose value the
//! standard forbids, is a protocol error (0x82) and not a malformed packet (0x81).

use std::ops::Range;

use super::id;
use super::packet::{DecodeError, Version};

/// Where the properties are whose length stands at `body[at]`; `None` where they do not fit into the packet, or where
/// their length is longer than it needs to be.
pub(super) fn span(body: &[u8], at: usize) -> Option<Range<usize>> {
    let (length, size) = variable_length(body.get(at..)?)?;
    let start = at + size;
    (start + length <= body.len()).then_some(start..start + length)
}

/// Checks the properties of any packet. Returns where the value of a Message Expiry Interval of 0 begins, if there is one.
///
/// # Errors
///
/// A protocol error. What cannot be read is left to whoever reads the properties.
pub(super) fn check(properties: &[u8]) -> Result<Option<usize>, DecodeError> {
    let mut seen = 0_u64;
    let mut no_expiry = None;
    let mut at = 0;
    while let Some(&identifier) = properties.get(at) {
        at += 1;
        let Some(value) =
            value_length(identifier, &properties[at..]).and_then(|length| properties.get(at..at + length))
        else {
            break;
        };
        let bit = 1_u64 << (identifier & 63);
        if identifier != id::USER_PROPERTY && seen & bit != 0 {
            return Err(DecodeError::protocol("a property that may stand once stands twice"));
        }
        seen |= bit;
        let zero = value.iter().all(|&byte| byte == 0);
        match identifier {
            id::PAYLOAD_FORMAT if value[0] > 1 => {
                return Err(DecodeError::protocol("a payload format other than 0 and 1"));
            }
            id::REQUEST_PROBLEM_INFORMATION | id::REQUEST_RESPONSE_INFORMATION if value[0] > 1 => {
                return Err(DecodeError::protocol("a request for information other than 0 and 1"));
            }
            id::SUBSCRIPTION_IDENTIFIER if zero => {
                return Err(DecodeError::protocol("a subscription identifier of 0"));
            }
            id::RECEIVE_MAXIMUM if zero => return Err(DecodeError::protocol("a receive maximum of 0")),
            id::MAXIMUM_PACKET_SIZE if zero => {
                return Err(DecodeError::protocol("a maximum packet size of 0"));
            }
            id::MESSAGE_EXPIRY if zero => no_expiry = Some(at),
            _ => {}
        }
        at += value.len();
    }
    Ok(no_expiry)
}

/// Checks the properties of a CONNECT and of its will. Returns where in `body` the will's Message Expiry Interval stands,
/// if it is 0.
pub(super) fn check_connect(body: &[u8], will: bool) -> Result<Option<usize>, DecodeError> {
    let Some(own) = span(body, 10) else { return Ok(None) };
    let after = own.end;
    check(&body[own])?;
    let wills = if will { skip_field(body, after).and_then(|at| span(body, at)) } else { None };
    let Some(wills) = wills else { return Ok(None) };
    let start = wills.start;
    Ok(check(&body[wills])?.map(|at| start + at))
}

/// Refuses values of Subscription Options that the standard forbids (MQTT 5, 3.8.3.1), `filters` being the payload of a
/// SUBSCRIBE. Reserved bits, and a payload that cannot be read, are left to the library.
pub(super) fn check_subscription_options(filters: &[u8]) -> Result<(), DecodeError> {
    let mut at = 0;
    while let Some(options_at) = skip_field(filters, at)
        && let Some(&options) = filters.get(options_at)
    {
        if options & 0xC0 == 0 {
            if options & 3 == 3 {
                return Err(DecodeError::protocol("a requested QoS of 3"));
            }
            if options >> 4 & 3 == 3 {
                return Err(DecodeError::protocol("a retain handling of 3"));
            }
        }
        at = options_at + 1;
    }
    Ok(())
}

/// Where the string or binary data ends that begins at `body[at]`.
pub(super) fn skip_field(body: &[u8], at: usize) -> Option<usize> {
    let length = u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]);
    Some(at + 2 + usize::from(length))
}

/// How many bytes the value takes that `rest` begins with; `None` for an identifier that does not exist.
fn value_length(identifier: u8, rest: &[u8]) -> Option<usize> {
    let text = |at: usize| Some(2 + usize::from(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?])));
    match identifier {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Some(1),
        0x13 | 0x21 | 0x22 | 0x23 => Some(2),
        0x02 | 0x11 | 0x18 | 0x27 => Some(4),
        0x0B => variable_length(rest).map(|(_, size)| size),
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => text(0),
        0x26 => {
            let name = text(0)?;
            Some(name + text(name)?)
        }
        _ => None,
    }
}

/// A variable byte integer and the bytes it takes; `None` where it is cut off or longer than it needs to be
/// \[MQTT-1.5.5-1].
fn variable_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return (byte != 0 || index == 0).then_some((value, index + 1));
        }
    }
    None
}

/// How long the body of a CONNECT is by its own fields: the library lets trailing bytes pass.
pub(super) fn connect_length(
    body: &[u8],
    version: Version,
    [will, user, password]: [bool; 3],
) -> Option<usize> {
    let properties_end = |at| match version {
        Version::V3 => Some(at),
        Version::V5 => span(body, at).map(|span| span.end),
    };
    let mut at = skip_field(body, properties_end(10)?)?;
    if will {
        at = skip_field(body, skip_field(body, properties_end(at)?)?)?;
    }
    for present in [user, password] {
        if present {
            at = skip_field(body, at)?;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Reason;

    #[test]
    fn values_that_the_standard_forbids_are_protocol_errors() {
        let wrong: [&[u8]; 9] = [
            b"\x0B\x00",
            b"\x0B\x01\x0B\x01",
            b"\x21\x00\x00",
            b"\x27\x00\x00\x00\x00",
            b"\x17\x02",
            b"\x19\x02",
            b"\x01\x02",
            b"\x26\x00\x01a\x00\x01b\x11\x00\x00\x00\x00\x11\x00\x00\x00\x01",
            b"\x1F\x00\x01a\x1F\x00\x01a",
        ];
        for properties in wrong {
            assert_eq!(check(properties).unwrap_err().reason, Reason::PROTOCOL_ERROR, "{properties:02X?}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_reader() {
        let fine: [&[u8]; 7] = [
            b"",
            b"\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b",
            b"\x21\x00\x01\x27\x00\x00\x00\x01\x17\x00\x19\x01",
            b"\x22\x00\x00",
            b"\x7F\x00",
            b"\x21\x00",
            b"\x26\x00\x01a\x00",
        ];
        for properties in fine {
            assert_eq!(check(properties), Ok(None), "{properties:02X?}");
        }
        assert_eq!(check(b"\x01\x01\x02\x00\x00\x00\x00"), Ok(Some(3)));
    }

    #[test]
    fn a_span_lies_within_its_packet() {
        assert_eq!(span(b"ab\x02xyz", 2), Some(3..5));
        for cut in [&b"ab"[..], b"ab\x04xyz", b"ab\x80", b"ab\x81\x00x"] {
            assert_eq!(span(cut, 2), None, "{cut:02X?}");
        }
    }
}
