//! Detects brokers that wait for delayed TCP acknowledgements. With Nagle's algorithm on (mosquitto without
//! `set_tcp_nodelay`), a broker sends PUBACK and holds the reply back until TCP has acknowledged that segment, which
//! the kernel delays by 40 ms if there is nothing to write.

use std::ops::Range;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

/// Range of times between two reads that reveals a delayed acknowledgement: Linux delays it by 40 ms, and the network
/// adds some.
const STALL_RANGE: Range<Duration> = Duration::from_millis(38)..Duration::from_millis(60);
/// Number of such reads in a row after which they count as no coincidence.
const STALLS_TO_DETECT: u8 = 3;

/// Counts the reads that arrived right after a delayed acknowledgement was due. Not every read is acknowledged at once,
/// because that would cost a packet with brokers that do not wait for it.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    quiet_since: Option<Instant>,
    count: u8,
}

impl Stalls {
    /// Records a read at `now`.
    pub(super) fn read(&mut self, now: Instant) {
        if let Some(since) = self.quiet_since.take()
            && STALL_RANGE.contains(&(now - since))
        {
            self.count = self.count.saturating_add(1);
        }
    }

    /// Records a write, which has carried the acknowledgement.
    pub(super) fn written(&mut self) {
        self.quiet_since = None;
    }

    /// Records that nothing is to be written in response to the read at `received`; returns true if that read should be
    /// acknowledged at once.
    pub(super) fn quiet(&mut self, received: Instant) -> bool {
        self.quiet_since = Some(received);
        self.count >= STALLS_TO_DETECT
    }
}

/// Makes TCP acknowledge the received bytes at once. Does nothing on systems other than Linux, which lack the option.
pub(super) fn acknowledge(stream: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = stream.set_quickack(true) {
        tracing::debug!("no TCP_QUICKACK: {error}");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = stream;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates a read without a response, and the next read after this many milliseconds.
    fn wait(stalls: &mut Stalls, milliseconds: u64) -> bool {
        let now = Instant::now();
        let acknowledge = stalls.quiet(now);
        stalls.read(now + Duration::from_millis(milliseconds));
        acknowledge
    }

    #[test]
    fn reads_are_acknowledged_at_once_after_three_stalls() {
        let mut stalls = Stalls::default();
        assert!(!wait(&mut stalls, 40) && !wait(&mut stalls, 1) && !wait(&mut stalls, 44));
        assert!(!wait(&mut stalls, 41));
        assert!(wait(&mut stalls, 1));
    }

    #[test]
    fn other_delays_do_not_count_as_stalls() {
        let mut stalls = Stalls::default();
        for milliseconds in [0, 1, 20, 37, 60, 200, 1_000] {
            assert!(!wait(&mut stalls, milliseconds));
        }
        for _ in 0..5 {
            let now = Instant::now();
            stalls.quiet(now);
            stalls.written();
            stalls.read(now + Duration::from_millis(40));
        }
        assert!(!wait(&mut stalls, 1));
    }
}
