//! Deadline of a client that is silent or does not complete a packet.

use crate::config::Limits;

/// Bytes that a batch has received.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchReceived {
    /// Whether the batch contained a complete packet.
    pub(super) packet: bool,
    /// Bytes at its end that begin or continue an unfinished packet; 0 if there is none.
    pub(super) bytes: usize,
    /// Whether the unfinished packet began in an earlier batch.
    pub(super) continued: bool,
}

/// Returns the time, in milliseconds, by which the next packet has to be complete, or an unfinished one has to
/// continue; `u64::MAX` means no deadline. `until` is the previous result, or `u64::MAX` if the socket was not read
/// meanwhile, so that all time limits start again.
///
/// Only complete packets renew the keep-alive (`silence` in milliseconds; 0 means none) \[MQTT-3.1.2-22]. An
/// unfinished packet has `packet_grace`, which each byte extends by its time at `packet_bytes_per_s`, but never to
/// more than `packet_grace` from now. A large packet may thus take long, while one that stops or trickles is cut off.
pub(super) fn deadline(until: u64, now: u64, silence: u32, heard: BatchReceived, limits: &Limits) -> u64 {
    let anew = heard.packet || until == u64::MAX;
    let until = match (anew, silence) {
        (false, _) => until,
        (true, 0) => u64::MAX,
        (true, silence) => now + u64::from(silence),
    };
    let rate = u64::from(limits.packet_bytes_per_s);
    if heard.bytes == 0 && !heard.continued || rate == 0 {
        return until;
    }
    let earned = (heard.bytes as u64 * 1000).div_ceil(rate);
    let grace = limits.packet_grace.as_millis() as u64;
    until.saturating_add(earned).min(now + grace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: BatchReceived = BatchReceived { packet: true, bytes: 0, continued: false };
    const NEVER: u64 = u64::MAX;

    fn begun(bytes: usize) -> BatchReceived {
        BatchReceived { packet: false, bytes, continued: false }
    }

    fn more(bytes: usize) -> BatchReceived {
        BatchReceived { packet: false, bytes, continued: true }
    }

    /// Uploads `bytes` every `pause` ms, `times` times. Returns whether the client is still connected at the end.
    fn survives(silence: u32, pause: u64, bytes: usize, times: u64) -> bool {
        let limits = Limits::default();
        let mut until = deadline(NEVER, 0, silence, PACKET, &limits);
        let mut heard = begun(bytes);
        for now in (0..times).map(|time| 1 + time * pause) {
            if until < now {
                return false;
            }
            until = deadline(until, now, silence, heard, &limits);
            heard = more(bytes);
        }
        true
    }

    #[test]
    fn only_complete_packets_renew_the_keep_alive() {
        let limits = Limits::default();
        assert_eq!(deadline(NEVER, 1_000, 1_500, PACKET, &limits), 2_500);
        assert_eq!(deadline(2_500, 2_000, 1_500, PACKET, &limits), 3_500);
        assert_eq!(deadline(2_500, 2_000, 1_500, begun(0), &limits), 2_500, "nothing was read");
        assert_eq!(deadline(NEVER, 1_000, 0, PACKET, &limits), NEVER, "no keep-alive");
    }

    #[test]
    fn one_byte_per_second_does_not_keep_a_client_connected() {
        for silence in [0, 1_500, 90_000, 600_000] {
            assert!(survives(silence, 1_000, 1, 2), "{silence}");
            assert!(!survives(silence, 1_000, 1, 14), "{silence}");
        }
        assert!(!survives(1_500, 1_000, 1, 4), "its keep-alive is shorter");
    }

    #[test]
    fn a_slow_upload_survives_a_shorter_keep_alive() {
        for silence in [0, 1_500, 90_000] {
            // Two megabytes at the minimum rate, and the same in segments every 1.4 seconds.
            assert!(survives(silence, 100, 103, 20_000), "{silence}");
            assert!(survives(silence, 1_425, 1_460, 1_400), "{silence}");
        }
    }

    #[test]
    fn a_fast_upload_that_stops_is_cut_off() {
        let limits = Limits::default();
        let until = deadline(NEVER, 0, 0, begun(1 << 20), &limits);
        assert_eq!(until, 10_000);
        assert_eq!(deadline(until, 5_000, 0, more(1 << 20), &limits), 15_000);
    }

    #[test]
    fn time_limits_restart_after_the_socket_was_not_read() {
        let limits = Limits::default();
        assert_eq!(deadline(NEVER, 50_000, 1_500, begun(0), &limits), 51_500);
        assert_eq!(deadline(NEVER, 50_000, 0, more(0), &limits), 60_000);
    }

    #[test]
    fn without_a_minimum_rate_only_packets_count() {
        let limits = Limits { packet_bytes_per_s: 0, ..Limits::default() };
        assert_eq!(deadline(2_000, 1_000, 1_500, more(100), &limits), 2_000);
        assert_eq!(deadline(NEVER, 1_000, 0, begun(100), &limits), NEVER);
    }
}
