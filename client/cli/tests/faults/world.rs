//! Broker, ledger and nodes as processes, with relays in front of the broker.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rantai_client::Client;
use rantai_client::session::Address;
use rantai_client::wire::name::{ObjectName, Root};
use rantai_disk_faults::{Control, IS_SUPPORTED, build_library};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::calls::Caller;
use crate::disks::Seen;
use crate::node::CROWN;
use crate::process::{Disk, Process};
use crate::relay::{Done, Plan, relay};
use crate::{shelf, travel};

/// Time limit of every wait in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

const NODES: [&str; 2] = ["fault-a", "fault-b"];
const LEDGER: &str = "fault-ledger";
const FILES: &str = "fault-files";
pub(crate) const BROKER: &str = "the broker";

pub(crate) struct World {
    folder: tempfile::TempDir,
    root: Root,
    /// `None` if it is an external one.
    broker: Option<Process>,
    /// Address that the broker listens on.
    pub(crate) place: String,
    pub(crate) plan: Plan,
    pub(crate) random: fastrand::Rng,
    pub(crate) processes: Vec<Process>,
    pub(crate) kills: HashMap<String, u64>,
    pub(crate) seen: Seen,
    stops: u64,
}

fn rantai(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
    command.args(arguments);
    command
}

/// Limits of the broker: shorter than by default, so that it reports a disk that does not respond, and ends connections
/// that wait for it, during the test.
const LIMITS: &str = "[limits]\ndisk_stall_s = 1\ndisk_wait_s = 1\n";

/// Returns a disk that can fail, if there is a library, for the process of this name, which keeps its files in a
/// directory of the same name.
fn disk(folder: &Path, name: &str, library: Option<&PathBuf>) -> Option<Disk> {
    let data = folder.join(name);
    std::fs::create_dir_all(&data).expect("made");
    let control = |_| Control::create(&folder.join(format!("{name}.faults")), &data).expect("made");
    library.map(|library| Disk { control: control(library), library: library.clone() })
}

impl World {
    pub(crate) async fn start(seed: u64, fails: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let library = (fails && IS_SUPPORTED).then(|| {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disk-faults");
            build_library(&target).expect("built")
        });
        let library = library.as_ref();
        let foreign = std::env::var("RANTAI_TEST_BROKER").ok();
        let (broker, place, root) = if let Some(url) = foreign {
            let place = url.strip_prefix("mqtt://").expect("an mqtt:// URL").to_owned();
            (None, place, format!("test/{}", rantai_client::client::random_id("faults")))
        } else {
            let port = free_port();
            let data = folder.path().join("broker").display().to_string();
            let config = folder.path().join("broker.toml");
            std::fs::write(&config, LIMITS).expect("written");
            let config = config.display().to_string();
            let arguments = ["broker", "--port", &port.to_string(), "--data-dir", &data, "--config", &config];
            let (arguments, disk) =
                (arguments.map(ToOwned::to_owned), disk(folder.path(), "broker", library));
            let broker = Process::start(BROKER, disk, move || rantai(&arguments));
            (Some(broker), format!("127.0.0.1:{port}"), "rantai".to_owned())
        };
        let plan = Plan { seed, fails: Arc::default(), done: Arc::new(Done::default()) };
        let mut world = Self {
            folder,
            root: root.parse().expect("a root"),
            broker,
            place,
            plan,
            random: fastrand::Rng::with_seed(seed),
            processes: Vec::new(),
            kills: HashMap::new(),
            seen: Seen::default(),
            stops: 0,
        };
        world.wait_for_broker().await;
        for (number, name) in NODES.into_iter().enumerate() {
            let url = world.url(100 + number as u64).await;
            let (folder, root) = (world.folder.path().to_owned(), root.clone());
            let disk = disk(&folder, name, library);
            let process = Process::start(name, disk, move || {
                let mut command = Command::new(std::env::current_exe().expect("this program"));
                command.args(["--exact", "node::node_process", "--ignored", "--nocapture"]);
                command.env("RANTAI_FAULTS_NODE", name).env("RANTAI_FAULTS_FOLDER", &folder);
                command.env("RANTAI_FAULTS_URL", &url).env("RANTAI_FAULTS_ROOT", &root);
                command
            });
            world.processes.push(process);
        }
        let url = world.url(200).await;
        let data = world.folder.path().join(LEDGER).display().to_string();
        let config = world.folder.path().join("ledger.toml");
        std::fs::write(&config, "[tasks]\n").expect("written");
        let config = config.display().to_string();
        let arguments = ["serve", "tasks", "--config", &config, "--data-dir", &data, "--node", LEDGER]
            .map(ToOwned::to_owned);
        let disk = disk(world.folder.path(), LEDGER, library);
        let ledger = Process::start(LEDGER, disk, move || {
            let mut command = rantai(&arguments);
            command.env("RANTAI_BROKER", &url).env("RANTAI_ROOT", &root);
            command
        });
        world.processes.push(ledger);
        let process = world.files_process().await;
        world.processes.push(process);
        let client = world.client(99).await;
        let trips = travel::objects();
        for name in ["book", "lone", "tasks", CROWN, shelf::OBJECT]
            .into_iter()
            .chain(trips.iter().map(String::as_str))
        {
            let object = ObjectName::any(name).expect("a name");
            client.registry().wait_for(&object, PATIENCE).await.expect("served");
        }
        world.plan.fails.store(fails, Ordering::Relaxed);
        world
    }

