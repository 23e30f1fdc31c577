//! Load generation, and its results.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rantai_client::session::QoS;
use rantai_client::{Client, Proxy};
use rantai_load::closed::ClosedLoop;
use rantai_load::latencies::Latencies;
use rantai_load::spread::{Spread, median};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::Options;
use crate::processes::{Process, memory};

/// Duration of a round.
const LENGTH: Duration = Duration::from_millis(400);

/// Line of the report.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Median latencies of the rounds, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Calls per second.
    pub(crate) rate: Spread,
    /// Same measurement through something simpler.
    pub(crate) baseline: Option<Baseline>,
    pub(crate) aim: Option<Aim>,
}

#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) what: &'static str,
    pub(crate) p50: f64,
    /// Median of the ratios of p50, round by round.
    pub(crate) ratio: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// Maximum ratio to the baseline.
    Ratio(f64),
    /// Minimum number of calls per second.
    Rate(f64),
}

/// Running processes of the benchmark.
pub(crate) struct Bench {
    options: Options,
    url: String,
    relay: RefCell<TcpStream>,
    _processes: Vec<Process>,
}

/// Round of one load.
struct Round {
    p50: f64,
    p99: f64,
    rate: f64,
}

impl Bench {
    pub(crate) fn start(options: Options) -> io::Result<Self> {
        let (broker, url) = Process::broker()?;
        let mut processes = vec![broker, Process::node(&url, "nodes.toml", &["echo"])?];
        for city in ["A", "B", "C"] {
            let name = format!("example.chainTopology.{city}");
            processes.push(Process::node(&url, "circular.toml", &[&name])?);
        }
        let (relay, address) = Process::relay("respond")?;
        processes.extend(relay);
        // The relay joins its connections in pairs: this is the counterpart of the responder's.
        let relay = TcpStream::connect(address)?;
        relay.set_nodelay(true)?;
        Ok(Self { options, url, relay: RefCell::new(relay), _processes: processes })
    }

    pub(crate) fn run(&self) -> Vec<Row> {
        let mut rows = self.one_by_one("");
        for (qos, name) in [(QoS::AtMostOnce, "QoS 0"), (QoS::AtLeastOnce, "QoS 1")] {
            for (size, shown) in [(60, "60 B"), (1024, "1 KiB")] {
                let aim = (size == 60 && qos == QoS::AtMostOnce).then_some(Aim::Rate(200_000.0));
                let load = Load { qos, size, clients: 1, in_flight: 64 };
                rows.extend(self.row(format!("64 in flight, {shown}, {name}"), &load, aim));
                let load = Load { qos, size, clients: 16, in_flight: 16 };
                rows.extend(self.row(format!("16 x 16 in flight, {shown}, {name}"), &load, None));
            }
        }
        rows
    }

    /// Measures one call or trip at a time.
    pub(crate) fn one_by_one(&self, what: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for (qos, name, aim) in [(QoS::AtMostOnce, "QoS 0", 1.3), (QoS::AtLeastOnce, "QoS 1", 1.7)] {
            for (size, shown) in [(60, "60 B"), (1024, "1 KiB")] {
                let load = Load { qos, size, clients: 1, in_flight: 1 };
                let aim = (size == 60).then_some(Aim::Ratio(aim));
                rows.extend(self.row(format!("1 in flight, {shown}, {name}{what}"), &load, aim));
            }
        }
        rows.extend(self.chain(what));
        rows
    }

    fn chosen(&self, name: &str) -> bool {
        name.contains(&self.options.only)
    }

    /// Returns the number of rounds: many short ones, because the scheduler places the processes differently in each
    /// round, which changes the latency of both sides.
    fn rounds(&self) -> usize {
        if self.options.quick { 3 } else { 25 }
    }

    fn row(&self, name: String, load: &Load, aim: Option<Aim>) -> Option<Row> {
        if !self.chosen(&name) {
            return None;
        }
        eprintln!("{name}");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds() {
            ours.push(self.calls(load));
            theirs.push(self.relayed(load).expect("the relay goes on"));
        }
        Some(row(name, &ours, &theirs, "relay", aim))
    }

    /// Calls `echo` for the duration of a round.
    fn calls(&self, load: &Load) -> Round {
        let Load { qos, size, clients, in_flight } = *load;
        let payload = Value::String("x".repeat(size));
        self.measured(
            clients,
            in_flight,
            move |client| client.object("echo").qos(qos),
            move |proxy| {
                let payload = payload.clone();
                async move {
                    let answer: Value = proxy.call("echo", &payload).await.expect("an answer");
                    assert_eq!(answer, payload);
                }
            },
        )
    }

