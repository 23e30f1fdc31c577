//! An honest client that comes anew again and again: whether a broker still takes connections.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rantai_load::latencies::Latencies;
use rantai_load::packet::DISCONNECT;

use super::Signals;
use super::client::client;

/// Between two connections.
const PERIOD: Duration = Duration::from_millis(100);

/// What came of the connections.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    /// From the beginning of a connection to its CONNACK, during the attack.
    pub(crate) latencies: Latencies,
    /// Connections that were refused, closed or not answered for as long as honest clients wait.
    pub(crate) refused: u64,
    /// Why the last of them was.
    pub(crate) reason: Option<String>,
}

/// Connects and disconnects until it is told to stop.
pub(crate) fn come_and_go(broker: SocketAddr, signals: &Signals) -> Arrivals {
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
        // After a connection that took long the next one is not made up for.
        next = (next + PERIOD).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    arrivals
}
