//! Frames of Pyro5: a header of 40 bytes.

use bytes::Bytes;

use super::{Flags, Frame, FrameError, FrameLimits, Kind, Raw, Version, annotations, size};

/// Version in the header.
pub(super) const VERSION: u16 = 502;
const HEADER: usize = 40;
const MAGIC: u16 = 0x4dc5;
/// Flag of a frame with a correlation id, which stands in the header.
const CORRELATED: u16 = 1 << 6;

/// Flags with the bits of Pyro5.
const FLAGS: [(u16, Flags); 6] = [
    (1, Flags::EXCEPTION),
    (1 << 1, Flags::COMPRESSED),
    (1 << 2, Flags::ONEWAY),
    (1 << 3, Flags::BATCH),
    (1 << 4, Flags::ITEM_STREAM),
    (1 << 5, Flags::KEEP_SERIALIZED),
];

pub(super) fn read(buffer: &[u8], limits: FrameLimits) -> Result<Option<Raw>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let short = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if short(38) != MAGIC {
        return Err(FrameError::Header);
    }
    let kind = Kind::read(u16::from(header[6]))?;
    let bits = short(8);
    let (data, annotated) = (long(12) as usize, long(16) as usize);
    let size = size(HEADER, annotated, data, limits)?;
    let Some(frame) = buffer.get(..size) else { return Ok(None) };
    let flags = FLAGS.iter().filter(|(bit, _)| bits & bit != 0);
    let mut correlation = [0; super::CORRELATION];
    correlation.copy_from_slice(&header[20..36]);
    let frame = Frame {
        version: Version::Five,
        kind,
        serializer: u16::from(header[7]),
        flags: flags.fold(Flags::default(), |flags, (_, flag)| flags.with(*flag)),
        sequence: short(10),
        correlation: (bits & CORRELATED != 0).then_some(correlation),
        annotations: annotations(&frame[HEADER..HEADER + annotated], 4)?,
        data: Bytes::copy_from_slice(&frame[HEADER + annotated..]),
    };
    Ok(Some(Raw { frame, digest: None, size }))
}

pub(super) fn write(frame: &Frame) -> Vec<u8> {
    let set = FLAGS.iter().filter(|(_, flag)| frame.flags.has(*flag));
    let mut flags = set.fold(0, |flags, (bit, _)| flags | bit);
    if frame.correlation.is_some() {
        flags |= CORRELATED;
    }
    let annotated: usize = frame.annotations.iter().map(|(_, value)| 8 + value.len()).sum();
    let mut bytes = Vec::with_capacity(HEADER + annotated + frame.data.len());
    bytes.extend_from_slice(b"PYRO");
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[frame.kind as u8, frame.serializer as u8]);
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&frame.sequence.to_be_bytes());
    bytes.extend_from_slice(&(frame.data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&(annotated as u32).to_be_bytes());
    bytes.extend_from_slice(&frame.correlation.unwrap_or_default());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&MAGIC.to_be_bytes());
    for (name, value) in &frame.annotations {
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
        bytes.extend_from_slice(value);
    }
    bytes.extend_from_slice(&frame.data);
    bytes
}
