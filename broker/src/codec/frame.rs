//! Framing: boundaries of packets.

use super::error::DecodeError;
use super::reason::Reason;

/// A packet in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Packet type and flags.
    pub(crate) first: u8,
    /// Number of bytes of the fixed header.
    pub(crate) header: usize,
    /// Number of bytes of the whole packet, including the header.
    pub(crate) length: usize,
}

/// Returns the frame at the start of a buffer, as described by its fixed header; it may not be complete yet. `Ok(None)`
/// means that even the header is incomplete. Refuses a frame above `limit` bytes as soon as its length is known, and
/// types and flags that no client may send.
pub(crate) fn frame(buffer: &[u8], limit: u32) -> Result<Option<Frame>, DecodeError> {
    let [first, rest @ ..] = buffer else { return Ok(None) };
    match (first >> 4, first & 0x0F) {
        (3, _) | (6 | 8 | 10, 2) | (1 | 4 | 5 | 7 | 12 | 14 | 15, 0) => {}
        (2 | 9 | 11 | 13, 0) => return Err(DecodeError::protocol("a packet that only a server sends")),
        (0, _) => return Err(DecodeError::malformed("packet type 0")),
        _ => return Err(DecodeError::malformed("reserved flags of the fixed header")),
    }
    let mut remaining = 0;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(DecodeError::malformed("a remaining length in more bytes than it needs"));
            }
            let header = index + 2;
            let length = header + remaining;
            if length > limit as usize {
                let reason = Reason::PACKET_TOO_LARGE;
                return Err(DecodeError { reason, text: "the packet is above the maximum packet size" });
            }
            return Ok(Some(Frame { first: *first, header, length }));
        }
    }
    if rest.len() >= 4 {
        return Err(DecodeError::malformed("a remaining length of more than four bytes"));
    }
    Ok(None)
}
