//! Throughput from a hundred publishers to one subscriber.

use rantai_load::fan::{self, Load};

use crate::bench::{Bench, CaseGoal, Goal, Metric, Table, Unit};
use crate::scenarios::grid;
use crate::target::Target;

pub(crate) fn run(bench: &Bench) -> Table {
    let (warm_up, length) = (bench.options.warm_up(), bench.options.sample());
    let cases = grid().map(|(label, qos, payload)| {
        let aims = vec![CaseGoal { metric: 0, goal: Goal::AtLeastTimes(6.0, Target::Mosquitto) }];
        bench.short_case(label, &Bench::brokers(), aims, |round| {
            let server = round.server()?;
            let load = Load { qos, payload, warm_up, length };
            Ok(vec![fan::inward(server.address(), load, round.deadline)?])
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
