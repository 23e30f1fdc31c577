//! The packets of a simulated client: those of the integration tests, which know nothing of our codec.
#![expect(dead_code, reason = "the simulation uses its own part of the kit")]

#[path = "../../tests/support/incoming.rs"]
mod incoming;
#[path = "../../tests/support/outgoing.rs"]
mod outgoing;
#[path = "../../tests/support/property.rs"]
mod property;
#[path = "../../tests/support/version.rs"]
mod version;

pub(super) use incoming::Packet;
pub(super) use outgoing::{Connect, Publish, Will, ack, disconnect, subscribe};
pub(super) use property::Property;
pub(super) use version::Version;

/// Client ids are given.
fn unique() -> String {
    String::new()
}

/// Takes the first packet off `bytes`, once it is all there.
pub(super) fn take_packet(version: Version, bytes: &mut Vec<u8>) -> Option<Packet> {
    let mut remaining = 0;
    for (index, &byte) in bytes.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let length = index + 2 + remaining;
            if length > bytes.len() {
                return None;
            }
            let packet: Vec<u8> = bytes.drain(..length).collect();
            return Some(incoming::read_packet(version, &packet));
        }
    }
    None
}
