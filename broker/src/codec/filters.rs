//! SUBSCRIBE and UNSUBSCRIBE: the filters stay in the packet and are decoded one by one, as there may be half a
//! million.

use bytes::Bytes;
use bytestring::ByteString;

use super::error::DecodeError;
use super::frame::Frame;
use super::packet::{Options, Packet, RetainHandling, Subscribe};
use super::properties;
use super::version::Version;
use crate::message::QoS;

/// Bytes of filters checked at once: a fraction of a millisecond, even if each filter is a single letter.
const BYTES_PER_CHECK: usize = 64 << 10;

/// Iterator over the filters of a packet. The filters of a large packet have to be checked first, in parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PacketFilters {
    rest: Bytes,
    /// Number of bytes of `rest` that were checked.
    checked: usize,
    options: OptionsByte,
}

/// Byte that follows each filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OptionsByte {
    /// None, in UNSUBSCRIBE.
    None,
    /// A QoS, in SUBSCRIBE of MQTT 3.1.1.
    Qos,
    /// Subscription Options, in SUBSCRIBE of MQTT 5.
    All,
}

/// Decodes a SUBSCRIBE or UNSUBSCRIBE, which shares the memory of `whole`.
pub(super) fn decode(
    frame: Frame,
    whole: &Bytes,
    version: Version,
    user_limit: usize,
) -> Result<Packet, DecodeError> {
    let subscribe = frame.first >> 4 == 8;
    let body = whole.slice(frame.header..);
    let id = match body.get(..2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => return Err(TOO_SHORT),
    };
    if id == 0 {
        return Err(DecodeError::malformed("packet identifier 0"));
    }
    let (mut identifier, mut payload) = (None, 2);
    if version == Version::V5 {
        properties::shortest(&body[2..])?;
        let span = properties::span(&body, 2).ok_or(TOO_SHORT)?;
        payload = span.end;
        properties::check(&body[span.clone()], user_limit)?;
        identifier = properties::subscription_identifier(&body[span], subscribe)?;
    }
    let options = match version {
        _ if !subscribe => OptionsByte::None,
        Version::V3 => OptionsByte::Qos,
        Version::V5 => OptionsByte::All,
    };
    let filters = PacketFilters::new(body.slice(payload..), options, version)?;
    Ok(if subscribe {
        Packet::Subscribe(Subscribe { id, identifier, filters })
    } else {
        Packet::Unsubscribe { id, filters }
    })
}

impl PacketFilters {
    fn new(payload: Bytes, options: OptionsByte, version: Version) -> Result<Self, DecodeError> {
        let is_empty = payload.is_empty() || version == Version::V3 && payload.starts_with(&[0, 0]);
        if is_empty {
            return Err(DecodeError::protocol("no topic filter, or an empty one"));
        }
        let mut filters = Self { rest: payload, checked: 0, options };
        filters.check_some()?;
        Ok(filters)
    }

    /// Returns whether all filters were checked, so that they may be iterated.
    pub(crate) fn are_checked(&self) -> bool {
        self.checked == self.rest.len()
    }

