//! Processes of one revision: its broker, its nodes and its command line.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rantai_load::connection::Connection;
use rantai_load::failure::Failure;
use rantai_load::machine;
use serde_json::Value;
use tempfile::TempDir;

use crate::load::Plan;
use crate::process::Process;

/// The chain is that of Pyro's example "circular".
const CHAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/circular.toml");
/// File that is downloaded and uploaded.
const FILE: &str = "file.bin";
const FILE_BYTES: usize = 8 << 20;
const IDLE_CONNECTIONS: usize = 2_000;

/// Users of a broker with access rules, and their keys in the configuration; each password is the user's name. The
/// node's ledger calls on behalf of callers.
const USERS: [(&str, &str); 2] =
    [("node", "roles = ['node']\nacts_for = ['*']"), ("caller", "roles = ['caller']")];

/// Processes of one revision, with files of their own.
pub(super) struct Side {
    program: PathBuf,
    pub(super) address: SocketAddr,
    /// Whether the broker has users and access rules.
    rules: bool,
    folder: TempDir,
    _processes: Vec<Process>,
}

impl Side {
    /// Starts all processes, and returns when all objects are served. With `rules`, the broker has users and access
    /// rules.
    pub(super) fn start(program: &Path, rules: bool) -> Result<Self, Failure> {
        // Absolute, because the program is run in another directory.
        let program = &fs::canonicalize(program)?;
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("nodes.toml");
        let shared = folder.path().join("shared");
        fs::create_dir(&shared)?;
        let bytes: Vec<u8> = (0..FILE_BYTES as u32 / 4)
            .flat_map(|word| word.wrapping_mul(2_654_435_761).to_ne_bytes())
            .collect();
        for place in [&shared, folder.path()] {
            fs::write(place.join(FILE), &bytes)?;
        }
        fs::write(
            &config,
            "[[echo]]\nname = \"echo\"\n[tasks]\nfile = \"tasks.redb\"\n\
             [[files]]\nname = \"box\"\nfolder = \"shared\"\nquota_bytes = 1_073_741_824\n",
        )?;
        let broker = if rules { broker_with_rules(program, folder.path())? } else { broker(program)? };
        let address = address(&broker)?;
        let url = url(address, rules.then_some("node"));
        let node = |config: &Path, names: &[&str]| {
            let config = config.to_string_lossy();
            let mut arguments = vec!["serve", "--quiet", "--broker", &url, "--config", &config];
            arguments.extend(names);
            Process::guarded(program, arguments, "serving ", names.len())
        };
        // Claiming a name takes a second, so all nodes are started at the same time.
        let nodes = thread::scope(|scope| {
            let mut starting = vec![scope.spawn(|| node(&config, &["echo", "tasks", "box"]))];
            for link in ["example.chainTopology.A", "example.chainTopology.B", "example.chainTopology.C"] {
                starting.push(scope.spawn(move || node(Path::new(CHAIN), &[link])));
            }
            let joined = |node: thread::ScopedJoinHandle<'_, Result<Process, Failure>>| {
                node.join().unwrap_or_else(|_| Err(Failure::new("a node's start panicked")))
            };
            starting.into_iter().map(joined).collect::<Result<Vec<_>, _>>()
        })?;
        let processes = nodes.into_iter().chain([broker]).collect();
        Ok(Self { program: program.clone(), address, rules, folder, _processes: processes })
    }

    /// Runs this revision's `rantai bench`, and returns its report.
    pub(super) fn bench(&self, arguments: &[&str], plan: Plan) -> Result<Value, Failure> {
        let time = |time: Duration| format!("{}ms", time.as_millis());
        let (warm_up, length) = (time(plan.warm_up), time(plan.length));
        self.run(&[&["bench"], arguments, &["--json", "--warmup", &warm_up, "--duration", &length]].concat())
            .and_then(|output| {
                let report: Value = serde_json::from_slice(&output).map_err(|error| {
                    Failure::new(format!("the report of {arguments:?} is no JSON: {error}"))
                })?;
                match report["failed"].as_u64() {
                    Some(0) => Ok(report),
                    _ => Err(Failure::new(format!("{arguments:?} had errors: {}", report["errors"]))),
                }
            })
    }

    /// Uploads the file under a new name. Returns MiB per second, including the start of the program.
    pub(super) fn send_file(&self) -> Result<f64, Failure> {
        let source = self.folder.path().join(FILE);
        let began = Instant::now();
        self.run(&["put", "box", &source.to_string_lossy(), "--to", "sent.bin"])?;
        let took = began.elapsed();
        // The file must not exist at the next upload.
        fs::remove_file(self.folder.path().join("shared/sent.bin"))?;
        Ok(FILE_BYTES as f64 / f64::from(1 << 20) / took.as_secs_f64())
    }

    /// Downloads the file repeatedly. Returns MiB per second.
    pub(super) fn fetch_file(&self, plan: Plan) -> Result<f64, Failure> {
        number(&self.bench(&["file", "box", FILE], plan)?, "/figures/mib_per_second")
    }

    /// Returns the memory of a new broker per idle connection, in KiB.
    pub(super) fn idle_memory(&self) -> Result<f64, Failure> {
        let broker = broker(&self.program)?;
        let address = address(&broker)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        let open = |number: usize| Connection::mqtt(address, &format!("idle-{number}"), deadline);
        // Memory that is allocated once, for the first connection, is not counted.
        let first = open(0)?;
        let before = resident(broker.pid)?;
        let others = (1..=IDLE_CONNECTIONS).map(open).collect::<Result<Vec<_>, _>>()?;
        let after = resident(broker.pid)?;
        drop((first, others));
        Ok(after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64)
    }

    fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        let output = Command::new(&self.program)
            .args(arguments)
            .args(["--broker", &url(self.address, self.rules.then_some("caller"))])
            .current_dir(self.folder.path())
            .output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!("rantai {} failed: {}", arguments.join(" "), error.trim())))
    }
}

