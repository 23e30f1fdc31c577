//! Measurements on one broker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rantai_load::calls::{self, Load};
use rantai_load::failure::Failure;
use rantai_load::latencies::Latencies;

use crate::brokers::{Certificates, Kind, Running, Transport};
use crate::options::Options;
use crate::{cores, flood};

/// Time limit, longer than any part of a round.
const TIME_LIMIT: Duration = Duration::from_mins(2);
/// Number of threads that make handshakes: enough to keep a single-threaded broker busy.
const HANDSHAKERS: usize = 4;
/// Number of idle connections whose memory is measured.
const IDLE_CONNECTIONS: usize = 1_000;

/// Results of one round; 0 for measurements that were omitted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Calls per second with 64 in flight, by transport.
    pub(crate) calls: [f64; 4],
    /// p50 of a call with one in flight, in microseconds, by transport.
    pub(crate) latency: [f64; 4],
    /// Full handshakes per second.
    pub(crate) handshakes: f64,
    /// Memory of an idle connection in KiB, over TCP and over TLS.
    pub(crate) idle: [f64; 2],
    /// p99 of another client's echo in microseconds: without a flood of handshakes, with a flood of another broker,
    /// and with a flood of its own.
    pub(crate) flood: [f64; 3],
    /// Handshakes per second in the flood of its own broker.
    pub(crate) flooded: f64,
}

pub(crate) fn measure(
    kind: Kind,
    certificates: &Certificates,
    options: &Options,
) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    if options.has("calls") {
        cores::share();
        let broker = kind.start(certificates)?;
        for (transport, figure) in Transport::ALL.into_iter().zip(&mut figures.calls) {
            *figure = ask(&broker, transport, 64, options, &mut Latencies::new())?;
        }
    }
    if options.has("latency") {
        cores::share();
        let broker = kind.start(certificates)?;
        cores::separate(broker.server.pid);
        for (transport, figure) in Transport::ALL.into_iter().zip(&mut figures.latency) {
            let mut latencies = Latencies::new();
            ask(&broker, transport, 1, options, &mut latencies)?;
            *figure = latencies.micros(0.5);
        }
    }
    cores::share();
    if options.has("handshakes") {
        figures.handshakes = handshakes(&kind.start(certificates)?, options.sample)?;
    }
    if options.has("idle") {
        for (transport, figure) in [Transport::Tcp, Transport::Tls].into_iter().zip(&mut figures.idle) {
            *figure = weigh(&kind.start(certificates)?, transport)?;
        }
    }
    if options.has("flood") {
        (figures.flood, figures.flooded) = flood::measure(kind, certificates, options.sample)?;
    }
    Ok(figures)
}

fn ask(
    broker: &Running<'_>,
    transport: Transport,
    in_flight: usize,
    options: &Options,
    latencies: &mut Latencies,
) -> Result<f64, Failure> {
    let deadline = Instant::now() + TIME_LIMIT;
    let load = Load { qos: 0, payload: 100, in_flight, warm_up: options.sample / 4, length: options.sample };
    let caller = broker.connect(transport, "bench-caller", deadline)?;
    let responder = broker.connect(transport, "bench-responder", deadline)?;
    calls::measure_between(caller, responder, &load, latencies)
        .map_err(|failure| failure.during(&format!("calls over {transport}")))
}

/// Connects over TLS repeatedly, each time until the CONNACK. Returns the number of connections per second.
fn handshakes(broker: &Running<'_>, sample: Duration) -> Result<f64, Failure> {
    let began = Instant::now();
    let (warm, end) = (began + sample / 4, began + sample / 4 + sample);
    let made = AtomicUsize::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..HANDSHAKERS)
            .map(|number| {
                let made = &made;
                scope.spawn(move || -> Result<(), Failure> {
                    while Instant::now() < end {
                        broker.connect(Transport::Tls, &format!("bench-{number}"), began + TIME_LIMIT)?;
                        if (warm..end).contains(&Instant::now()) {
                            made.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    Ok(made.into_inner() as f64 / sample.as_secs_f64())
}

/// Returns the growth of the broker's resident memory by idle connections, in KiB per connection.
fn weigh(broker: &Running<'_>, transport: Transport) -> Result<f64, Failure> {
    let deadline = Instant::now() + TIME_LIMIT;
    // Memory that is allocated once, for the first connections, is not counted.
    let first: Result<Vec<_>, _> =
        (0..20).map(|number| broker.connect(transport, &format!("bench-first-{number}"), deadline)).collect();
    let before = broker.server.memory()?;
    let open: Result<Vec<_>, _> = (0..IDLE_CONNECTIONS)
        .map(|number| broker.connect(transport, &format!("bench-idle-{number}"), deadline))
        .collect();
    // The memory of the handshakes is freed by then.
    thread::sleep(Duration::from_millis(500));
    let after = broker.server.memory()?;
    drop((first?, open?));
    Ok(after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64 / 1024.0)
}
