//! Unusual packets of attackers, and their ways of reading.

use std::io;

use rantai_load::packet::{PUBACK, PUBLISH};
use rantai_testing::{frame, string, variable_integer};

use crate::wire::Wire;

/// Reads and acknowledges all available messages. Returns the number of PUBACKs among the packets.
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

/// Reads and discards all available packets without acknowledging any.
pub(crate) fn read_silently(wire: &mut Wire) -> io::Result<()> {
    while wire.fill(usize::MAX)? > 0 {
        wire.forget();
    }
    Ok(())
}

/// Returns the beginning of a packet that announces `length` bytes, for packets that are never finished.
pub(crate) fn unfinished_publish(topic: &str, length: u32) -> Vec<u8> {
    let mut bytes = vec![0x30];
    bytes.extend(variable_integer(length));
    bytes.extend(string(topic));
    bytes.push(0);
    bytes
}

/// Returns a PUBLISH with encoded properties.
pub(crate) fn publish_with(topic: &str, packet_id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = string(topic);
    body.extend(packet_id.to_be_bytes());
    body.extend(variable_integer(properties.len() as u32));
    body.extend_from_slice(properties);
    body.extend_from_slice(payload);
    frame(0x32, &body)
}
