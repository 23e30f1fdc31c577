//! Latency of a publish with many subscriptions that do not match.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rantai_load::connection::Connection;
use rantai_load::echo::Echo;
use rantai_load::failure::Failure;
use rantai_load::latencies::Latencies;
use rantai_load::packet::{self, DISCONNECT, SUBACK};

use crate::bench::{Bench, CaseGoal, Goal, Metric, Round, Table, Unit, alternate};

/// Number of clients, so that each has fewer than the 10,000 subscriptions that Rantai's broker grants.
const CLIENTS: usize = 20;
const PACKETS: usize = 50;
const FILTERS: usize = 100;
/// Number of times that the latency is measured with and without the subscriptions, alternating, on one broker.
const ALTERNATIONS: usize = 3;

pub(crate) fn run(bench: &Bench) -> Table {
    let length = bench.options.sample() / 2;
    let aims = vec![CaseGoal { metric: 4, goal: Goal::AtMost(1.1) }];
    let limit = Duration::from_mins(1);
    let case = alternate(
        format!("{} subscriptions", CLIENTS * PACKETS * FILTERS),
        &Bench::brokers(),
        bench.options.rounds().min(5),
        limit,
        aims,
        |round| measure(round, length),
    );
    Table {
        title: "Publish latency beside unrelated subscriptions",
        text: format!(
            "A client publishes 100 B to itself, one at a time, with no other subscription and with many of \
             {CLIENTS} other clients (plain, `+` and `#` filters in turn), {ALTERNATIONS} times each in turns."
        ),
        metrics: vec![
            Metric { name: "p50 alone", unit: Unit::Micros },
            Metric { name: "p50 beside", unit: Unit::Micros },
            Metric { name: "p99 alone", unit: Unit::Micros },
            Metric { name: "p99 beside", unit: Unit::Micros },
            Metric { name: "p50, beside / alone", unit: Unit::Ratio },
            Metric { name: "subscribing all", unit: Unit::Seconds },
        ],
        cases: vec![case],
    }
}

fn measure(round: &Round, length: Duration) -> Result<Vec<f64>, Failure> {
    let server = round.server_apart()?;
    let mut echo = Echo::open(server.address(), round.deadline)?;
    let (mut alone, mut beside) = (Latencies::new(), Latencies::new());
    let mut subscribing = Duration::ZERO;
    echo.repeat_for(length / 4, &mut Latencies::new())?;
    for _ in 0..ALTERNATIONS {
        echo.repeat_for(length / ALTERNATIONS as u32, &mut alone)?;
        let started = Instant::now();
        let mut others = subscribe(server.address(), round.deadline)
            .map_err(|failure| failure.during("the other clients"))?;
        subscribing = started.elapsed();
        // Not counted: a machine that was busy just before answers faster than an idle one.
        echo.repeat_for(length / 4, &mut Latencies::new())?;
        echo.repeat_for(length / ALTERNATIONS as u32, &mut beside)?;
        for other in &mut others {
            other.send(&DISCONNECT)?;
        }
        drop(others);
        // Not counted: removing the subscriptions is work, too.
        echo.repeat_for(length / 4, &mut Latencies::new())?;
    }
    let (p50, p50_beside) = (alone.micros(0.5), beside.micros(0.5));
    Ok(vec![
        p50,
        p50_beside,
        alone.micros(0.99),
        beside.micros(0.99),
        p50_beside / p50,
        subscribing.as_secs_f64(),
    ])
}

fn subscribe(address: SocketAddr, deadline: Instant) -> Result<Vec<Connection>, Failure> {
    let mut connections = Vec::with_capacity(CLIENTS);
    for client in 0..CLIENTS {
        let mut connection = Connection::mqtt(address, &format!("bench-other-{client}"), deadline)?;
        for packet in 0..PACKETS {
            let filters: Vec<String> = (0..FILTERS)
                .map(|number| match number % 3 {
                    0 => format!("bench/other/{client}/{packet}/{number}"),
                    1 => format!("bench/other/{client}/{packet}/{number}/+/state"),
                    _ => format!("bench/other/{client}/{packet}/{number}/#"),
                })
                .collect();
            connection.send(&packet::subscribe(packet as u16 + 1, &filters, 0))?;
        }
        for _ in 0..PACKETS {
            packet::granted(connection.wait_for(SUBACK)?.body(), FILTERS)?;
        }
        connections.push(connection);
    }
    Ok(connections)
}
