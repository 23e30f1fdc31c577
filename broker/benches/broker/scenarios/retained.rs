//! Many retained topics, on disk.

use std::time::{Duration, Instant};

use rantai_load::connection::Connection;
use rantai_load::failure::Failure;
use rantai_load::packet::{self, PUBACK, PUBLISH, Publish};
use rantai_load::spread::Spread;

use crate::bench::{Bench, CaseGoal, Metric, Round, Table, Unit, alternate};
use crate::target::Server;

/// Number of topics that one read with a wildcard returns.
const GROUP_TOPICS: u64 = 10_000;
/// Maximum number of unacknowledged publishes, below the 1,024 that Rantai's broker grants.
const MAX_IN_FLIGHT: u64 = 1_000;
const READS: usize = 5;

pub(crate) fn run(bench: &Bench) -> Table {
    let groups = bench.options.retained_groups() as u64;
    let topics = groups * GROUP_TOPICS;
    let limit = Duration::from_mins(3);
    let aims: Vec<CaseGoal> = Vec::new();
    let case = alternate(
        format!("{topics} topics"),
        &Bench::brokers(),
        bench.options.long_rounds(),
        limit,
        aims,
        |round| measure(round, groups),
    );
    Table {
        title: "Retained topics",
        text: format!(
            "{topics} topics such as `bench/retained/0042/device/001234` with 32 bytes each, published at QoS 1 \
             to a broker that keeps its state on disk (ours before each acknowledgement, mosquitto when it \
             stops); memory after that, for each topic; one read of {GROUP_TOPICS} of them by `bench/retained/0042/#`; \
             then the broker is stopped and started again: the time until it answers a client, its memory, and \
             the same read once more. A read that is not complete fails the row."
        ),
        metrics: vec![
            Metric { name: "publishes", unit: Unit::PerSecond },
            Metric { name: "memory, each", unit: Unit::Bytes },
            Metric { name: "read", unit: Unit::Seconds },
            Metric { name: "stop", unit: Unit::Seconds },
            Metric { name: "restore", unit: Unit::Seconds },
            Metric { name: "memory after, each", unit: Unit::Bytes },
            Metric { name: "read after", unit: Unit::Seconds },
        ],
        cases: vec![case],
    }
}

fn measure(round: &Round, groups: u64) -> Result<Vec<f64>, Failure> {
    let directory = tempfile::tempdir()?;
    let server = round.durable_server(&directory)?;
    let topics = (groups * GROUP_TOPICS) as f64;
    let before = server.memory()?;
    let started = Instant::now();
    publish(&server, groups, round.deadline).map_err(|failure| failure.during("publishing"))?;
    let rate = topics / started.elapsed().as_secs_f64();
    let memory = server.memory()?.saturating_sub(before) as f64 / topics;
    let read = read_groups(&server, groups, round.deadline)?;
    let stopping = Instant::now();
    server.stop()?;
    let starting = Instant::now();
    let server = round.durable_server(&directory)?;
    let (stop, restore) = (starting - stopping, starting.elapsed());
    let memory_after = server.memory()?.saturating_sub(before) as f64 / topics;
    let read_after = read_groups(&server, groups, round.deadline)
        .map_err(|failure| failure.during("after the restart"))?;
    Ok(vec![rate, memory, read, stop.as_secs_f64(), restore.as_secs_f64(), memory_after, read_after])
}

fn publish(server: &Server, groups: u64, deadline: Instant) -> Result<(), Failure> {
    let mut connection = Connection::mqtt(server.address(), "bench-publisher", deadline)?;
    let mut out = Vec::new();
    let mut acknowledged = 0;
    let total = groups * GROUP_TOPICS;
    let mut sent = 0;
    while acknowledged < total {
        while sent < total && sent < acknowledged + MAX_IN_FLIGHT {
            let topic =
                format!("bench/retained/{:04}/device/{:06}", sent / GROUP_TOPICS, sent % GROUP_TOPICS);
            let publish = Publish {
                topic: topic.as_bytes(),
                qos: 1,
                retain: true,
                packet_id: (sent % 0xFFFF) as u16 + 1,
                payload: &[b'x'; 32],
                ..Publish::default()
            };
            publish.write(&mut out);
            sent += 1;
        }
        connection.flush(&mut out)?;
        connection.fill()?;
        while let Some(frame) = connection.next_frame()? {
            if frame.kind() == PUBACK {
                if frame.reason() >= 0x80 {
                    return Err(Failure::new(format!("PUBLISH was refused with {:#04x}", frame.reason())));
                }
                acknowledged += 1;
            }
        }
    }
    Ok(())
}

/// Returns the median time of reading one group, in seconds, over several groups.
fn read_groups(server: &Server, groups: u64, deadline: Instant) -> Result<f64, Failure> {
    let mut taken = Vec::with_capacity(READS);
    for read in 0..READS {
        let group = read as u64 * (groups - 1) / (READS as u64 - 1);
        taken.push(read_group(server, group, deadline)?.as_secs_f64());
    }
    Ok(Spread::of(&taken).expect("there are reads").median)
}

fn read_group(server: &Server, group: u64, deadline: Instant) -> Result<Duration, Failure> {
    let mut connection = Connection::mqtt(server.address(), &format!("bench-reader-{group}"), deadline)?;
    let filter = format!("bench/retained/{group:04}/#");
    let started = Instant::now();
    connection.send(&packet::subscribe(1, &[filter], 1))?;
    let mut received = 0;
    let mut out = Vec::new();
    while received < GROUP_TOPICS {
        connection.fill().map_err(|failure| {
            failure.during(&format!("{received} of {GROUP_TOPICS} retained messages came"))
        })?;
        while let Some(frame) = connection.next_frame()? {
            if frame.kind() == PUBLISH {
                received += 1;
                frame.acknowledge(&mut out);
            }
        }
        connection.flush(&mut out)?;
    }
    Ok(started.elapsed())
}