/// Returns a number of a report.
pub(super) fn number(report: &Value, pointer: &str) -> Result<f64, Failure> {
    let number = report.pointer(pointer).and_then(Value::as_f64);
    number.ok_or_else(|| Failure::new(format!("the report has no {pointer}")))
}

fn broker(program: &Path) -> Result<Process, Failure> {
    Process::guarded(program, ["broker", "--quiet", "--port", "0"], "listening on ", 1)
}

/// Starts a broker that admits only [`USERS`], with a password file in `folder`.
fn broker_with_rules(program: &Path, folder: &Path) -> Result<Process, Failure> {
    let records = folder.join("passwords");
    for (name, _) in USERS {
        add_password(program, &records, name)?;
    }
    let users = USERS.map(|(name, keys)| format!("[[users]]\nname = '{name}'\n{keys}\n")).concat();
    let file = folder.join("broker.toml");
    fs::write(&file, format!("anonymous = false\npassword_file = '{}'\n{users}", records.display()))?;
    let file = file.to_string_lossy();
    Process::guarded(program, ["broker", "--quiet", "--port", "0", "--config", &file], "listening on ", 1)
}

/// Adds a user whose password is its name.
fn add_password(program: &Path, records: &Path, name: &str) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.args(["passwd", "--stdin"]).arg(records).arg(name).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn()?;
    writeln!(child.stdin.take().expect("stdin is piped"), "{name}")?;
    if child.wait()?.success() { Ok(()) } else { Err(Failure::new("rantai passwd failed")) }
}

fn url(address: SocketAddr, user: Option<&str>) -> String {
    user.map_or_else(|| format!("mqtt://{address}"), |user| format!("mqtt://{user}:{user}@{address}"))
}

fn address(broker: &Process) -> Result<SocketAddr, Failure> {
    broker.said.parse().map_err(|_| Failure::new(format!("the broker listens on {:?}", broker.said)))
}

/// Returns the resident memory of a process, in KiB.
fn resident(pid: u32) -> Result<u64, Failure> {
    let kib = machine::status_kib(pid, "VmRSS");
    kib.ok_or_else(|| Failure::new(format!("the memory of process {pid} cannot be read")))
}
