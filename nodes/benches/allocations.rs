//! Counts the allocations of a call: `cargo bench -p rantai-nodes --bench allocations`.
//!
//! Broker, object and caller run in one process, each on a thread of its own, so that the allocations of a thread are
//! those of its role. A figure is the difference of two runs that differ only in the number of calls: it includes the
//! tasks of the connections, and excludes starting and stopping. Counts are the same on every machine, busy or not.

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use allocation_counter::AllocationInfo;
use rantai_broker::{Broker, Config};
use rantai_client::session::QoS;
use rantai_client::wire::fault::Fault;
use rantai_client::{Client, interface};
use rantai_nodes::Node;
use tokio::runtime;
use tokio::sync::oneshot;

/// Numbers of calls of the two runs.
const CALLS: [u64; 2] = [2_000, 12_000];

/// Arithmetic on two numbers.
#[interface]
trait Calculator {
    /// The sum of `a` and `b`.
    async fn add(&self, a: f64, b: f64) -> Result<f64, Fault>;

    /// The sum of `a` and `b`, after the runtime has run other tasks.
    async fn add_later(&self, a: f64, b: f64) -> Result<f64, Fault>;
}

struct Exact;

impl Calculator for Exact {
    async fn add(&self, a: f64, b: f64) -> Result<f64, Fault> {
        Ok(a + b)
    }

    async fn add_later(&self, a: f64, b: f64) -> Result<f64, Fault> {
        tokio::task::yield_now().await;
        Ok(a + b)
    }
}

/// Kind of call that is measured.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    qos: QoS,
    in_flight: usize,
    waits: bool,
}

const KINDS: [Kind; 4] = [
    Kind { name: "one in flight, QoS 0", qos: QoS::AtMostOnce, in_flight: 1, waits: false },
    Kind { name: "one in flight, QoS 1", qos: QoS::AtLeastOnce, in_flight: 1, waits: false },
    Kind { name: "64 in flight, QoS 0", qos: QoS::AtMostOnce, in_flight: 64, waits: false },
    Kind {
        name: "one in flight, QoS 0, a method that waits",
        qos: QoS::AtMostOnce,
        in_flight: 1,
        waits: true,
    },
];

/// Allocations of a run by role, in number and bytes.
struct Run {
    client: AllocationInfo,
    broker: AllocationInfo,
    node: AllocationInfo,
}

/// Runs a future on a runtime of its own and counts what its thread allocates.
fn counted(work: impl Future<Output = ()>) -> AllocationInfo {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    allocation_counter::measure(|| runtime.block_on(work))
}

fn run(kind: Kind, calls: u64) -> Run {
    let (started, address) = mpsc::channel();
    let (stop_broker, broker_stops) = oneshot::channel::<()>();
    let broker = thread::spawn(move || {
        counted(async {
            let broker = Broker::start(Config::on_free_port()).await.expect("a broker");
            started.send(format!("mqtt://{}", broker.addresses()[0])).expect("somebody waits for it");
            let _ = broker_stops.await;
        })
    });
    let address = address.recv().expect("a broker");
    let (serving, served) = mpsc::channel();
    let (stop_node, node_stops) = oneshot::channel::<()>();
    let node = thread::spawn({
        let address = address.clone();
        move || {
            counted(async {
                let node = Node::connect(&address).await.expect("a node");
                node.serve("calculator", CalculatorObject(Exact)).await.expect("served");
                serving.send(()).expect("somebody waits for it");
                let _ = node_stops.await;
            })
        }
    });
    served.recv().expect("an object");
    let client = counted(call(&address, kind, calls));
    let _ = stop_node.send(());
    let node = node.join().expect("no panic");
    let _ = stop_broker.send(());
    Run { client, node, broker: broker.join().expect("no panic") }
}

async fn call(address: &str, kind: Kind, calls: u64) {
    let client = Client::connect(address).await.expect("a client");
    let calculator = CalculatorProxy::from(client.object("calculator").qos(kind.qos));
    let callers = (0..kind.in_flight).map(|_| async {
        for _ in 0..calls / kind.in_flight as u64 {
            let sum = if kind.waits {
                calculator.add_later(2.0, 3.0).await
            } else {
                calculator.add(2.0, 3.0).await
            };
            sum.expect("a sum");
        }
    });
    futures_util::future::join_all(callers).await;
}

fn main() -> ExitCode {
    // `cargo test --benches` runs this without the mark that `cargo bench` sets.
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("nothing measured: run this with cargo bench");
        return ExitCode::SUCCESS;
    }
    println!(
        "Allocations of one call, and their bytes:\n\n| Calls | client | broker | node |\n|---|---:|---:|---:|"
    );
    for kind in KINDS {
        let [few, many] = CALLS.map(|calls| run(kind, calls));
        let calls = (CALLS[1] - CALLS[0]) as f64;
        let per_call = |few: AllocationInfo, many: AllocationInfo| {
            let count = (many.count_total as f64 - few.count_total as f64) / calls;
            let bytes = (many.bytes_total as f64 - few.bytes_total as f64) / calls;
            format!("{count:.2} ({bytes:.0} B)")
        };
        println!(
            "| {} | {} | {} | {} |",
            kind.name,
            per_call(few.client, many.client),
            per_call(few.broker, many.broker),
            per_call(few.node, many.node),
        );
    }
    ExitCode::SUCCESS
}