    /// Starts a node that shares a folder. Its disk does not fail here, because the library for disk errors does not
    /// affect the system calls that it uses.
    async fn files_process(&self) -> Process {
        let (url, root) = (self.url(201).await, self.root.to_string());
        let folder = self.folder.path();
        std::fs::create_dir_all(self.shelf()).expect("made");
        let config = folder.join("files.toml");
        let text = format!(
            "[[files]]\nname = \"{}\"\nfolder = \"{FILES}\"\nquota_bytes = 100_000_000_000\n",
            shelf::OBJECT
        );
        std::fs::write(&config, text).expect("written");
        let config = config.display().to_string();
        let arguments = ["serve", shelf::OBJECT, "--config", &config, "--node", FILES].map(ToOwned::to_owned);
        Process::start(FILES, None, move || {
            let mut command = rantai(&arguments);
            command.env("RANTAI_BROKER", &url).env("RANTAI_ROOT", &root);
            command
        })
    }

    /// Returns the folder with the files that callers have sent.
    pub(crate) fn shelf(&self) -> PathBuf {
        self.folder.path().join(FILES)
    }

    async fn url(&self, number: u64) -> String {
        format!("mqtt://{}", self.address(number).await)
    }

    /// Starts a new relay; returns its address.
    pub(crate) async fn address(&self, number: u64) -> SocketAddr {
        let port = relay(self.place.clone(), self.plan.clone(), number).await;
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Returns the number of processes that fail; the broker comes after all others.
    pub(crate) fn count(&self) -> usize {
        self.processes.len() + usize::from(self.broker.is_some())
    }

    pub(crate) fn process(&mut self, which: usize) -> &mut Process {
        match self.processes.get_mut(which) {
            Some(process) => process,
            None => self.broker.as_mut().expect("counted"),
        }
    }

    /// Returns the processes whose disks can fail.
    pub(crate) fn with_disks(&mut self) -> Vec<usize> {
        (0..self.count()).filter(|which| self.process(*which).disk().is_some()).collect()
    }

    /// Connects a client through its own relay.
    pub(crate) async fn client(&self, number: u64) -> Client {
        let address: Address = self.url(number).await.parse().expect("an address");
        let builder = Client::builder(address).root(self.root.clone()).keep_alive(5).patient();
        builder.connect().await.expect("a client")
    }

    async fn wait_for_broker(&self) {
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(&self.place).await.is_err() {
            assert!(Instant::now() < deadline, "no broker");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes processes and their disks fail, one after the other, for this time.
    pub(crate) async fn fail_for(&mut self, time: Duration, prober: &mut Caller) {
        let until = Instant::now() + time;
        let have_disks = !self.with_disks().is_empty();
        for number in 1.. {
            if Instant::now() >= until {
                break;
            }
            let pause = self.random.u64(300..1_500);
            sleep(Duration::from_millis(pause)).await;
            if have_disks && number % 2 == 0 {
                self.fail_disk(prober).await;
            } else {
                self.fail_process().await;
            }
        }
    }

    async fn fail_process(&mut self) {
        let which = self.random.usize(0..self.count());
        let away = Duration::from_millis(self.random.u64(50..1_200));
        let is_stopped = self.random.bool();
        let process = self.process(which);
        if is_stopped {
            process.signal(Signal::STOP);
            sleep(away).await;
            process.signal(Signal::CONT);
            self.stops += 1;
        } else {
            process.kill();
            sleep(away).await;
            process.again();
            let name = process.name.clone();
            *self.kills.entry(name).or_default() += 1;
        }
    }

    /// Ends all failures.
    pub(crate) async fn recover(&self) {
        self.plan.fails.store(false, Ordering::Relaxed);
        self.wait_for_broker().await;
    }

    /// Kills a node, and starts it again.
    pub(crate) fn kill_node(&mut self, name: &str) {
        let process = self.processes.iter_mut().find(|process| process.name == name).expect("a node");
        process.kill();
        process.again();
    }

    /// Waits until `lone` is served; returns the node that serves it.
    pub(crate) async fn wait_for_lone(&self, client: &Client) -> String {
        let object = client.object("lone").deadline(Duration::from_secs(5));
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(response) = object.request("sum").params((1, 2)).send().await
                && response.outcome.is_ok()
            {
                return response.node.expect("it says who answers").into();
            }
            assert!(Instant::now() < deadline, "nobody serves it");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns how often each method was executed with each number.
    pub(crate) fn executions(&self) -> HashMap<(String, u64), u64> {
        let mut executed = HashMap::new();
        for name in NODES {
            let file = self.folder.path().join(format!("{name}.log"));
            let text = std::fs::read_to_string(file).unwrap_or_default();
            for (method, id) in text.lines().filter_map(|line| line.split_once(' ')) {
                let id = id.parse().expect("a whole line");
                *executed.entry((method.to_owned(), id)).or_default() += 1;
            }
        }
        executed
    }

    /// Returns the kinds of failures, with their numbers.
    pub(crate) fn faults(&mut self) -> Vec<(String, String)> {
        let done = &self.plan.done;
        let relays = [
            ("connections", &done.connections),
            ("chunks delayed", &done.delays),
            ("chunks sliced", &done.slices),
            ("connections stalled", &done.stalls),
            ("connections cut", &done.cuts),
            ("connections reset", &done.resets),
        ];
        let mut faults: Vec<_> =
            relays.map(|(what, count)| (what.to_owned(), count.load(Ordering::Relaxed).to_string())).into();
        let mut kills: Vec<_> = self
            .kills
            .iter()
            .map(|(name, count)| (format!("kill -9 of {name}"), count.to_string()))
            .collect();
        kills.sort_unstable();
        faults.append(&mut kills);
        faults.push(("processes stopped for a while".to_owned(), self.stops.to_string()));
        faults.append(&mut self.disk_faults());
        faults
    }

    pub(crate) fn broker_name(&self) -> &'static str {
        if self.broker.is_some() { "rantai's broker" } else { "another broker" }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
