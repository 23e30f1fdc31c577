//! Throughput from one publisher to a hundred subscribers.

use rantai_load::fan::{self, Load};

use crate::bench::{Bench, CaseGoal, Goal, Metric, Table, Unit};
use crate::scenarios::grid;
use crate::target::Target;

pub(crate) fn run(bench: &Bench) -> Table {
    let (warm_up, length) = (bench.options.warm_up(), bench.options.sample());
    let cases = grid().map(|(label, qos, payload)| {
        let aims = vec![CaseGoal { metric: 0, goal: Goal::AtLeastTimes(12.0, Target::Mosquitto) }];
        bench.short_case(label, &Bench::brokers(), aims, |round| {
            let server = round.server()?;
            let load = Load { qos, payload, warm_up, length };
            Ok(vec![fan::out(server.address(), load, round.deadline)?])
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
