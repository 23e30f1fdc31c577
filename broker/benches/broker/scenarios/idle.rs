//! Memory per idle connection.

use std::thread;
use std::time::Duration;

use rantai_load::connection::Connection;
use rantai_load::failure::Failure;
use rantai_load::packet::{self, SUBACK};

use crate::bench::{Bench, CaseGoal, Goal, Metric, Round, Table, Unit, alternate};

/// Number of connections opened concurrently, below mosquitto's backlog of 100.
const CONCURRENT_CONNECTIONS: usize = 50;

pub(crate) fn run(bench: &Bench) -> Table {
    let count = bench.options.idle_connections();
    let wait = bench.options.idle_time();
    let measure = |subscribed: bool| {
        move |round: &Round| {
            let server = round.server()?;
            let before = server.memory()?;
            let mut streams = Vec::with_capacity(count);
            for first in (0..count).step_by(CONCURRENT_CONNECTIONS) {
                let mut open = Vec::with_capacity(CONCURRENT_CONNECTIONS);
                for number in first..first + CONCURRENT_CONNECTIONS {
                    let mut connection = Connection::open_numbered(server.address(), number, round.deadline)?;
                    connection.send(&packet::connect(&format!("bench-idle-{number}")))?;
                    open.push((number, connection));
                }
                for (number, mut connection) in open {
                    connection.connected()?;
                    if subscribed {
                        let filter = format!("bench/idle/{number}/#");
                        connection.send(&packet::subscribe(1, &[filter], 1))?;
                        packet::granted(connection.wait_for(SUBACK)?.body(), 1)?;
                    }
                    streams.push(connection.into_stream());
                }
            }
            let each = |now: u64| now.saturating_sub(before) as f64 / count as f64 / 1024.0;
            let at_once = each(server.memory()?);
            thread::sleep(wait);
            let later = each(server.memory()?);
            // Fails if a connection was closed in the meantime, as the others would then seem to need less memory.
            for stream in &streams {
                stream.set_nonblocking(true)?;
                if !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
                {
                    return Err(Failure::new("an idle connection was closed"));
                }
            }
            Ok(vec![at_once, later])
        }
    };
    let aims = || [0, 1].map(|metric| CaseGoal { metric, goal: Goal::AtMost(2.0) }).to_vec();
    let limit = wait + Duration::from_mins(1);
    let rounds = bench.options.long_rounds();
    let brokers = Bench::brokers();
    Table {
        title: "Idle connections",
        text: format!(
            "Growth of the broker's resident memory with {count} connections, for each of them: when all are \
             open, and {} s later.",
            wait.as_secs()
        ),
        metrics: vec![
            Metric { name: "each, at once", unit: Unit::KiB },
            Metric { name: "each, later", unit: Unit::KiB },
        ],
        cases: vec![
            alternate("connected only", &brokers, rounds, limit, aims(), measure(false)),
            alternate("with one subscription each", &brokers, rounds, limit, Vec::new(), measure(true)),
        ],
    }
}
