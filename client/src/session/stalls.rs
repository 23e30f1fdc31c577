//! Brokers that wait for TCP: with Nagle's algorithm on (mosquitto without `set_tcp_nodelay`) a broker sends PUBACK and holds
//! the reply back until TCP has acknowledged that segment, which the kernel delays by 40 ms where there is nothing to write.

use std::ops::Range;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long Linux delays an acknowledgement, and some time for the way.
const DELAY: Range<Duration> = Duration::from_millis(38)..Duration::from_millis(60);
/// So many such waits are no chance.
const ENOUGH: u8 = 3;

/// Counts the reads that came when a delayed acknowledgement had gone out. Acknowledging each read at once would cost a
/// packet where the broker does not wait for it.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    quiet_since: Option<Instant>,
    count: u8,
}

impl Stalls {
    /// Something was read at `now`.
    pub(super) fn read(&mut self, now: Instant) {
        if let Some(since) = self.quiet_since.take()
            && DELAY.contains(&(now - since))
        {
            self.count = self.count.saturating_add(1);
        }
    }

    /// Something was written, which carried the acknowledgement.
    pub(super) fn written(&mut self) {
        self.quiet_since = None;
    }

    /// Nothing is to be written in return for what was read at `received`; true where it should be acknowledged at once.
    pub(super) fn quiet(&mut self, received: Instant) -> bool {
        self.quiet_since = Some(received);
        self.count >= ENOUGH
    }
}

/// Has TCP acknowledge at once what was read. Elsewhere than on Linux there is no such option.
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

    /// A read with nothing to write in return, and the next one so many milliseconds later.
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
    fn other_waits_are_no_stalls() {
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
