//! A hundred publishers, one subscriber.

use std::time::Instant;

use crate::bench::{Aim, Bench, Goal, Metric, Table, Unit};
use crate::ends::{Publisher, Subscriber};
use crate::scenarios::grid;
use crate::target::Target;

const PUBLISHERS: usize = 100;

pub(crate) fn run(bench: &Bench) -> Table {
    let (warm_up, length) = (bench.options.warm_up(), bench.options.sample());
    let cases = grid().map(|(label, qos, payload)| {
        // Publishers per turn and messages of each. Two turns are in flight, all to one reader: they have
        // to stay below what a broker queues for it at QoS 0.
        let (publishers_per_turn, batch) = if payload < 1024 { (PUBLISHERS, 16) } else { (6, 1) };
        let turn = publishers_per_turn as u64 * batch;
        let aims = vec![Aim { metric: 0, goal: Goal::AtLeastTimes(6.0, Target::Mosquitto) }];
        bench.short_case(label, &Bench::brokers(), aims, |round| {
            let server = round.server()?;
            let filter = "bench/fan/in/+";
            let mut subscriber =
                Subscriber::open(server.address(), "bench-subscriber", filter, qos, round.deadline)?;
            let mut publishers = (0..PUBLISHERS)
                .map(|number| {
                    let client_id = format!("bench-publisher-{number}");
                    let topic = format!("bench/fan/in/{number}");
                    Publisher::open(server.address(), &client_id, &topic, qos, payload, round.deadline)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let started = Instant::now();
            let mut counting: Option<(Instant, u64)> = None;
            let mut sent = 0;
            let mut next = 0;
            let rate = loop {
                for _ in 0..publishers_per_turn {
                    let publisher = &mut publishers[next];
                    publisher.acknowledged_but(batch)?;
                    publisher.send(batch)?;
                    next = (next + 1) % PUBLISHERS;
                }
                sent += turn;
                subscriber.receive_until(sent - turn, sent)?;
                let now = Instant::now();
                match counting {
                    None if now - started >= warm_up => counting = Some((now, sent)),
                    Some((since, before)) if now - since >= length => {
                        break (sent - before) as f64 / (now - since).as_secs_f64();
                    }
                    _ => {}
                }
            };
            subscriber.receive_until(sent, sent)?;
            for publisher in &mut publishers {
                publisher.acknowledged_but(0)?;
            }
            Ok(vec![rate])
        })
    });
    Table {
        title: "Fan-in, 100 to 1",
        text:
            "A hundred publishers take turns (16 messages of 100 B each, or one of 64 KiB from six of them), \
               at most two turns undelivered. The subscriber must get every message, else the row has failed. \
               At 64 KiB and QoS 0 the kernel's copying is the limit of both brokers, as in fan-out."
                .to_owned(),
        metrics: vec![Metric { name: "messages", unit: Unit::PerSecond }],
        cases: cases.collect(),
    }
}
