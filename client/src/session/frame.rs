//! Bytes to packets, by rumqttc's codec behind a check of ours: a packet is handed to it only as a whole, so that
//! what it calls incomplete is malformed, and never waited for.

use bytes::{Buf, BytesMut};
use rumqttc::v5::mqttbytes::v5::{Disconnect, DisconnectReasonCode, Packet};

/// Why the stream cannot be read any further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a packet of {size} bytes; {limit} were announced as the most")]
    TooLarge { size: usize, limit: usize },
    #[error("a malformed packet: {0}")]
    Malformed(String),
}

/// Takes the next packet off, once all of it has come.
pub(super) fn next(bytes: &mut BytesMut, limit: usize) -> Result<Option<Packet>, FrameError> {
    let Some(size) = size(bytes)? else { return Ok(None) };
    if size > limit {
        return Err(FrameError::TooLarge { size, limit });
    }
    if bytes.len() < size {
        // The rest comes into the same allocation.
        bytes.reserve(size - bytes.len());
        return Ok(None);
    }
    // A DISCONNECT without a reason code, or without properties behind it, is in order (MQTT 5, 3.14.2.1 and 3.14.2.2.1);
    // the codec knows neither.
    if size == 2 && bytes[0] == 0xE0 {
        bytes.advance(2);
        let reason_code = DisconnectReasonCode::NormalDisconnection;
        return Ok(Some(Packet::Disconnect(Disconnect { reason_code, properties: None })));
    }
    let mut frame = bytes.split_to(size);
    if size == 3 && frame[0] == 0xE0 {
        frame = BytesMut::from(&[0xE0, 2, frame[2], 0][..]);
    }
    Packet::read(&mut frame, None).map(Some).map_err(|error| FrameError::Malformed(error.to_string()))
}

/// The size of the packet that begins here; `None` as long as that cannot be told.
fn size(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let mut length = 0;
    for position in 0..4 {
        let Some(byte) = bytes.get(1 + position) else { return Ok(None) };
        length |= usize::from(byte & 0x7F) << (7 * position);
        if byte & 0x80 == 0 {
            return Ok(Some(2 + position + length));
        }
    }
    Err(FrameError::Malformed("a length of more than four bytes".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::v5::mqttbytes::v5::{PubAck, Publish};

    fn publish(payload: usize) -> BytesMut {
        let mut bytes = BytesMut::new();
        let publish = Publish::new("a/b", rumqttc::v5::mqttbytes::QoS::AtMostOnce, vec![7; payload], None);
        Packet::Publish(publish).write(&mut bytes, None).expect("a packet");
        bytes
    }

    #[test]
    fn packets_come_whole_however_they_are_cut() {
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
            assert!(matches!(&found[0], Packet::Publish(p) if p.payload.len() == 300));
            assert!(matches!(&found[2], Packet::Disconnect(_)));
        }
    }

    #[test]
    fn disconnect_may_leave_out_its_properties() {
        for mut bytes in [BytesMut::from(&[0xE0, 1, 0x8E][..]), BytesMut::from(&[0xE0, 2, 0x8E, 0][..])] {
            let packet = next(&mut bytes, 200).expect("in order").expect("whole");
            let Packet::Disconnect(farewell) = packet else { panic!("{packet:?}") };
            assert_eq!(farewell.reason_code, DisconnectReasonCode::SessionTakenOver);
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn what_lies_about_its_length_is_an_error_and_no_wait() {
        assert_eq!(
            next(&mut publish(300), 200),
            Err(FrameError::TooLarge { size: 309, limit: 200 }),
            "told before the rest has come"
        );
        // The topic is longer than the packet: the codec calls that incomplete.
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
