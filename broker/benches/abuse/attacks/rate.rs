//! Rate limit of an attacker.

use std::time::{Duration, Instant};

use super::attacker::Attacker;

/// Time for which unused tokens are kept.
const BURST: Duration = Duration::from_millis(20);

/// Token bucket, which gives both brokers the same load.
#[derive(Debug)]
pub(crate) struct Rate<'a> {
    attacker: &'a Attacker,
    per_second: f64,
    filled: Instant,
    tokens: f64,
}

impl<'a> Rate<'a> {
    /// Creates a rate of `per_second` tokens. The first is available at once.
    pub(super) fn new(attacker: &'a Attacker, per_second: f64) -> Self {
        Self { attacker, per_second, filled: Instant::now(), tokens: 1.0 }
    }

    /// Waits for this number of tokens. Returns false when the attack is over.
    pub(crate) fn take(&mut self, tokens: usize) -> bool {
        let wanted = tokens as f64;
        loop {
            if self.attacker.is_over() {
                return false;
            }
            let now = Instant::now();
            let more = now.duration_since(self.filled).as_secs_f64() * self.per_second;
            self.tokens = (self.tokens + more).min((self.per_second * BURST.as_secs_f64()).max(wanted));
            self.filled = now;
            if self.tokens >= wanted {
                self.tokens -= wanted;
                self.attacker.step();
                return true;
            }
            let missing = Duration::from_secs_f64((wanted - self.tokens) / self.per_second);
            self.attacker.sleep(missing.max(Duration::from_millis(1)));
        }
    }
}