    fn measured<F: Future<Output = ()> + 'static>(
        &self,
        clients: usize,
        in_flight: usize,
        object: impl Fn(&Client) -> Proxy,
        call: impl Fn(Proxy) -> F + Clone + 'static,
    ) -> Round {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async {
            let mut proxies = Vec::new();
            for _ in 0..clients {
                let client = Client::connect(&self.url).await.expect("the broker is there");
                let proxy = object(&client);
                for _ in 0..20 {
                    call(proxy.clone()).await;
                }
                proxies.push(proxy);
            }
            let closed = ClosedLoop { in_flight, warm_up: Duration::ZERO, length: LENGTH };
            let call = move |proxy| {
                let made = call(proxy);
                async move {
                    made.await;
                    Ok::<(), Infallible>(())
                }
            };
            let Ok(calls) = closed.run(&proxies, call).await;
            round(&calls.latencies, LENGTH)
        })
    }

    /// Sends the same number of bytes through the relay and back, with the same number of messages in flight.
    fn relayed(&self, load: &Load) -> io::Result<Round> {
        let mut stream = self.relay.borrow_mut();
        let Load { size, clients, in_flight, .. } = *load;
        let (messages, mut answers) = (vec![7; size * clients * in_flight], vec![0; 64 << 10]);
        let mut under_way = VecDeque::new();
        let (mut latencies, mut partial) = (Latencies::new(), 0);
        let began = Instant::now();
        stream.write_all(&messages)?;
        under_way.extend(std::iter::repeat_n(began, clients * in_flight));
        while !under_way.is_empty() {
            let read = stream.read(&mut answers)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            partial += read;
            let (whole, now) = (partial / size, Instant::now());
            partial %= size;
            under_way.drain(..whole).for_each(|sent| latencies.record(now.duration_since(sent)));
            if began.elapsed() < LENGTH {
                stream.write_all(&messages[..whole * size])?;
                under_way.extend(std::iter::repeat_n(now, whole));
            }
        }
        Ok(round(&latencies, began.elapsed()))
    }

    fn chain(&self, what: &str) -> Option<Row> {
        let name = format!("chain of three, 1 in flight, QoS 1{what}");
        if !self.chosen(&name) {
            return None;
        }
        eprintln!("{name}");
        let trip = |proxy: Proxy| async move {
            let items: Vec<String> = proxy.call("process", (json!(["hello"]),)).await.expect("a trip");
            assert_eq!(items.len(), 4);
        };
        let entry = |client: &Client| client.object("example.chainTopology.A");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds() {
            ours.push(self.measured(1, 1, entry, trip));
            if let Some(python) = &self.options.pyro {
                let run = Process::pyro(python).args(["1", "500"]).output().expect("Pyro5's example runs");
                let text = String::from_utf8_lossy(&run.stdout).trim().to_owned();
                let p50 = text
                    .parse()
                    .unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&run.stderr)));
                theirs.push(Round { p50, p99: p50, rate: 1e6 / p50 });
            }
        }
        Some(row(name, &ours, &theirs, "Pyro5's circular example", Some(Aim::Ratio(0.5))))
    }
}

#[derive(Clone, Copy, Debug)]
struct Load {
    qos: QoS,
    size: usize,
    clients: usize,
    in_flight: usize,
}

fn round(latencies: &Latencies, took: Duration) -> Round {
    let rate = latencies.count() as f64 / took.as_secs_f64();
    Round { p50: latencies.micros(0.5), p99: latencies.micros(0.99), rate }
}

fn row(name: String, ours: &[Round], theirs: &[Round], what: &'static str, aim: Option<Aim>) -> Row {
    let rates: Vec<f64> = ours.iter().map(|round| round.rate).collect();
    let baseline = (!theirs.is_empty()).then(|| Baseline {
        what,
        p50: median(theirs.iter().map(|r| r.p50)),
        ratio: median(ours.iter().zip(theirs).map(|(ours, theirs)| ours.p50 / theirs.p50)),
    });
    Row {
        name,
        p50: median(ours.iter().map(|r| r.p50)),
        p99: median(ours.iter().map(|r| r.p99)),
        rate: Spread::of(&rates).expect("at least one round"),
        baseline,
        aim,
    }
}

/// Memory of an idle client, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    /// `rantai watch` as a process: private memory, and memory including the pages of the program.
    pub(crate) process: (u64, u64),
    /// One of a thousand clients in one process.
    pub(crate) client: f64,
}

impl Bench {
    pub(crate) fn idle(&self) -> io::Result<Option<Idle>> {
        const CLIENTS: usize = 1_000;
        let watch = Process::watch(&self.url)?;
        std::thread::sleep(Duration::from_secs(1));
        let process = (watch.memory("RssAnon")?, watch.memory("VmRSS")?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let own = std::process::id();
        let grown = runtime.block_on(async {
            let before = memory(own, "RssAnon")?;
            let mut clients = Vec::with_capacity(CLIENTS);
            for _ in 0..CLIENTS {
                clients.push(Client::connect(&self.url).await.map_err(io::Error::other)?);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<u64, io::Error>(memory(own, "RssAnon")?.saturating_sub(before))
        })?;
        Ok(Some(Idle { process, client: grown as f64 / CLIENTS as f64 }))
    }
}
