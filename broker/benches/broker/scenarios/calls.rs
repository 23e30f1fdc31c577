//! Rate of calls with many in flight.

use rantai_load::calls::{self, Load};
use rantai_load::latencies::Latencies;
use rantai_load::packet::Framing;

use crate::bench::{Bench, CaseGoal, Goal, Metric, Table, Unit};
use crate::scenarios::grid;
use crate::target::Target;

pub(crate) fn run(bench: &Bench) -> Table {
    let cases = grid().map(|(label, qos, payload)| {
        let small = payload < 1024;
        // 64 large payloads for one reader would be 4 MiB: more than a broker must queue at QoS 0.
        let in_flight = if small { 64 } else { 8 };
        let mut aims = Vec::new();
        if small {
            aims.push(CaseGoal { metric: 0, goal: Goal::AtLeastTimes(8.0, Target::Mosquitto) });
            if qos == 0 {
                aims.push(CaseGoal { metric: 0, goal: Goal::AtLeast(300_000.0) });
            }
        }
        let load = Load {
            qos,
            payload,
            in_flight,
            warm_up: bench.options.warm_up(),
            length: bench.options.sample(),
        };
        let label = format!("{label}, {in_flight} in flight");
        bench.short_case(label, &Bench::brokers_and_relay(), aims, |round| {
            let server = round.server()?;
            let framing = if round.target == Target::Relay { Framing::Length } else { Framing::Mqtt };
            let rate =
                calls::measure(server.address(), framing, &load, &mut Latencies::new(), round.deadline)?;
            Ok(vec![rate])
        })
    });
    Table {
        title: "Request and reply, many in flight",
        text:
            "The same caller and responder; each reply is followed by the next request. Replies must come in \
               order and all of them, else the row has failed."
                .to_owned(),
        metrics: vec![Metric { name: "requests", unit: Unit::PerSecond }],
        cases: cases.collect(),
    }
}
