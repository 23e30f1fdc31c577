//! Limits of a gateway's clients.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;

/// Limits of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at the same time; whoever comes then is turned away.
    pub connections: NonZeroUsize,
    /// Of one address, or of one IPv6 network of 64 bits; half of `connections` without it (16 at least). Trusted proxies have no limit.
    pub connections_per_address: Option<NonZeroUsize>,
    /// TLS handshakes of one address that are under way; a tenth of its connections without it.
    pub handshakes_per_address: Option<NonZeroUsize>,
    /// A TLS handshake has to end within this time.
    pub handshake_ms: u64,
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// A request's head has to arrive within this time, also the next one's of a connection.
    pub head_ms: u64,
    /// And its body.
    pub body_ms: u64,
    /// A call ends within this time; a client may ask for less with `Prefer: wait=SECONDS`.
    pub call_ms: u64,
    /// Calls a second of one user, or of one address where there are no users; 0 is any number.
    pub rate_per_s: u32,
    /// Streams of events at the same time.
    pub streams: usize,
    /// Of one user, or of one address where there are no users; its fair share of `streams` without it.
    pub streams_per_caller: Option<u64>,
    /// Calls of one object that wait at the same time.
    pub calls_per_object: u64,
    /// Of one user, or of one address where there are no users; its fair share of `calls_per_object` without it.
    pub calls_per_caller: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: NonZeroUsize::new(4_096).expect("not 0"),
            connections_per_address: None,
            handshakes_per_address: None,
            handshake_ms: 10_000,
            body_bytes: 1 << 20,
            head_ms: 10_000,
            body_ms: 10_000,
            call_ms: 30_000,
            rate_per_s: 0,
            streams: 256,
            streams_per_caller: None,
            calls_per_object: 160,
            calls_per_caller: None,
        }
    }
}

/// Connections that one address may always have, or `connections` if that is less.
const SMALLEST_SHARED: usize = 16;

impl Limits {
    pub(super) fn connections_of_address(&self) -> usize {
        let most = self.connections.get();
        let half = most.div_ceil(2).max(SMALLEST_SHARED).min(most);
        self.connections_per_address.map_or(half, NonZeroUsize::get)
    }

    pub(super) fn handshakes_of_address(&self) -> usize {
        let tenth = self.connections_of_address().div_ceil(10);
        self.handshakes_per_address.map_or(tenth, NonZeroUsize::get)
    }

    pub(super) fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms)
    }

    pub(super) fn head(&self) -> Duration {
        Duration::from_millis(self.head_ms)
    }

    pub(super) fn body(&self) -> Duration {
        Duration::from_millis(self.body_ms)
    }

    pub(super) fn call(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }
}
