//! Subjects of the comparison, each with the processes that it needs, and one load of each per round.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rantai_client::session::QoS;
use rantai_load::failure::Failure;
use rantai_load::fan;
use rustix::thread::CpuSet;
use tempfile::TempDir;

use crate::load::{self, Outcome, Plan};
use crate::process::{self, Process};
use crate::pyro::Pyro;
use crate::stock::Stock;
use crate::{Programs, grpc, nats, rantai};

/// Rows of broker and object in one process.
const IN_ONE_PROCESS: [&str; 2] =
    ["Rantai, broker and object in one process, QoS 0", "Rantai, broker and object in one process, QoS 1"];
/// The same on one thread.
const ON_ONE_THREAD: [&str; 2] =
    ["Rantai, broker and object on one thread, QoS 0", "Rantai, broker and object on one thread, QoS 1"];

/// Payload of a fan's messages in bytes, the same as in the broker's own benchmark.
const FAN_PAYLOAD: usize = 100;
/// Maximum share of all cores that other processes may use in a round that counts,
pub(crate) const NOISE: f64 = 0.15;
/// if at least this number of rounds is left.
pub(crate) const ENOUGH: usize = 5;
/// Folder of the configuration for mosquitto and both kinds of nodes.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/");

/// Table of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// On one core, the scheduler has no choice where to run each process.
    Calls {
        in_flight: usize,
        one_core: bool,
    },
    Chain,
    /// One call in flight, at QoS 1, by clients that do not disable Nagle's algorithm.
    Stock,
    FanOut {
        qos: u8,
    },
    FanIn {
        qos: u8,
    },
}

/// One subject under one load.
pub(crate) struct Cell {
    pub(crate) kind: Kind,
    pub(crate) subject: &'static str,
    parts: Parts,
    run: Box<dyn Fn(Plan) -> Result<Outcome, Failure>>,
    pub(crate) rounds: Vec<Round>,
    pub(crate) failures: Vec<Failure>,
}

/// Result of one round of a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) outcome: Outcome,
    /// CPU time of client, broker and server, in microseconds.
    pub(crate) cpu: [f64; 3],
    /// Share of all cores that was used by processes without a part in the load.
    pub(crate) others: f64,
}

/// Processes that take part in a load.
#[derive(Clone, Debug, Default)]
struct Parts {
    client: Vec<u32>,
    broker: Vec<u32>,
    server: Vec<u32>,
}

impl Parts {
    fn cpu_times(&self) -> Result<[f64; 3], Failure> {
        let sum = |pids: &[u32]| pids.iter().map(|pid| process::cpu_time(*pid)).sum::<Result<f64, Failure>>();
        Ok([sum(&self.client)?, sum(&self.broker)?, sum(&self.server)?])
    }

    fn confine(&self, cores: &CpuSet) -> Result<(), Failure> {
        let mut all = [&self.client, &self.broker, &self.server].into_iter().flatten();
        all.try_for_each(|pid| process::confine(*pid, cores))
    }
}

impl Cell {
    /// Returns the rounds that count: those with little load from other processes, or all if there are too few of those.
    pub(crate) fn quiet(&self) -> Vec<&Round> {
        let quiet: Vec<_> = self.rounds.iter().filter(|round| round.others <= NOISE).collect();
        if quiet.len() < ENOUGH { self.rounds.iter().collect() } else { quiet }
    }

    /// Runs the load once.
    pub(crate) fn run(&mut self, plan: Plan) {
        match self.measure(plan) {
            Ok(round) => self.rounds.push(round),
            Err(failure) => self.failures.push(failure),
        }
    }

    fn measure(&self, plan: Plan) -> Result<Round, Failure> {
        let cores = process::cores()?;
        let one_core = matches!(self.kind, Kind::Calls { one_core: true, .. });
        if one_core {
            self.parts.confine(&process::first(&cores))?;
        }
        let (began, all) = (Instant::now(), process::cpu_time_of_all()?);
        let before = self.parts.cpu_times()?;
        let outcome = (self.run)(plan);
        let after = self.parts.cpu_times()?;
        let (all, took) = (process::cpu_time_of_all()? - all, began.elapsed().as_secs_f64() * 1e6);
        if one_core {
            self.parts.confine(&cores)?;
        }
        let cpu: [f64; 3] = std::array::from_fn(|part| after[part] - before[part]);
        let cores = std::thread::available_parallelism()?.get() as f64;
        let others = (all - cpu.iter().sum::<f64>()) / took / cores;
        Ok(Round { outcome: outcome?, cpu, others })
    }
}

