//! Clients that only say hello.

use std::time::Instant;

use rantai_load::connection::Connection;
use rantai_load::packet;

use crate::bench::{Bench, Metric, Table, Unit};

/// Connections open at a time: enough to keep a broker busy, few enough for mosquitto's backlog of 100.
const AT_ONCE: usize = 32;

pub(crate) fn run(bench: &Bench) -> Table {
    let (warm_up, length) = (bench.options.warm_up(), bench.options.sample());
    let case = bench.short_case("connect, CONNACK, disconnect", &Bench::brokers(), Vec::new(), |round| {
        let server = round.server()?;
        let started = Instant::now();
        let mut counting: Option<(Instant, usize)> = None;
        let mut accepted = 0;
        loop {
            let mut open = Vec::with_capacity(AT_ONCE);
            for number in accepted..accepted + AT_ONCE {
                let mut connection = Connection::open_numbered(server.address(), number, round.deadline)?;
                connection.send(&packet::connect(&format!("bench-{number}")))?;
                open.push(connection);
            }
            for mut connection in open {
                connection.connected()?;
                connection.send(&packet::DISCONNECT)?;
            }
            accepted += AT_ONCE;
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
        text: format!("{AT_ONCE} at a time connect, wait for the CONNACK, send DISCONNECT and close."),
        metrics: vec![Metric { name: "connections", unit: Unit::PerSecond }],
        cases: vec![case],
    }
}
