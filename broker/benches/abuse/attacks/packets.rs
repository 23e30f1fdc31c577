//! What attackers write that nobody else does, and how they read.

use std::io;

use rantai_load::packet::{PUBACK, PUBLISH};
use rantai_testing::{frame, string, variable_integer};

use crate::wire::Wire;

/// Reads what has come and acknowledges it. Returns how many PUBACKs were in it.
pub(crate) fn read_all(wire: &mut Wire) -> io::Result<usize> {
    let (mut acknowledgements, mut acknowledged) = (Vec::new(), 0);
    while wire.fill(usize::MAX)? > 0 {
        while let Some(frame) = wire.next_frame() {
            match frame.kind() {
                PUBLISH => frame.acknowledge(&mut acknowledgements),
                PUBACK => acknowledged += 1,
                _ => {}
            }
        }
    }
    wire.out().append(&mut acknowledgements);
    wire.flush()?;
    Ok(acknowledged)
}

/// Reads what has come and throws it away: nothing is acknowledged.
pub(crate) fn read_silently(wire: &mut Wire) -> io::Result<()> {
    while wire.fill(usize::MAX)? > 0 {
        wire.forget();
    }
    Ok(())
}

/// The header of a packet that says it has `length` bytes behind it, for packets that are never finished.
pub(crate) fn unfinished_publish(topic: &str, length: u32) -> Vec<u8> {
    let mut bytes = vec![0x30];
    bytes.extend(variable_integer(length));
    bytes.extend(string(topic));
    bytes.push(0);
    bytes
}

/// A PUBLISH with properties given as bytes, which may be more than anybody would write by hand.
pub(crate) fn publish_with(topic: &str, packet_id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = string(topic);
    body.extend(packet_id.to_be_bytes());
    body.extend(variable_integer(properties.len() as u32));
    body.extend_from_slice(properties);
    body.extend_from_slice(payload);
    frame(0x32, &body)
}
