//! Limits on a gateway's clients.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};

/// Limits on clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Maximum number of connections; further ones are closed.
    pub connections: NonZeroUsize,
    /// Maximum number of connections of one address, or of one IPv6 network of 64 bits. Default: half of `connections` (at
    /// least 16). Trusted proxies have no limit.
    pub connections_per_address: Option<NonZeroUsize>,
    /// Maximum number of TLS handshakes in progress of one address. Default: a tenth of its connections.
    pub handshakes_per_address: Option<NonZeroUsize>,
    /// Time limit of a TLS handshake, in milliseconds.
    #[serde(deserialize_with = "positive")]
    pub handshake_ms: u64,
    /// Maximum size of a body, in bytes.
    pub body_bytes: usize,
    /// Time limit for the head of a request to arrive, also for the next request of a connection, in milliseconds.
    #[serde(deserialize_with = "positive")]
    pub head_ms: u64,
    /// Time limit for the body of a request to arrive, in milliseconds.
    #[serde(deserialize_with = "positive")]
    pub body_ms: u64,
    /// Time limit of a call in milliseconds; a client may request less with `Prefer: wait=SECONDS`.
    #[serde(deserialize_with = "positive")]
    pub call_ms: u64,
    /// Maximum rate of calls per second of one user, or of one address if there are no users; 0 for no limit.
    pub rate_per_s: u32,
    /// Maximum number of event streams.
    pub streams: usize,
    /// Maximum number of event streams of one user, or of one address if there are no users. Default: its fair share of
    /// `streams`.
    #[serde(deserialize_with = "some_positive")]
    pub streams_per_caller: Option<u64>,
    /// Maximum number of calls of one object in progress.
    #[serde(deserialize_with = "positive")]
    pub calls_per_object: u64,
    /// Maximum number of calls in progress of one object by one user, or by one address if there are no users. Default: its
    /// fair share of `calls_per_object`.
    #[serde(deserialize_with = "some_positive")]
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

/// Deserializes a limit that is not 0, with which no request would ever be answered.
fn positive<'de, D: Deserializer<'de>>(reader: D) -> Result<u64, D::Error> {
    let limit = u64::deserialize(reader)?;
    if limit > 0 {
        Ok(limit)
    } else {
        Err(D::Error::custom("must be at least 1; leave the key out for the default"))
    }
}

fn some_positive<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<u64>, D::Error> {
    positive(reader).map(Some)
}

/// Minimum of the default number of connections per address, unless `connections` is less.
const MIN_CONNECTIONS_PER_ADDRESS: usize = 16;

impl Limits {
    pub(super) fn connections_of_address(&self) -> usize {
        let most = self.connections.get();
        let half = most.div_ceil(2).max(MIN_CONNECTIONS_PER_ADDRESS).min(most);
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
