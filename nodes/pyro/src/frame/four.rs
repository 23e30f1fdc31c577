//! Frames of Pyro4: a header of 24 bytes with a checksum. Correlation ids and message digests are annotations.

use bytes::Bytes;
use ring::hmac;

use super::{
    CORRELATION, Flags, Frame, FrameError, FrameLimits, Kind, Raw, Version, annotations, size, take,
};

/// Version in the header.
pub(super) const VERSION: u16 = 48;
/// Annotation with the correlation id.
pub(super) const CORRELATION_NAME: [u8; 4] = *b"CORR";
/// Annotation with the message digest: HMAC-SHA1.
const DIGEST_NAME: [u8; 4] = *b"HMAC";
const HEADER: usize = 24;
const CHECKSUM: u16 = 0x34E9;

pub(super) fn read(buffer: &[u8], limits: FrameLimits) -> Result<Option<Raw>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let short = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let [kind, flags, sequence, serializer, annotated] = [6, 8, 10, 16, 18].map(short);
    let data = i32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    if short(22) != checksum([kind, flags, sequence, serializer, annotated], data.cast_unsigned()) {
        return Err(FrameError::Header);
    }
    let data = usize::try_from(data).map_err(|_| FrameError::Header)?;
    let kind = Kind::read(kind)?;
    let annotated = usize::from(annotated);
    let size = size(HEADER, annotated, data, limits)?;
    let Some(frame) = buffer.get(..size) else { return Ok(None) };
    let mut annotations = annotations(&frame[HEADER..HEADER + annotated], 2)?;
    let digest = take(&mut annotations, DIGEST_NAME);
    let correlation = take(&mut annotations, CORRELATION_NAME)
        .map(|value| <[u8; CORRELATION]>::try_from(&value[..]).map_err(|_| FrameError::Annotations));
    let frame = Frame {
        version: Version::Four,
        kind,
        serializer,
        flags: Flags(flags),
        sequence,
        correlation: correlation.transpose()?,
        annotations,
        data: Bytes::copy_from_slice(&frame[HEADER + annotated..]),
    };
    Ok(Some(Raw { frame, digest, size }))
}

pub(super) fn write(frame: &Frame, key: Option<&hmac::Key>) -> Vec<u8> {
    let mut annotations: Vec<([u8; 4], &[u8])> =
        frame.annotations.iter().map(|(name, value)| (*name, &value[..])).collect();
    if let Some(correlation) = &frame.correlation {
        annotations.push((CORRELATION_NAME, correlation));
    }
    let digest = key.map(|key| hmac::sign(key, &frame.signed()));
    if let Some(digest) = &digest {
        annotations.push((DIGEST_NAME, digest.as_ref()));
    }
    // The gateway's own annotations are a correlation id, a digest and the id of a stream.
    let annotated: usize = annotations.iter().map(|(_, value)| 6 + value.len()).sum();
    let fields = [frame.kind as u16, frame.flags.0, frame.sequence, frame.serializer, annotated as u16];
    let data = frame.data.len() as u32;
    let [kind, flags, sequence, serializer, annotated_field] = fields;
    let mut bytes = Vec::with_capacity(HEADER + annotated + frame.data.len());
    bytes.extend_from_slice(b"PYRO");
    for field in [VERSION, kind, flags, sequence] {
        bytes.extend_from_slice(&field.to_be_bytes());
    }
    bytes.extend_from_slice(&data.to_be_bytes());
    for field in [serializer, annotated_field, 0, checksum(fields, data)] {
        bytes.extend_from_slice(&field.to_be_bytes());
    }
    for (name, value) in annotations {
        bytes.extend_from_slice(&name);
        bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
        bytes.extend_from_slice(value);
    }
    bytes.extend_from_slice(&frame.data);
    bytes
}

/// Returns the sum of the header's fields: type, flags, sequence, serializer and size of the annotations, and size of the data.
fn checksum(fields: [u16; 5], data: u32) -> u16 {
    let sum = fields.into_iter().fold(VERSION.wrapping_add(CHECKSUM), u16::wrapping_add);
    sum.wrapping_add(data as u16)
}
