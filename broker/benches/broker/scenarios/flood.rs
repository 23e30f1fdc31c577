//! Latency of one client while another one floods the broker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rantai_load::connection::Connection;
use rantai_load::echo::Echo;
use rantai_load::failure::Failure;
use rantai_load::latencies::Latencies;
use rantai_load::packet::{PINGREQ, PINGRESP, Publish};

use crate::bench::{Bench, CaseGoal, Goal, Metric, Round, Table, Unit, alternate};
use crate::cores;

const FLOOD_TOPIC: &str = "bench/flood";
/// Number of bytes per write of the flooding client.
const WRITE_BYTES: usize = 64 << 10;
const PAYLOAD: usize = 1_000;

pub(crate) fn run(bench: &Bench) -> Table {
    let bytes = bench.options.flood_bytes();
    let quiet = bench.options.sample() / 2;
    let case = |label: &str, read: bool| {
        let aims = vec![CaseGoal { metric: 4, goal: Goal::AtMost(3.0) }];
        alternate(label, &Bench::brokers(), bench.options.rounds(), Duration::from_secs(40), aims, |round| {
            measure(round, bytes, read, quiet)
        })
    };
    Table {
        title: "Another client's echo during a flood",
        text: format!(
            "One client publishes {} MiB in messages of {PAYLOAD} B at QoS 0 as fast as its socket takes them; \
             another sends 100 B to itself, one at a time. With a reader of the flood, what the broker drops \
             for it is no failure. On two cores the flooding client, its reader, the echo and the broker share \
             them, for every broker alike.",
            bytes >> 20
        ),
        metrics: vec![
            Metric { name: "quiet p50", unit: Unit::Micros },
            Metric { name: "quiet p99", unit: Unit::Micros },
            Metric { name: "flooded p50", unit: Unit::Micros },
            Metric { name: "flooded p99", unit: Unit::Micros },
            Metric { name: "p50, flooded / quiet", unit: Unit::Ratio },
            Metric { name: "p99, flooded / quiet", unit: Unit::Ratio },
            Metric { name: "flood took", unit: Unit::Seconds },
            Metric { name: "echoes", unit: Unit::Count },
        ],
        cases: vec![case("flood that nobody reads", false), case("flood with one reader", true)],
    }
}

fn measure(round: &Round, bytes: usize, read: bool, quiet: Duration) -> Result<Vec<f64>, Failure> {
    let server = round.server_apart()?;
    let mut echo = Echo::open(server.address(), round.deadline)?;
    let mut before = Latencies::new();
    echo.repeat_for(quiet, &mut before)?;
    let mut flooding = Connection::mqtt(server.address(), "bench-flood", round.deadline)?;
    let mut reading = Connection::mqtt(server.address(), "bench-reader", round.deadline)?;
    if read {
        reading.subscribe(FLOOD_TOPIC, 0)?;
    }
    let reader_closer = reading.closer()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            cores::lower_priority();
            let outcome = pour(&mut flooding, bytes);
            done.store(true, Ordering::Release);
            outcome
        });
        scope.spawn(|| {
            cores::lower_priority();
            // Ends when its connection is closed below. How much it receives depends on the broker.
            while reading.fill().is_ok() {
                while let Ok(Some(_)) = reading.next_frame() {}
            }
        });
        let mut during = Latencies::new();
        let mut outcome = Ok(());
        while outcome.is_ok() && !done.load(Ordering::Acquire) {
            outcome = echo.once().map(|taken| during.record(taken));
        }
        let flood = flood.join().expect("the flooding thread does not panic");
        drop(reader_closer);
        outcome.map_err(|failure| failure.during("the echo"))?;
        let took = flood.map_err(|failure| failure.during("the flood"))?;
        let values = [before.micros(0.5), before.micros(0.99), during.micros(0.5), during.micros(0.99)];
        let ratios =
            [values[2] / values[0], values[3] / values[1], took.as_secs_f64(), during.count() as f64];
        Ok([values, ratios].concat())
    })
}

/// Publishes without pause, then waits until the broker has read everything.
fn pour(connection: &mut Connection, bytes: usize) -> Result<Duration, Failure> {
    let mut chunk = Vec::with_capacity(WRITE_BYTES + PAYLOAD);
    while chunk.len() < WRITE_BYTES {
        let publish =
            Publish { topic: FLOOD_TOPIC.as_bytes(), payload: &[b'x'; PAYLOAD], ..Publish::default() };
        publish.write(&mut chunk);
    }
    let started = Instant::now();
    let mut sent = 0;
    while sent < bytes {
        connection.send(&chunk)?;
        sent += chunk.len();
    }
    connection.send(&PINGREQ)?;
    connection.wait_for(PINGRESP)?;
    Ok(started.elapsed())
}
