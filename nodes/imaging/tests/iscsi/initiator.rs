//! Independent initiators: libiscsi's tools, and QEMU's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rantai_imaging::targets::{Access, Handed};

/// Time limit of every wait in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Credentials and address of an initiator.
#[derive(Clone)]
pub(crate) struct Initiator {
    pub(crate) portal: String,
    pub(crate) target: String,
    pub(crate) name: String,
    /// User and secret; no authentication is offered without.
    pub(crate) account: Option<(String, String)>,
}

impl Initiator {
    pub(crate) fn new(handed: &Handed, access: &Access) -> Self {
        Self {
            portal: handed.portal.clone().expect("a portal"),
            target: handed.target.clone().expect("a target"),
            name: access.initiator.clone(),
            account: Some((access.user.clone(), access.secret.clone())),
        }
    }

    /// Returns the disk as an option of QEMU.
    fn options(&self, lun: u32) -> String {
        let Self { portal, target, name, account } = self;
        let account = account
            .as_ref()
            .map_or(String::new(), |(user, secret)| format!(",user={user},password={secret}"));
        format!(
            "driver=iscsi,transport=tcp,portal={portal},target={target},lun={lun},initiator-name={name}{account}"
        )
    }

    /// Reads the whole disk into a file.
    pub(crate) fn read(&self, to: &Path) -> Result<(), String> {
        let mut command = Command::new("qemu-img");
        command.args(["convert", "--image-opts", &self.options(1), "-O", "raw"]).arg(to);
        run(&mut command).map(drop)
    }

    /// Runs a command of QEMU's shell on the disk.
    pub(crate) fn with(&self, what: &str) -> Result<String, String> {
        run(Command::new("qemu-io").args(["--image-opts", &self.options(1), "-c", what]))
    }

    /// Logs in, without any other operation.
    pub(crate) fn log_in(&self) -> Result<String, String> {
        self.with("length")
    }

    /// Returns what libiscsi reports as the disk's size.
    pub(crate) fn capacity(&self) -> String {
        let Self { portal, target, name, .. } = self;
        let (user, secret) = self.account.as_ref().expect("an account");
        let disk = format!("iscsi://{user}%{secret}@{portal}/{target}/1");
        run(Command::new("iscsi-readcapacity16").args(["-i", name, &disk])).expect("a size")
    }

    /// Returns the targets that libiscsi finds at the portal, with their logical units.
    pub(crate) fn list(&self) -> String {
        let (user, secret) = self.account.as_ref().expect("an account");
        let portal = format!("iscsi://{user}%{secret}@{}", self.portal);
        run(Command::new("iscsi-ls").args(["-s", "-i", &self.name, &portal])).expect("a list")
    }

    /// Logs in, and keeps the session open.
    pub(crate) fn stay(&self) -> Session {
        let mut child = Command::new("qemu-io")
            .args(["--image-opts", &self.options(1)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("qemu-io runs");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Session { child, lines }
    }

    /// Reads, or writes this byte, for as long as the disk exists.
    pub(crate) fn keep_busy(&self, write: Option<u8>) -> Session {
        let mut command = Command::new("qemu-img");
        command.args([
            "bench",
            "--image-opts",
            &self.options(1),
            "-c",
            "100000000",
            "-d",
            "32",
            "-s",
            "65536",
        ]);
        command.args(["-t", "none"]);
        if let Some(pattern) = write {
            command.args(["-w", &format!("--pattern={pattern}")]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("qemu-img runs");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Session { child, lines }
    }
}

/// Initiator that runs until it is dropped.
pub(crate) struct Session {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Session {
    /// Reads the first bytes of the disk; returns whether they all are `pattern`.
    pub(crate) fn reads(&mut self, pattern: u8) -> bool {
        let input = self.child.stdin.as_mut().expect("its input");
        writeln!(input, "read -P {pattern} 0 4096").expect("qemu-io reads");
        let mut same = true;
        let mut line = String::new();
        while self.lines.read_line(&mut line).expect("qemu-io answers") > 0 {
            same &= !line.contains("verification failed");
            if line.contains("ops;") {
                return same;
            }
            assert!(!line.contains("error"), "{line}");
            line.clear();
        }
        panic!("qemu-io ended");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}

/// Returns the ports of initiators that have a connection to a portal at 127.0.0.1.
pub(crate) fn connected(portal: SocketAddr) -> Vec<String> {
    const ESTABLISHED: &str = "01";
    let local = format!("0100007F:{:04X}", portal.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("a table");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[1] == local && row[3] == ESTABLISHED).map(|row| row[2].to_owned()).collect()
}

/// Returns whether a process listens on a port of this machine.
pub(crate) fn listens(port: u16) -> bool {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let table = fs::read_to_string(table).unwrap_or_default();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.into_iter().any(|row| row[1].ends_with(&port) && row[3] == LISTEN)
    })
}

/// Waits until a condition is true.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited for nothing: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the output of a command, or its error output if it fails.
fn run(command: &mut Command) -> Result<String, String> {
    let said = command.stdin(Stdio::null()).output();
    let said = said.unwrap_or_else(|error| panic!("{} is needed: {error}", command.get_program().display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if said.status.success() { Ok(text(&said.stdout)) } else { Err(text(&said.stdout) + &text(&said.stderr)) }
}
