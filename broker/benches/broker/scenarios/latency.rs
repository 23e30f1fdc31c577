//! Latency of one call at a time.

use rantai_load::calls::{self, Load};
use rantai_load::failure::Failure;
use rantai_load::latencies::Latencies;
use rantai_load::packet::Framing;

use crate::bench::{Bench, CaseGoal, Goal, Metric, Table, Unit};
use crate::scenarios::grid;
use crate::target::Target;

/// Minimum number of calls for a meaningful p99.
const MIN_CALLS: u64 = 100;

pub(crate) fn run(bench: &Bench) -> Table {
    let cases = grid().map(|(label, qos, payload)| {
        let relay = if qos == 0 { 1.15 } else { 1.5 };
        let aims = [0, 1].into_iter().flat_map(|metric| {
            [(1.0, Target::Mosquitto), (relay, Target::Relay)]
                .map(|(factor, other)| CaseGoal { metric, goal: Goal::AtMostTimes(factor, other) })
        });
        let load = Load {
            qos,
            payload,
            in_flight: 1,
            warm_up: bench.options.warm_up(),
            length: bench.options.sample(),
        };
        bench.short_case(label, &Bench::brokers_and_relay(), aims.collect(), |round| {
            let server = round.server_apart()?;
            let framing = if round.target == Target::Relay { Framing::Length } else { Framing::Mqtt };
            let mut latency = Latencies::new();
            calls::measure(server.address(), framing, &load, &mut latency, round.deadline)?;
            if latency.count() < MIN_CALLS {
                return Err(Failure::new(format!("only {} calls were answered", latency.count())));
            }
            Ok(vec![latency.micros(0.5), latency.micros(0.99)])
        })
    });
    Table {
        title: "Request and reply, one in flight",
        text: "A caller publishes to a call topic with a response topic and 16 bytes of correlation data; a \
               responder echoes the payload to the response topic. At QoS 1 both legs are, and every \
               acknowledgement is written together with what comes next. The relay carries the same bytes over \
               the same two hops, without MQTT."
            .to_owned(),
        metrics: vec![
            Metric { name: "p50", unit: Unit::Micros },
            Metric { name: "p99", unit: Unit::Micros },
        ],
        cases: cases.collect(),
    }
}
