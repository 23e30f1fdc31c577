//! Encodings of one message, shared by all receivers of the same form.

use crate::codec::{self, Encoded, Outgoing, Version};
use crate::message::Message;
use crate::pool::{POOLED_BUFFER_BYTES, SHARED_PAYLOAD_BYTES};

/// Encodings of one message, by version, QoS and retain flag; each is made at most once.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    slots: [Option<Encoded>; 12],
    bytes: [Vec<u8>; 12],
}

impl Frames {
    /// Clears the encodings, for another message.
    pub(crate) fn reset(&mut self) {
        self.slots = [None; 12];
        for bytes in &mut self.bytes {
            // The buffer of a message with very large properties is not kept.
            if bytes.capacity() > POOLED_BUFFER_BYTES {
                *bytes = Vec::new();
            }
        }
    }

    pub(crate) fn get(
        &mut self,
        message: &Message,
        version: Version,
        outgoing: Outgoing<'_>,
        now: u64,
    ) -> (&[u8], Encoded) {
        let index = usize::from(version == Version::V5) * 6
            + outgoing.qos as usize * 2
            + usize::from(outgoing.retain);
        let bytes = &mut self.bytes[index];
        let encoded = *self.slots[index].get_or_insert_with(|| {
            bytes.clear();
            let encoded = codec::encode_publish(message, outgoing, version, now, bytes);
            if message.payload.len() < SHARED_PAYLOAD_BYTES {
                bytes.extend_from_slice(&message.payload);
            }
            encoded
        });
        (bytes, encoded)
    }
}
