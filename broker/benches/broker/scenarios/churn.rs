//! A million calls by clients that connect and disconnect, to detect memory that is never freed.

use std::time::{Duration, Instant};

use rantai_load::calls::{Caller, Responder};
use rantai_load::connection::Connection;
use rantai_load::failure::Failure;
use rantai_load::packet;

use crate::bench::{Bench, CaseGoal, Goal, Metric, Round, Table, Unit, alternate};

const CALLS_EACH: u64 = 20;
/// Number of concurrent clients, below mosquitto's backlog of 100.
const CONCURRENT_CLIENTS: u64 = 20;

pub(crate) fn run(bench: &Bench) -> Table {
    let calls = bench.options.churn_calls();
    let aims = vec![CaseGoal { metric: 4, goal: Goal::AtMost(1.1) }];
    let case = alternate(
        format!("{calls} calls by {} clients", calls / CALLS_EACH),
        &Bench::brokers(),
        bench.options.long_rounds(),
        Duration::from_mins(3),
        aims,
        |round| measure(round, calls),
    );
    Table {
        title: "Clients that come and go",
        text: format!(
            "{CONCURRENT_CLIENTS} clients at a time, each with a client id and a reply topic never used before: connect, \
             subscribe, {CALLS_EACH} calls of 100 B at QoS 1, disconnect. The broker's resident memory after a \
             tenth, half and all of the calls; flat means that the last is at most 1.1 times the first."
        ),
        metrics: vec![
            Metric { name: "calls", unit: Unit::PerSecond },
            Metric { name: "at 10 %", unit: Unit::MiB },
            Metric { name: "at 50 %", unit: Unit::MiB },
            Metric { name: "at 100 %", unit: Unit::MiB },
            Metric { name: "100 % / 10 %", unit: Unit::Ratio },
        ],
        cases: vec![case],
    }
}

fn measure(round: &Round, calls: u64) -> Result<Vec<f64>, Failure> {
    let server = round.server()?;
    let responder = Responder::start(server.address(), 1, round.deadline)?;
    let clients = calls / CALLS_EACH;
    let mut memory = Vec::new();
    let started = Instant::now();
    let mut gone = 0;
    while gone < clients {
        let come = || -> Result<(), Failure> {
            let mut connections = Vec::with_capacity(CONCURRENT_CLIENTS as usize);
            for number in gone..gone + CONCURRENT_CLIENTS {
                let mut connection =
                    Connection::open_numbered(server.address(), number as usize, round.deadline)?;
                connection.send(&packet::connect(&format!("bench-guest-{number}")))?;
                connections.push((number, connection));
            }
            let mut callers = Vec::with_capacity(CONCURRENT_CLIENTS as usize);
            for (number, mut connection) in connections {
                connection.connected()?;
                let mut caller = Caller::over(connection, format!("bench/replies/guest/{number}"), 1, 100);
                caller.subscribe_and_ask(CALLS_EACH)?;
                callers.push(caller);
            }
            callers.into_iter().try_for_each(Caller::finish)
        };
        if let Err(failure) = come() {
            let place = format!("after {} calls", gone * CALLS_EACH);
            return Err(responder.blame(failure).during(&place));
        }
        let before = gone;
        gone += CONCURRENT_CLIENTS;
        for tenths in [1, 5, 10] {
            let mark = clients * tenths / 10;
            if before < mark && gone >= mark {
                memory.push(server.memory()? as f64 / f64::from(1 << 20));
            }
        }
    }
    let rate = calls as f64 / started.elapsed().as_secs_f64();
    let [first, half, all] = memory[..] else {
        return Err(Failure::new("too few clients to weigh the broker three times"));
    };
    Ok(vec![rate, first, half, all, all / first])
}
