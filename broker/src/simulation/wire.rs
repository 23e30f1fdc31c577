//! The packets of a simulated client: those of the integration tests, which know nothing of our codec.

pub(super) use rantai_testing::{
    Ack, Connack, Connect, Packet, Property, Publish, Suback, Version, Will, ack, disconnect, pingreq,
    subscribe, unsubscribe,
};

/// Takes the first packet off `bytes`, once it is all there.
pub(super) fn take_packet(version: Version, bytes: &mut Vec<u8>) -> Option<Packet> {
    let length = rantai_testing::length_of_first(bytes).expect("the broker writes packets")?;
    if length > bytes.len() {
        return None;
    }
    let packet: Vec<u8> = bytes.drain(..length).collect();
    Some(rantai_testing::read_packet(version, &packet).expect("the broker writes packets"))
}
