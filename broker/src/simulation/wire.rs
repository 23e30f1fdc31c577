//! Packets of a simulated client: those of the integration tests, which are independent of the broker's codec.

pub(super) use rantai_testing::{
    Ack, Connack, Connect, Packet, Property, Publish, Suback, Version, Will, ack, disconnect, pingreq,
    subscribe, unsubscribe,
};

/// Removes the first packet from `bytes`; `None` if it is not complete.
pub(super) fn take_packet(version: Version, bytes: &mut Vec<u8>) -> Option<Packet> {
    let length = rantai_testing::length_of_first(bytes).expect("the broker writes packets")?;
    if length > bytes.len() {
        return None;
    }
    let packet: Vec<u8> = bytes.drain(..length).collect();
    Some(rantai_testing::read_packet(version, &packet).expect("the broker writes packets"))
}
