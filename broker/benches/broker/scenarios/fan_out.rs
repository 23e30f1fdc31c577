//! One publisher, a hundred subscribers.

use std::time::Instant;

use crate::bench::{Aim, Bench, Goal, Metric, Table, Unit};
use crate::ends::{Publisher, Subscriber};
use crate::scenarios::grid;
use crate::target::Target;

const SUBSCRIBERS: u64 = 100;
const TOPIC: &str = "bench/fan/out";

pub(crate) fn run(bench: &Bench) -> Table {
    let (warm_up, length) = (bench.options.warm_up(), bench.options.sample());
    let cases = grid().map(|(label, qos, payload)| {
        let batch = if payload < 1024 { 64 } else { 2 };
        let aims = vec![Aim { metric: 0, goal: Goal::AtLeastTimes(12.0, Target::Mosquitto) }];
        bench.short_case(label, &Bench::brokers(), aims, |round| {
            let server = round.server()?;
            let mut subscribers = (0..SUBSCRIBERS)
                .map(|number| {
                    let client_id = format!("bench-subscriber-{number}");
                    Subscriber::open(server.address(), &client_id, TOPIC, qos, round.deadline)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let mut publisher =
                Publisher::open(server.address(), "bench-publisher", TOPIC, qos, payload, round.deadline)?;
            let started = Instant::now();
            let mut counting: Option<(Instant, u64)> = None;
            publisher.send(batch)?;
            let mut sent = batch;
            let rate = loop {
                // One batch is on its way while the one before it is read.
                publisher.send(batch)?;
                sent += batch;
                for subscriber in &mut subscribers {
                    subscriber.receive_until(sent - batch, sent)?;
                }
                publisher.acknowledged_but(batch)?;
                let now = Instant::now();
                match counting {
                    None if now - started >= warm_up => counting = Some((now, sent)),
                    Some((since, before)) if now - since >= length => {
                        let deliveries = (sent - before) * SUBSCRIBERS;
                        break deliveries as f64 / (now - since).as_secs_f64();
                    }
                    _ => {}
                }
            };
            // Every message that was sent must come, the last ones too.
            for subscriber in &mut subscribers {
                subscriber.receive_until(sent, sent)?;
            }
            publisher.acknowledged_but(0)?;
            Ok(vec![rate])
        })
    });
    Table {
        title: "Fan-out, 1 to 100",
        text: "One publisher sends batches (64 messages of 100 B, 2 of 64 KiB), at most two of them \
               undelivered. Every subscriber must get every message, else the row has failed. At 64 KiB both \
               brokers move as many bytes as the kernel copies on two cores, so that no broker could be 12 \
               times another there."
            .to_owned(),
        metrics: vec![Metric { name: "deliveries", unit: Unit::PerSecond }],
        cases: cases.collect(),
    }
}
