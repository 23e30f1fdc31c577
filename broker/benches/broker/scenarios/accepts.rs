//! Rate of connections that only send CONNECT.

use std::time::Instant;

use rantai_load::connection::Connection;
use rantai_load::packet;

use crate::bench::{Bench, Metric, Table, Unit};

/// Number of concurrent connections: enough to keep a broker busy, and below mosquitto's backlog of 100.
const CONCURRENT_CONNECTIONS: usize = 32;

pub(crate) fn run(bench: &Bench) -> Table {
    let (warm_up, length) = (bench.options.warm_up(), bench.options.sample());
    let case = bench.short_case("connect, CONNACK, disconnect", &Bench::brokers(), Vec::new(), |round| {
        let server = round.server()?;
        let started = Instant::now();
        let mut counting: Option<(Instant, usize)> = None;
        let mut accepted = 0;
        loop {
            let mut open = Vec::with_capacity(CONCURRENT_CONNECTIONS);
            for number in accepted..accepted + CONCURRENT_CONNECTIONS {
                let mut connection = Connection::open_numbered(server.address(), number, round.deadline)?;
                connection.send(&packet::connect(&format!("bench-{number}")))?;
                open.push(connection);
            }
            for mut connection in open {
                connection.connected()?;
                connection.send(&packet::DISCONNECT)?;
            }
            accepted += CONCURRENT_CONNECTIONS;
            let now = Instant::now();
            match counting {
                None if now - started >= warm_up => counting = Some((now, accepted)),
                Some((since, before)) if now - since >= length => {
                    return Ok(vec![(accepted - before) as f64 / (now - since).as_secs_f64()]);
                }
                _ => {}
            }
        }
    });
    Table {
        title: "Accepted connections",
        text: format!(
            "{CONCURRENT_CONNECTIONS} at a time connect, wait for the CONNACK, send DISCONNECT and close."
        ),
        metrics: vec![Metric { name: "connections", unit: Unit::PerSecond }],
        cases: vec![case],
    }
}
