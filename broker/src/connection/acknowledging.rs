//! Immediate TCP acknowledgement of packets that MQTT does not answer.
//!
//! A client with Nagle's algorithm on (the default of paho, mqtt.js and libmosquitto) sends PUBACK for a reply, and
//! holds its next request back until TCP has acknowledged that segment. PUBACK and PUBCOMP have no answer in MQTT that
//! could carry the acknowledgement, so the kernel would delay it by 40 ms, in every call.

/// Number of bytes without a request from which a client counts as a pure consumer. It holds no request back, and an
/// extra TCP segment for each of its acknowledgements would slow down a fan-out.
const PURE_CONSUMER_BYTES: u32 = 4 << 10;

/// Bytes read since the last packet that MQTT answers.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    /// Bytes read in this batch.
    read: u32,
    /// Bytes read in earlier batches.
    before: u32,
}

impl Unanswered {
    /// Counts bytes read.
    pub(super) fn read(&mut self, count: usize) {
        self.read = self.read.saturating_add(count.try_into().unwrap_or(u32::MAX));
    }

    /// Resets the counts after a packet that MQTT answers, at once or later.
    pub(super) fn asked(&mut self) {
        *self = Self::default();
    }

    /// Ends a batch. Returns whether to acknowledge by TCP: the batch contained only packets without an answer, and
    /// the client is not a pure consumer.
    pub(super) fn end_batch(&mut self) -> bool {
        let read = std::mem::take(&mut self.read);
        self.before = self.before.saturating_add(read);
        read > 0 && self.before <= PURE_CONSUMER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(unanswered: &mut Unanswered, read: usize, asked: bool) -> bool {
        unanswered.read(read);
        if asked {
            unanswered.asked();
        }
        unanswered.end_batch()
    }

    #[test]
    fn only_a_batch_without_a_request_is_acknowledged() {
        let mut unanswered = Unanswered::default();
        assert!(!batch(&mut unanswered, 0, false), "nothing was read");
        assert!(batch(&mut unanswered, 4, false));
        assert!(!batch(&mut unanswered, 104, true));
        assert!(batch(&mut unanswered, 4, false));
    }

    #[test]
    fn a_client_that_only_consumes_is_not_acknowledged_until_it_asks_again() {
        let mut unanswered = Unanswered::default();
        assert!((0..PURE_CONSUMER_BYTES / 4).all(|_| batch(&mut unanswered, 4, false)));
        assert!(!batch(&mut unanswered, 4, false));
        assert!(!batch(&mut unanswered, 4, false));
        assert!(!batch(&mut unanswered, 100, true));
        assert!(batch(&mut unanswered, 4, false));
    }
}
