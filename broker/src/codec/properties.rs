//! Checks of MQTT 5 properties that rmqtt-codec lacks: a repeated property, or a value that the standard forbids, is a
//! protocol error (0x82) and not a malformed packet (0x81).

use std::ops::Range;

use super::error::DecodeError;
use super::id;
use super::reason::Reason;
use super::version::Version;

/// Error of a packet other than PUBLISH with too many user properties: it is not read any further.
pub(crate) const TOO_MANY_USER_PROPERTIES: DecodeError =
    DecodeError { reason: Reason::QUOTA_EXCEEDED, text: "more user properties than limits.user_properties" };

/// Returns the range of the properties whose length is at `body[at]`. `None` if they exceed the packet, or if their
/// length is encoded in more bytes than necessary.
pub(super) fn span(body: &[u8], at: usize) -> Option<Range<usize>> {
    let (length, size) = variable_length(body.get(at..)?)?;
    let start = at + size;
    (start + length <= body.len()).then_some(start..start + length)
}

/// Checks the properties of any packet. Returns the offset of the value of a Message Expiry Interval of 0, if there is
/// one.
///
/// # Errors
///
/// A protocol error, or [`TOO_MANY_USER_PROPERTIES`]. Unreadable properties are not reported here, but by the decoder
/// that reads them next.
pub(super) fn check(properties: &[u8], user_limit: usize) -> Result<Option<usize>, DecodeError> {
    let mut seen = 0_u64;
    let mut no_expiry = None;
    let (mut at, mut user) = (0, 0);
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
            id::USER_PROPERTY => {
                user += 1;
                if user > user_limit {
                    return Err(TOO_MANY_USER_PROPERTIES);
                }
            }
            _ => {}
        }
        at += value.len();
    }
    Ok(no_expiry)
}

/// Checks the properties of a CONNECT and of its will. Returns the offset in `body` of the will's Message Expiry
/// Interval, if it is 0.
pub(super) fn check_connect(
    body: &[u8],
    will: bool,
    user_limit: usize,
) -> Result<Option<usize>, DecodeError> {
    let Some(own) = span(body, 10) else { return Ok(None) };
    let after = own.end;
    check(&body[own], user_limit)?;
    let wills = if will { skip_field(body, after).and_then(|at| span(body, at)) } else { None };
    let Some(wills) = wills else { return Ok(None) };
    let start = wills.start;
    Ok(check(&body[wills], user_limit)?.map(|at| start + at))
}

/// Returns the Subscription Identifier among the properties of a SUBSCRIBE. An UNSUBSCRIBE may not have one.
///
/// # Errors
///
/// A property is not allowed in the packet, or cannot be read (malformed packet).
pub(super) fn subscription_identifier(
    properties: &[u8],
    subscribe: bool,
) -> Result<Option<u32>, DecodeError> {
    let mut found = None;
    let mut at = 0;
    while let Some(&identifier) = properties.get(at) {
        at += 1;
        let rest = &properties[at..];
        let value = value_length(identifier, rest).and_then(|length| rest.get(..length));
        let value = value.ok_or(DecodeError::malformed("the packet ends too soon"))?;
        match identifier {
            id::SUBSCRIPTION_IDENTIFIER if subscribe => {
                found = variable_length(value).map(|(value, _)| value as u32);
            }
            id::USER_PROPERTY => {
                let name_end = skip_field(value, 0).unwrap_or_default();
                checked_text(value.get(2..name_end))?;
                checked_text(value.get(name_end + 2..))?;
            }
            _ => return Err(DecodeError::malformed("a property that the packet does not have")),
        }
        at += value.len();
    }
    Ok(found)
}

fn checked_text(bytes: Option<&[u8]>) -> Result<(), DecodeError> {
    let text = bytes.map(std::str::from_utf8);
    match text {
        Some(Ok(text)) if text.contains('\0') => Err(DecodeError::malformed("NUL in a user property")),
        Some(Ok(_)) => Ok(()),
        _ => Err(DecodeError::malformed("a string that is not UTF-8")),
    }
}

/// Refuses a variable byte integer in more bytes than necessary \[MQTT-1.5.5-1], which the library accepts.
pub(super) fn shortest(bytes: &[u8]) -> Result<(), DecodeError> {
    let last = bytes.iter().take(4).position(|byte| byte & 0x80 == 0);
    if last.is_some_and(|last| last > 0 && bytes[last] == 0) {
        return Err(DecodeError::malformed("a length in more bytes than it needs"));
    }
    Ok(())
}

/// Returns the end of the string or binary data that begins at `body[at]`.
pub(super) fn skip_field(body: &[u8], at: usize) -> Option<usize> {
    let length = u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]);
    Some(at + 2 + usize::from(length))
}

/// Returns the length of the property value at the start of `rest`; `None` for an identifier that does not exist.
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

/// Decodes a variable byte integer. Returns its value and its number of bytes; `None` if it is cut off or longer than
/// necessary \[MQTT-1.5.5-1].
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

/// Returns the length that the fields of a CONNECT require. It is compared with the length of the packet, because the
/// library accepts trailing bytes.
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
            assert_eq!(check(properties, 9).unwrap_err().reason, Reason::PROTOCOL_ERROR, "{properties:02X?}");
        }
    }

    #[test]
    fn other_errors_are_left_to_the_decoder() {
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
            assert_eq!(check(properties, 2), Ok(None), "{properties:02X?}");
        }
        assert_eq!(check(b"\x01\x01\x02\x00\x00\x00\x00", 0), Ok(Some(3)));
    }

    #[test]
    fn no_property_is_read_after_the_first_user_property_above_the_limit() {
        let properties = [&b"\x26\0\x01a\0\x01b".repeat(3)[..], b"\x0B\0"].concat();
        assert_eq!(check(&properties, 2), Err(TOO_MANY_USER_PROPERTIES));
        assert_eq!(check(&properties, 3).unwrap_err().reason, Reason::PROTOCOL_ERROR);
    }

    #[test]
    fn a_span_lies_within_its_packet() {
        assert_eq!(span(b"ab\x02xyz", 2), Some(3..5));
        for cut in [&b"ab"[..], b"ab\x04xyz", b"ab\x80", b"ab\x81\x00x"] {
            assert_eq!(span(cut, 2), None, "{cut:02X?}");
        }
    }
}
