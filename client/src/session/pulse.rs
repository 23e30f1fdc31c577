//! Keep-alive, without I/O. Time is tokio's, which tests can pause.

use std::time::Duration;

use tokio::time::Instant;

/// Decides when to send PINGREQ, and when the broker counts as dead.
pub(super) struct Pulse {
    keep_alive: Duration,
    /// Interval at which to call [`beat`](Self::beat).
    pub(super) interval: Duration,
    sent: Instant,
    /// Time of the last read.
    pub(super) received: Instant,
    pinged: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Quiet,
    Ping,
    Dead,
}

impl Pulse {
    pub(super) fn new(keep_alive: Duration) -> Self {
        let now = Instant::now();
        let interval = (keep_alive / 4).max(Duration::from_millis(100));
        Self { keep_alive, interval, sent: now, received: now, pinged: None }
    }

    pub(super) fn sent(&mut self) {
        self.sent = Instant::now();
    }

    /// Records that bytes were read, which shows that the broker is alive.
    pub(super) fn received(&mut self) {
        self.received = Instant::now();
    }

    pub(super) fn answered(&mut self) {
        self.pinged = None;
    }

    /// Requests a PINGREQ if nothing was sent, or nothing received, for three quarters of the keep-alive. Reports the
    /// broker as dead if nothing is received for another keep-alive after that.
    pub(super) fn beat(&mut self) -> Beat {
        let now = Instant::now();
        if let Some(pinged) = self.pinged {
            let silent = now.duration_since(pinged.max(self.received));
            return if silent >= self.keep_alive { Beat::Dead } else { Beat::Quiet };
        }
        let quiet = now.duration_since(self.sent.min(self.received));
        if quiet * 4 < self.keep_alive * 3 {
            return Beat::Quiet;
        }
        self.pinged = Some(now);
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn ping_is_sent_when_one_direction_is_silent() {
        for sends in [true, false] {
            let mut pulse = Pulse::new(Duration::from_secs(8));
            for _ in 0..2 {
                advance(Duration::from_secs(3)).await;
                if sends {
                    pulse.sent();
                } else {
                    pulse.received();
                }
            }
            assert_eq!(pulse.beat(), Beat::Ping, "six of eight seconds");
            pulse.answered();
            pulse.sent();
            pulse.received();
            assert_eq!(pulse.beat(), Beat::Quiet);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn broker_is_dead_a_keep_alive_after_an_unanswered_ping() {
        let mut pulse = Pulse::new(Duration::from_secs(8));
        advance(Duration::from_secs(6)).await;
        assert_eq!(pulse.beat(), Beat::Ping);
        advance(Duration::from_secs(5)).await;
        pulse.received();
        advance(Duration::from_secs(7)).await;
        assert_eq!(pulse.beat(), Beat::Quiet, "something else was received meanwhile");
        advance(Duration::from_secs(1)).await;
        assert_eq!(pulse.beat(), Beat::Dead);
    }
}