    /// Checks the next part of the filters.
    ///
    /// # Errors
    ///
    /// The packet is malformed, or a protocol error.
    pub(crate) fn check_some(&mut self) -> Result<(), DecodeError> {
        let end = self.rest.len().min(self.checked + BYTES_PER_CHECK);
        while self.checked < end {
            let (filter, options) = self.first(self.checked)?;
            if filter.contains(&0) {
                return Err(DecodeError::malformed("NUL in a string"));
            }
            std::str::from_utf8(filter).map_err(|_| DecodeError::malformed("a string that is not UTF-8"))?;
            self.options.check(options, filter)?;
            self.checked += self.length(filter);
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the filter that begins at `at`, and the options byte after it (0 if there is none).
    fn first(&self, at: usize) -> Result<(&[u8], u8), DecodeError> {
        let end = properties::skip_field(&self.rest, at).ok_or(TOO_SHORT)?;
        let filter = self.rest.get(at + 2..end).ok_or(TOO_SHORT)?;
        let options = if self.options == OptionsByte::None { Some(&0) } else { self.rest.get(end) };
        Ok((filter, *options.ok_or(TOO_SHORT)?))
    }

    /// Returns the number of bytes of `filter` with its length and options.
    fn length(&self, filter: &[u8]) -> usize {
        2 + filter.len() + usize::from(self.options != OptionsByte::None)
    }
}

impl Iterator for PacketFilters {
    type Item = (ByteString, Options);

    fn next(&mut self) -> Option<Self::Item> {
        if self.checked == 0 {
            return None;
        }
        let (filter, options) = self.first(0).ok()?;
        let (length, options) = (self.length(filter), read_options(options));
        let filter = ByteString::try_from(self.rest.slice_ref(filter)).ok()?;
        self.rest = self.rest.slice(length..);
        self.checked -= length;
        Some((filter, options))
    }
}

impl OptionsByte {
    /// Refuses values that the standards forbid (MQTT 5, 3.8.3.1; MQTT 3.1.1, 3.8.3).
    fn check(self, options: u8, filter: &[u8]) -> Result<(), DecodeError> {
        match self {
            Self::Qos if filter.is_empty() => Err(DecodeError::protocol("no topic filter, or an empty one")),
            Self::Qos if options > 2 => Err(DecodeError::malformed("reserved bits of a requested QoS")),
            Self::All if options & 0xC0 != 0 => {
                Err(DecodeError::malformed("reserved bits of subscription options"))
            }
            Self::All if options & 3 == 3 => Err(DecodeError::protocol("a requested QoS of 3")),
            Self::All if options >> 4 & 3 == 3 => Err(DecodeError::protocol("a retain handling of 3")),
            _ => Ok(()),
        }
    }
}

fn read_options(options: u8) -> Options {
    Options {
        qos: QoS::from_bits(options & 3).unwrap_or_default(),
        no_local: options & 4 != 0,
        retain_as_published: options & 8 != 0,
        retain_handling: RetainHandling::from_bits(options >> 4 & 3).unwrap_or_default(),
    }
}

const TOO_SHORT: DecodeError =
    DecodeError { reason: super::reason::Reason::MALFORMED_PACKET, text: "the packet ends too soon" };

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::codec::{Reason, frame};

    fn read(first: u8, body: &[u8], version: Version) -> Result<Packet, DecodeError> {
        let mut bytes = vec![first];
        crate::codec::publish::put_variable_length(&mut bytes, body.len());
        bytes.extend_from_slice(body);
        let mut buffer = BytesMut::from(&bytes[..]);
        let frame = frame(&buffer, u32::MAX).unwrap().unwrap();
        crate::codec::decode(frame, &mut buffer, Some(version), 0, 3)
    }

    fn filters(packet: Result<Packet, DecodeError>) -> PacketFilters {
        match packet.unwrap() {
            Packet::Subscribe(Subscribe { filters, .. }) | Packet::Unsubscribe { filters, .. } => filters,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn filters_are_decoded_as_encoded() {
        let subscribe = read(0x82, b"\0\x07\x02\x0B\x05\0\x03a/+\x1E\0\x01#\x01", Version::V5);
        let Ok(Packet::Subscribe(Subscribe { id: 7, identifier: Some(5), .. })) = subscribe else {
            panic!("{subscribe:?}")
        };
        let options = Options {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::IfNew,
        };
        let second = Options { qos: QoS::AtLeastOnce, ..Options::default() };
        let found: Vec<_> = filters(subscribe).collect();
        assert_eq!(found, [("a/+".into(), options), ("#".into(), second)]);
        let found: Vec<_> = filters(read(0xA2, b"\0\x01\0\x01a\0\x02bc", Version::V3)).collect();
        assert_eq!(found, [("a".into(), Options::default()), ("bc".into(), Options::default())]);
    }

    #[test]
    fn filters_that_the_standards_forbid_are_refused() {
        let cases: &[(u8, &[u8], Version, Reason)] = &[
            (0x82, b"\0\x01\0", Version::V5, Reason::PROTOCOL_ERROR),
            (0xA2, b"\0\x01", Version::V3, Reason::PROTOCOL_ERROR),
            (0x82, b"\0\x01\0\0\0", Version::V3, Reason::PROTOCOL_ERROR),
            (0x82, b"\0\0\0\0\x01a\0", Version::V5, Reason::MALFORMED_PACKET),
            (0x82, b"\0\x01\0\0\x01a", Version::V5, Reason::MALFORMED_PACKET),
            (0x82, b"\0\x01\0\0\x01a\x03", Version::V5, Reason::PROTOCOL_ERROR),
            (0x82, b"\0\x01\0\0\x01a\x30", Version::V5, Reason::PROTOCOL_ERROR),
            (0x82, b"\0\x01\0\0\x01a\x40", Version::V5, Reason::MALFORMED_PACKET),
            (0x82, b"\0\x01\0\0\x01a\x01\0\x02b", Version::V5, Reason::MALFORMED_PACKET),
            (0x82, b"\0\x01\0\0\x01\0\x01", Version::V5, Reason::MALFORMED_PACKET),
            (0xA2, b"\0\x01\0\0\x01\xFF", Version::V5, Reason::MALFORMED_PACKET),
            (0xA2, b"\0\x01\x02\x0B\x05\0\x01a", Version::V5, Reason::MALFORMED_PACKET),
            (0x82, b"\0\x01\x02\x01\x01\0\x01a\x01", Version::V5, Reason::MALFORMED_PACKET),
            (0x82, b"\0\x01\x05\x26\0\x01\0\0\0\x01a\x01", Version::V5, Reason::MALFORMED_PACKET),
            (0x82, b"\0\x01\x09\0\x01a\x01", Version::V5, Reason::MALFORMED_PACKET),
        ];
        for (first, body, version, reason) in cases {
            let refused = read(*first, body, *version).expect_err("refused");
            assert_eq!(refused.reason, *reason, "{body:02X?}: {}", refused.text);
        }
    }

    #[test]
    fn a_large_packet_is_checked_in_parts_before_any_filter_is_taken() {
        let mut body = b"\0\x01\0".to_vec();
        body.extend(b"\0\x01a\x01".repeat(3 * BYTES_PER_CHECK / 4));
        let mut whole = filters(read(0x82, &body, Version::V5));
        let mut parts = 1;
        while !whole.are_checked() {
            whole.check_some().unwrap();
            parts += 1;
        }
        assert_eq!((parts, whole.count()), (3, 3 * BYTES_PER_CHECK / 4));
        *body.last_mut().unwrap() = 3;
        let mut broken = filters(read(0x82, &body, Version::V5));
        broken.check_some().unwrap();
        assert_eq!(broken.check_some().unwrap_err().reason, Reason::PROTOCOL_ERROR);
    }
}