/// All processes and loads of the comparison.
pub(crate) struct Comparison {
    pub(crate) cells: Vec<Cell>,
    /// Subjects that could not be started, with the reasons.
    pub(crate) missing: Vec<(&'static str, Failure)>,
    processes: Vec<Process>,
    config: TempDir,
    stocks: Vec<(&'static str, Rc<RefCell<Stock>>)>,
}

impl Comparison {
    pub(crate) fn start(programs: &Programs) -> Result<Self, Failure> {
        let config = tempfile::tempdir()?;
        let (cells, missing) = (Vec::new(), Vec::new());
        let mut all = Self { cells, missing, processes: Vec::new(), config, stocks: Vec::new() };
        for (client, started) in [("paho", Stock::paho(&programs.python)), ("mqtt.js", Stock::mqttjs())] {
            match started {
                Ok(stock) => all.stocks.push((client, Rc::new(RefCell::new(stock)))),
                Err(failure) => all.missing.push((client, failure)),
            }
        }
        for (subject, started) in [
            ("Rantai", all.rantai(&programs.rantai)),
            ("Rantai on mosquitto", all.on_mosquitto(&programs.rantai)),
            ("Rantai over a unix socket", all.over_a_unix_socket(&programs.rantai)),
            ("Rantai in one process", all.in_one_process(&programs.rantai, IN_ONE_PROCESS, &[])),
            ("Rantai on one thread", all.in_one_process(&programs.rantai, ON_ONE_THREAD, &["--inline"])),
            ("NATS", all.nats()),
            ("gRPC", all.grpc("gRPC", "grpc")),
            ("gRPC, threads", all.grpc("gRPC, server on threads", "grpc-threads")),
            ("Pyro5", all.pyro(&programs.python)),
        ] {
            if let Err(failure) = started {
                all.missing.push((subject, failure));
            }
        }
        // Sorted by table; within a table, the order above is kept.
        all.cells.sort_by_key(|cell| cell.kind);
        Ok(all)
    }

    /// Starts Rantai on its own broker, with separate processes for broker, node and caller.
    fn rantai(&mut self, program: &Path) -> Result<(), Failure> {
        let broker = Process::guarded(program, ["broker", "--quiet", "--port", "0"], "listening on ", 1)?;
        let address: SocketAddr =
            broker.said.parse().map_err(|_| Failure::new("the broker listens nowhere"))?;
        let names = ["Rantai, QoS 0", "Rantai, QoS 1"];
        let pid = broker.pid;
        self.ours(program, address, broker, names)?;
        self.fans("Rantai", address, pid);
        Ok(())
    }

    /// Starts the same nodes on mosquitto.
    fn on_mosquitto(&mut self, program: &Path) -> Result<(), Failure> {
        let mosquitto = process::find("mosquitto").ok_or_else(|| Failure::new("not installed"))?;
        // The port is free at this moment; mosquitto does not report its port if it is given 0.
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let mut config = tempfile::Builder::new().suffix(".conf").tempfile_in(self.config.path())?;
        for line in std::fs::read_to_string(format!("{CONFIG}mosquitto.conf"))?.lines() {
            match line.strip_prefix("listener ") {
                Some(_) => writeln!(config, "listener {} 127.0.0.1", address.port())?,
                None => writeln!(config, "{line}")?,
            }
        }
        // If mosquitto is started as root, it keeps running as root, so that it can read this file.
        write!(config, "user root\nlog_type error\n")?;
        let (_, path) = config.keep().map_err(|error| error.error)?;
        let broker = Process::guarded(mosquitto, [Path::new("-c"), &path], "", 0)?;
        wait_for(address)?;
        let pid = broker.pid;
        self.ours(program, address, broker, ["Rantai on mosquitto, QoS 0", "Rantai on mosquitto, QoS 1"])?;
        self.fans("mosquitto", address, pid);
        Ok(())
    }

    fn ours(
        &mut self,
        program: &Path,
        address: SocketAddr,
        broker: Process,
        names: [&'static str; 2],
    ) -> Result<(), Failure> {
        let url = format!("mqtt://{address}");
        let node = |file: &str, name: &str| {
            let file = format!("{CONFIG}{file}");
            let arguments = ["serve", "--quiet", "--broker", &url, "--config", &file, name];
            Process::guarded(program, arguments, "serving ", 1)
        };
        let echo = node("nodes.toml", "echo")?;
        let chain =
            ["A", "B", "C"].map(|link| node("circular.toml", &format!("example.chainTopology.{link}")));
        let chain = chain.into_iter().collect::<Result<Vec<_>, _>>()?;
        let parts = |servers: &[Process]| Parts {
            client: vec![std::process::id()],
            broker: vec![broker.pid],
            server: servers.iter().map(|server| server.pid).collect(),
        };
        let (calls, trips) = (parts(std::slice::from_ref(&echo)), parts(&chain));
        for (subject, qos) in names.into_iter().zip([QoS::AtMostOnce, QoS::AtLeastOnce]) {
            self.calls(subject, &calls, &url, move |in_flight, plan, url| {
                load::calls(in_flight, plan, async || rantai::Echo::connect(url, qos).await)
            });
            let url = url.clone();
            self.cell(Kind::Chain, subject, trips.clone(), move |plan| {
                load::calls(1, plan, async || rantai::Trip::connect(&url, qos).await)
            });
        }
        for (client, stock) in self.stocks.clone() {
            let subject = match (client, names[0].contains("mosquitto")) {
                ("paho", false) => "stock paho",
                ("paho", true) => "stock paho on mosquitto",
                (_, false) => "stock mqtt.js",
                (_, true) => "stock mqtt.js on mosquitto",
            };
            let parts = Parts { client: vec![stock.borrow().pid()], ..calls.clone() };
            self.cell(Kind::Stock, subject, parts, move |plan| {
                stock.borrow_mut().calls(address.port(), 1, plan)
            });
        }
        self.processes.extend(chain);
        self.processes.extend([echo, broker]);
        Ok(())
    }

    /// Starts broker and node, which the caller and they reach by a unix socket, as on one host.
    fn over_a_unix_socket(&mut self, program: &Path) -> Result<(), Failure> {
        let socket = self.config.path().join("bus.sock");
        let config = self.config.path().join("unix.toml");
        std::fs::write(
            &config,
            format!("[[listeners]]\nprotocol = \"unix\"\nsocket = {:?}\n", socket.display().to_string()),
        )?;
        let config = config.display().to_string();
        let broker =
            Process::guarded(program, ["broker", "--quiet", "--config", &config], "listening on ", 1)?;
        let (url, file) = (broker.said.clone(), format!("{CONFIG}nodes.toml"));
        let arguments = ["serve", "--quiet", "--broker", &url, "--config", &file, "echo"];
        let echo = Process::guarded(program, arguments, "serving ", 1)?;
        let parts =
            Parts { client: vec![std::process::id()], broker: vec![broker.pid], server: vec![echo.pid] };
        let names = ["Rantai over a unix socket, QoS 0", "Rantai over a unix socket, QoS 1"];
        for (subject, qos) in names.into_iter().zip([QoS::AtMostOnce, QoS::AtLeastOnce]) {
            self.calls(subject, &parts, &url, move |in_flight, plan, url| {
                load::calls(in_flight, plan, async || rantai::Echo::connect(url, qos).await)
            });
        }
        self.processes.extend([echo, broker]);
        Ok(())
    }

    /// Starts broker and object in one process, which is a common deployment.
    fn in_one_process(
        &mut self,
        program: &Path,
        names: [&'static str; 2],
        more: &[&str],
    ) -> Result<(), Failure> {
        let file = format!("{CONFIG}nodes.toml");
        let arguments = [&["up", "--quiet", "--port", "0", "--config", &file], more].concat();
        let up = Process::guarded(program, arguments, "listening on ", 1)?;
        let url = format!("mqtt://{}", up.said);
        rantai::wait_for_echo(&url)?;
        let parts = Parts { client: vec![std::process::id()], server: vec![up.pid], ..Parts::default() };
        for (subject, qos) in names.into_iter().zip([QoS::AtMostOnce, QoS::AtLeastOnce]) {
            self.calls(subject, &parts, &url, move |in_flight, plan, url| {
                load::calls(in_flight, plan, async || rantai::Echo::connect(url, qos).await)
            });
        }
        self.processes.push(up);
        Ok(())
    }

    fn nats(&mut self) -> Result<(), Failure> {
        let program = process::find("nats-server").ok_or_else(|| Failure::new("not installed"))?;
        // nats-server listens on a free port, and reports the port.
        let word = "Listening for client connections on ";
        let broker = Process::guarded(program, ["-a", "127.0.0.1", "-p", "-1"], word, 1)?;
        let url = format!("nats://{}", broker.said);
        let server = Process::role(&["nats", &url], "serving ")?;
        let parts =
            Parts { client: vec![std::process::id()], broker: vec![broker.pid], server: vec![server.pid] };
        self.calls("NATS", &parts, &url, |in_flight, plan, url| {
            load::calls(in_flight, plan, async || nats::Echo::connect(url).await)
        });
        self.processes.extend([server, broker]);
        Ok(())
    }

    fn grpc(&mut self, subject: &'static str, role: &str) -> Result<(), Failure> {
        let server = Process::role(&[role], "serving on ")?;
        let parts = Parts { client: vec![std::process::id()], server: vec![server.pid], ..Parts::default() };
        let address = server.said.clone();
        self.calls(subject, &parts, &address, |in_flight, plan, address| {
            load::calls(in_flight, plan, async || grpc::Echo::connect(address).await)
        });
        self.processes.push(server);
        Ok(())
    }

    fn pyro(&mut self, python: &Path) -> Result<(), Failure> {
        let mut client = Pyro::client(python)?;
        let echo = Pyro::server(python, &["echo"])?;
        let chain = ["A", "B", "C"].map(|link| Pyro::server(python, &["link", link]));
        let chain = chain.into_iter().collect::<Result<Vec<_>, _>>()?;
        let [a, b, c] = &chain[..] else { unreachable!("a ring of three") };
        client.join([&a.said, &b.said, &c.said])?;
        let parts = |servers: &[Process]| Parts {
            client: vec![client.pid()],
            server: servers.iter().map(|server| server.pid).collect(),
            ..Parts::default()
        };
        let (calls, trips) = (parts(std::slice::from_ref(&echo)), parts(&chain));
        let client = Rc::new(RefCell::new(client));
        let caller = client.clone();
        self.calls("Pyro5", &calls, &echo.said, move |in_flight, plan, uri| {
            caller.borrow_mut().calls("echo", uri, in_flight, plan)
        });
        let entry = a.said.clone();
        self.cell(Kind::Chain, "Pyro5", trips, move |plan| {
            client.borrow_mut().calls("chain", &entry, 1, plan)
        });
        self.processes.extend(chain);
        self.processes.push(echo);
        Ok(())
    }

    /// Adds cells for one call in flight, the same on one core, and many calls in flight.
    fn calls(
        &mut self,
        subject: &'static str,
        parts: &Parts,
        address: &str,
        run: impl Fn(usize, Plan, &str) -> Result<Outcome, Failure> + 'static,
    ) {
        let run = Rc::new(run);
        for (in_flight, one_core) in [(1, false), (1, true), (64, false)] {
            let (run, address) = (run.clone(), address.to_owned());
            self.cell(Kind::Calls { in_flight, one_core }, subject, parts.clone(), move |plan| {
                run(in_flight, plan, &address)
            });
        }
    }

    fn fans(&mut self, subject: &'static str, address: SocketAddr, broker: u32) {
        let parts = Parts { client: vec![std::process::id()], broker: vec![broker], ..Parts::default() };
        for qos in [0, 1] {
            for (kind, fan) in
                [(Kind::FanOut { qos }, fan::out as Fan), (Kind::FanIn { qos }, fan::inward as Fan)]
            {
                self.cell(kind, subject, parts.clone(), move |plan| {
                    let Plan { warm_up, length } = plan;
                    let load = fan::Load { qos, payload: FAN_PAYLOAD, warm_up, length };
                    let deadline = Instant::now() + warm_up + length + Duration::from_secs(10);
                    Ok(Outcome { rate: fan(address, load, deadline)?, latency: None, made: 0 })
                });
            }
        }
    }

    fn cell(
        &mut self,
        kind: Kind,
        subject: &'static str,
        parts: Parts,
        run: impl Fn(Plan) -> Result<Outcome, Failure> + 'static,
    ) {
        let (rounds, failures) = (Vec::new(), Vec::new());
        self.cells.push(Cell { kind, subject, parts, run: Box::new(run), rounds, failures });
    }
}

type Fan = fn(SocketAddr, fan::Load, Instant) -> Result<f64, Failure>;

fn wait_for(address: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = TcpStream::connect(address) {
        if Instant::now() > deadline {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
