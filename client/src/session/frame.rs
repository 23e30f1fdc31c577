//! Decodes bytes to packets: PUBLISH by the codec of [`publish`](super::publish), all others by that of rumqttc after
//! own checks. It gets only whole packets, so that a packet that it calls incomplete is malformed.

use bytes::{Buf, BytesMut};
use rumqttc::v5::mqttbytes::v5::{Disconnect, DisconnectReasonCode, Packet};

use super::publish::{self, Received};

/// Packet from the broker.
#[derive(Debug)]
pub(super) enum Incoming {
    Publish(Received),
    Other(Packet),
}

/// Packet type of PUBLISH, in the high half of its first byte.
const PUBLISH: u8 = 3;

/// Reason why the stream cannot be decoded any further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a packet of {size} bytes; {limit} were announced as the most")]
    TooLarge { size: usize, limit: usize },
    #[error("a malformed packet: {0}")]
    Malformed(String),
}

/// Removes and decodes the next packet, if it has arrived completely.
pub(super) fn next(bytes: &mut BytesMut, limit: usize) -> Result<Option<Incoming>, FrameError> {
    let Some(Size { header, size }) = size(bytes)? else { return Ok(None) };
    if size > limit {
        return Err(FrameError::TooLarge { size, limit });
    }
    if bytes.len() < size {
        // The rest is read into the same allocation.
        bytes.reserve(size - bytes.len());
        return Ok(None);
    }
    // A DISCONNECT may lack its reason code, or the properties after it (MQTT 5, 3.14.2.1 and 3.14.2.2.1); rumqttc's
    // codec accepts neither.
    if size == 2 && bytes[0] == 0xE0 {
        bytes.advance(2);
        let reason_code = DisconnectReasonCode::NormalDisconnection;
        let disconnect = Disconnect { reason_code, properties: None };
        return Ok(Some(Incoming::Other(Packet::Disconnect(disconnect))));
    }
    let mut frame = bytes.split_to(size);
    if frame[0] >> 4 == PUBLISH {
        let flags = frame[0] & 0x0F;
        frame.advance(header);
        return match publish::decode(flags, frame.freeze()) {
            Ok(received) => Ok(Some(Incoming::Publish(received))),
            Err(text) => Err(FrameError::Malformed(format!("PUBLISH: {text}"))),
        };
    }
    if size == 3 && frame[0] == 0xE0 {
        frame = BytesMut::from(&[0xE0, 2, frame[2], 0][..]);
    }
    let packet = Packet::read(&mut frame, None);
    packet
        .map(|packet| Some(Incoming::Other(packet)))
        .map_err(|error| FrameError::Malformed(error.to_string()))
}

struct Size {
    /// Length of the fixed header, in bytes.
    header: usize,
    /// Length of the whole packet, in bytes.
    size: usize,
}

/// Returns the size of the packet at the start of `bytes`; `None` if more bytes are needed to know it.
fn size(bytes: &[u8]) -> Result<Option<Size>, FrameError> {
    let mut length = 0;
    for position in 0..4 {
        let Some(byte) = bytes.get(1 + position) else { return Ok(None) };
        length |= usize::from(byte & 0x7F) << (7 * position);
        if byte & 0x80 == 0 {
            let header = 2 + position;
            return Ok(Some(Size { header, size: header + length }));
        }
    }
    Err(FrameError::Malformed("a length of more than four bytes".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::message::Publish;
    use rumqttc::v5::mqttbytes::v5::PubAck;

    fn publish(payload: usize) -> BytesMut {
        let mut bytes = BytesMut::new();
        let publish = Publish::new("a/b", vec![7; payload]).qos(crate::session::QoS::AtMostOnce);
        publish::encode(&publish, 0, false, &mut bytes);
        bytes
    }

    #[test]
    fn packets_are_decoded_however_the_stream_is_split() {
        let mut all = publish(300);
        let mut ack = BytesMut::new();
        PubAck::new(9, None).write(&mut ack).expect("a packet");
        all.extend_from_slice(&ack);
        all.extend_from_slice(&[0xE0, 0]);
        for step in 1..all.len() {
            let (mut bytes, mut found) = (BytesMut::new(), Vec::new());
            for piece in all.chunks(step) {
                bytes.extend_from_slice(piece);
                while let Some(packet) = next(&mut bytes, 1_000).expect("in order") {
                    found.push(packet);
                }
            }
            assert!(bytes.is_empty() && found.len() == 3, "{step}");
            assert!(matches!(&found[0], Incoming::Publish(p) if p.message.payload.len() == 300));
            assert!(matches!(&found[2], Incoming::Other(Packet::Disconnect(_))));
        }
    }

    #[test]
    fn disconnect_may_leave_out_its_properties() {
        for mut bytes in [BytesMut::from(&[0xE0, 1, 0x8E][..]), BytesMut::from(&[0xE0, 2, 0x8E, 0][..])] {
            let packet = next(&mut bytes, 200).expect("in order").expect("whole");
            let Incoming::Other(Packet::Disconnect(farewell)) = packet else { panic!("{packet:?}") };
            assert_eq!(farewell.reason_code, DisconnectReasonCode::SessionTakenOver);
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn packet_with_a_wrong_inner_length_is_an_error() {
        let refused = next(&mut publish(300), 200).expect_err("told before the rest has come");
        assert_eq!(refused, FrameError::TooLarge { size: 309, limit: 200 });
        // The length field of the topic exceeds the packet.
        let mut lie = BytesMut::from(&[0x30, 4, 0, 200, b'a', b'b'][..]);
        assert!(matches!(next(&mut lie, 200), Err(FrameError::Malformed(_))));
        let mut endless = BytesMut::from(&[0x30, 0x80, 0x80, 0x80, 0x80, 1][..]);
        assert!(matches!(next(&mut endless, 200), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn random_bytes_end_in_an_error_or_a_packet_and_never_in_a_panic() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200_000 {
            let mut bytes = publish(20);
            for _ in 0..random.usize(0..4) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(0..=bytes.len()));
            let _ = next(&mut bytes, 1_000);
        }
    }
}
