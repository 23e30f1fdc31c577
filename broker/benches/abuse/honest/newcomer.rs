//! Honest client that connects repeatedly, to measure whether a broker still accepts connections.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rantai_load::latencies::Latencies;
use rantai_load::packet::DISCONNECT;

use super::Signals;
use super::client::client;

/// Time between two connections.
const CONNECT_PERIOD: Duration = Duration::from_millis(100);

/// Result of the connections.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    /// Times from the beginning of a connection to its CONNACK, during the attack.
    pub(crate) latencies: Latencies,
    /// Number of connections that were refused, closed, or not answered within the timeout of honest clients.
    pub(crate) refused: u64,
    /// Error of the last of them.
    pub(crate) reason: Option<String>,
}

/// Connects and disconnects until the stop signal.
pub(crate) fn connect_repeatedly(broker: SocketAddr, signals: &Signals) -> Arrivals {
    let mut arrivals = Arrivals { latencies: Latencies::new(), refused: 0, reason: None };
    let mut next = Instant::now();
    while !signals.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let came = client(broker, "honest-newcomer", None).and_then(|mut wire| {
            wire.out().extend(DISCONNECT);
            wire.flush()
        });
        match came {
            Ok(()) if signals.counted_from.get().is_some_and(|&from| began >= from) => {
                arrivals.latencies.record(began.elapsed());
            }
            Ok(()) => {}
            Err(error) => {
                arrivals.refused += 1;
                arrivals.reason = Some(error.to_string());
            }
        }
        // A connection that took long is not followed by several at once.
        next = (next + CONNECT_PERIOD).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    arrivals
}
