//! Administration of tgtd: orders by `tgtadm`, and secrets by its control socket.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::super::target::TargetError;

/// Time limit for each answer of tgtd.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Path prefix of tgtd's control sockets. An environment variable could change it, but is removed for our processes.
const SOCKETS: &str = "/var/run/tgtd/socket";

/// Environment variable that names another folder for control sockets.
pub(super) const SOCKETS_VARIABLE: &str = "TGT_IPC_SOCKET";

/// Number of the disk in its target; 0 is the controller.
pub(super) const LUN: u32 = 1;

/// Error of an order.
#[derive(Debug)]
pub(super) enum Failure {
    /// tgtd refused the order, with this message.
    Refused(String),
    /// tgtd did not answer.
    Silent(String),
}

impl From<Failure> for TargetError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(text) | Failure::Silent(text) => Self(text),
        }
    }
}

/// Order for `tgtadm`. It contains no secrets, because every user of the machine can read its arguments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order<'a> {
    ShowPortals,
    ShowTargets,
    NewTarget {
        tid: u32,
        name: &'a str,
    },
    /// Deletes a target even if it is in use.
    DeleteTarget {
        tid: u32,
    },
    NewDisk {
        tid: u32,
        disk: &'a str,
    },
    /// Sets the SCSI id and serial number by which an initiator recognises the disk.
    Identify {
        tid: u32,
        id: &'a str,
    },
    /// Admits an initiator by name. No address may be admitted too: tgtd accepts a match of either.
    Admit {
        tid: u32,
        initiator: &'a str,
    },
    Exclude {
        tid: u32,
        initiator: &'a str,
    },
    BindAccount {
        tid: u32,
        user: &'a str,
    },
    /// Deletes an account, and removes it from its target.
    DeleteAccount {
        user: &'a str,
    },
    ShowConnections {
        tid: u32,
    },
    CloseConnection {
        tid: u32,
        connection: Connection,
    },
}

/// Connection of a session with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Connection {
    session: u64,
    connection: u32,
}

impl Order<'_> {
    fn arguments(&self) -> Vec<String> {
        let (mode, op, options): (_, _, &[&dyn Display]) = match self {
            Self::ShowPortals => ("portal", "show", &[]),
            Self::ShowTargets => ("target", "show", &[]),
            Self::NewTarget { tid, name } => ("target", "new", &[&"--tid", tid, &"--targetname", name]),
            Self::DeleteTarget { tid } => ("target", "delete", &[&"--tid", tid, &"--force"]),
            Self::NewDisk { tid, disk } => {
                ("logicalunit", "new", &[&"--tid", tid, &"--lun", &LUN, &"--backing-store", disk])
            }
            Self::Identify { tid, id } => {
                let id = format!("scsi_id={id},scsi_sn={id}");
                return Self::words(
                    "logicalunit",
                    "update",
                    &[&"--tid", tid, &"--lun", &LUN, &"--params", &id],
                );
            }
            Self::Admit { tid, initiator } => {
                ("target", "bind", &[&"--tid", tid, &"--initiator-name", initiator])
            }
            Self::Exclude { tid, initiator } => {
                ("target", "unbind", &[&"--tid", tid, &"--initiator-name", initiator])
            }
            Self::BindAccount { tid, user } => ("account", "bind", &[&"--tid", tid, &"--user", user]),
            Self::DeleteAccount { user } => ("account", "delete", &[&"--user", user]),
            Self::ShowConnections { tid } => ("conn", "show", &[&"--tid", tid]),
            Self::CloseConnection { tid, connection: Connection { session, connection } } => {
                ("conn", "delete", &[&"--tid", tid, &"--sid", session, &"--cid", connection])
            }
        };
        Self::words(mode, op, options)
    }

    fn words(mode: &str, op: &str, options: &[&dyn Display]) -> Vec<String> {
        let options = options.iter().map(ToString::to_string);
        ["--lld", "iscsi", "--mode", mode, "--op", op].map(str::to_owned).into_iter().chain(options).collect()
    }
}

/// Client for the tgtd with this control number.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) tgtadm: PathBuf,
    pub(super) control: u16,
}

impl Admin {
    /// Executes an order and returns its output.
    pub(super) fn order(&self, order: Order<'_>) -> Result<String, Failure> {
        let silent = |what: String| Failure::Silent(format!("tgtadm {what}"));
        let mut command = Command::new(&self.tgtadm);
        command.args(["-C", &self.control.to_string()]).args(order.arguments()).env_remove(SOCKETS_VARIABLE);
        let (status, out, complaint) =
            run(&mut command, PATIENCE).map_err(|error| silent(format!("failed: {error}")))?;
        let complaint = complaint.trim();
        match status {
            None => Err(silent(format!("had no answer within {} s", PATIENCE.as_secs()))),
            // tgtadm exits successfully if tgtd ends while it waits, so stderr has to be empty too.
            Some(status) if status.success() && complaint.is_empty() => Ok(out),
            Some(_) if complaint.contains("tgtd closed") || complaint.contains("tgt daemon") => {
                Err(Failure::Silent(complaint.to_owned()))
            }
            Some(_) => Err(Failure::Refused(complaint.to_owned())),
        }
    }

    /// Returns the existing targets, by number and name.
    pub(super) fn targets(&self) -> Result<Vec<(u32, String)>, Failure> {
        Ok(targets(&self.order(Order::ShowTargets)?))
    }

    /// Returns the connections to a target.
    pub(super) fn connections(&self, tid: u32) -> Result<Vec<Connection>, Failure> {
        Ok(connections(&self.order(Order::ShowConnections { tid })?))
    }

    /// Creates an account. As an argument of `tgtadm`, the secret would be readable in `/proc` for every user, and tgt
    /// has no other command for it: `tgt-admin` calls `tgtadm` too. So this sends the same message as `tgtadm`, on the
    /// control socket, to which only the user of tgtd has access.
    pub(super) fn new_account(&self, user: &str, secret: &str) -> Result<(), Failure> {
        let silent = |error: io::Error| Failure::Silent(format!("tgtd does not take an account: {error}"));
        let mut socket = UnixStream::connect(format!("{SOCKETS}.{}", self.control)).map_err(silent)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(silent)?;
        socket.write_all(&account_request(user, secret)).map_err(silent)?;
        // `struct tgtadm_rsp`: error code and length of the answer.
        let mut answer = [0; 8];
        socket.read_exact(&mut answer).map_err(silent)?;
        match answer {
            [0, 0, 0, 0, ..] => Ok(()),
            [a, b, c, d, ..] => {
                let code = u32::from_ne_bytes([a, b, c, d]);
                Err(Failure::Refused(format!("tgtd refuses an account for {user}, code {code}")))
            }
        }
    }
}

/// Waits for a child to exit, for at most `patience`; `None` if it is still running then.
pub(super) fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + patience;
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= until {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a command and returns its status, stdout and stderr. Kills it after `patience`; the status is `None` then.
fn run(command: &mut Command, patience: Duration) -> io::Result<(Option<ExitStatus>, String, String)> {
    fn all(stream: Option<impl Read>) -> String {
        let mut text = Vec::new();
        if let Some(mut stream) = stream {
            // After a read error, the output is what was read before.
            let _ = stream.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, complaint) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let out = scope.spawn(|| all(out));
        let complaint = scope.spawn(|| all(complaint));
        let status = wait(&mut child, patience);
        if !matches!(status, Ok(Some(_))) {
            child.kill()?;
            child.wait()?;
        }
        let said = "reading does not panic";
        Ok((status?, out.join().expect(said), complaint.join().expect(said)))
    })
}

/// Returns `struct tgtadm_req` of tgtadm.h, followed by `user=…,password=…` and a NUL, as in tgt 1.0.85.
fn account_request(user: &str, secret: &str) -> Vec<u8> {
    const LENGTH: usize = 120;
    const MODE_ACCOUNT: u32 = 7;
    const OP_NEW: u32 = 0;
    let text = format!("user={user},password={secret}\0");
    let mut request = Vec::with_capacity(LENGTH + text.len());
    request.extend(MODE_ACCOUNT.to_ne_bytes());
    request.extend(OP_NEW.to_ne_bytes());
    request.extend(b"iscsi");
    request.resize(8 + 64, 0);
    request.extend(((LENGTH + text.len()) as u32).to_ne_bytes());
    // No target.
    request.extend((-1_i32).to_ne_bytes());
    // Session, logical unit, connection, host, device type, direction, pack and force are zero.
    request.resize(LENGTH, 0);
    request.extend(text.as_bytes());
    request
}

/// Parses the output of `tgtadm --mode target --op show`.
fn targets(shown: &str) -> Vec<(u32, String)> {
    let target = |line: &str| {
        let (tid, name) = line.strip_prefix("Target ")?.split_once(": ")?;
        Some((tid.parse().ok()?, name.to_owned()))
    };
    shown.lines().filter_map(target).collect()
}

/// Parses the output of `tgtadm --mode conn --op show`.
fn connections(shown: &str) -> Vec<Connection> {
    let mut session = None;
    let mut found = Vec::new();
    for line in shown.lines().map(str::trim) {
        if let Some(number) = line.strip_prefix("Session: ") {
            session = number.parse().ok();
        } else if let (Some(number), Some(session)) = (line.strip_prefix("Connection: "), session) {
            found.extend(number.parse().map(|connection| Connection { session, connection }));
        }
    }
    found
}

/// Returns a path as text if tgt can handle it: tgt separates parameters by commas, and its answers by line ends.
pub(super) fn sayable(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| !text.contains(|letter: char| letter == ',' || letter.is_control()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of tgtadm 1.0.85, shortened.
    const SHOWN: &str = "Target 1: iqn.2026-01.example.rantai:cisco-5
    System information:
        Driver: iscsi
        State: ready
    I_T nexus information:
        I_T nexus: 2
            Initiator: iqn.x:i alias: none
            Connection: 0
                IP Address: 127.0.0.1
    LUN information:
        LUN: 1
            Type: disk
            Backing store path: /disks/Target 7: iqn.x:no
    Account information:
        u
    ACL information:
        iqn.x:i
Target 12: iqn.2026-01.example.rantai:cisco-53
";

    #[test]
    fn targets_are_parsed_with_full_names() {
        let expected =
            [(1, "iqn.2026-01.example.rantai:cisco-5"), (12, "iqn.2026-01.example.rantai:cisco-53")];
        assert_eq!(targets(SHOWN), expected.map(|(tid, name)| (tid, name.to_owned())));
        assert_eq!(targets(""), []);
    }

    #[test]
    fn connections_are_parsed_by_session() {
        let shown = "Session: 2\n    Connection: 0\n        Initiator: iqn.x:i\n        IP Address: 127.0.0.1\nSession: 3\n    Connection: 1\n";
        let expected = [(2, 0), (3, 1)].map(|(session, connection)| Connection { session, connection });
        assert_eq!(connections(shown), expected);
        assert_eq!(connections(""), []);
    }

    #[test]
    fn orders_become_tgtadm_arguments() {
        let words = |order: Order<'_>| order.arguments().join("|");
        let of = "--lld|iscsi|--mode";
        assert_eq!(words(Order::ShowTargets), format!("{of}|target|--op|show"));
        assert_eq!(words(Order::DeleteTarget { tid: 3 }), format!("{of}|target|--op|delete|--tid|3|--force"));
        assert_eq!(
            words(Order::NewDisk { tid: 3, disk: "/a b; rm" }),
            format!("{of}|logicalunit|--op|new|--tid|3|--lun|1|--backing-store|/a b; rm")
        );
        assert_eq!(
            words(Order::Admit { tid: 3, initiator: "iqn.x:i" }),
            format!("{of}|target|--op|bind|--tid|3|--initiator-name|iqn.x:i")
        );
        assert_eq!(
            words(Order::CloseConnection { tid: 3, connection: Connection { session: 4, connection: 5 } }),
            format!("{of}|conn|--op|delete|--tid|3|--sid|4|--cid|5")
        );
    }

    #[test]
    fn account_request_equals_that_of_tgtadm() {
        let request = account_request("u", "s");
        assert_eq!(request.len(), 120 + "user=u,password=s\0".len());
        assert_eq!(&request[..13], [&7_u32.to_ne_bytes()[..], &0_u32.to_ne_bytes()[..], b"iscsi"].concat());
        assert_eq!(request[72..76], 138_u32.to_ne_bytes());
        assert_eq!(&request[120..], b"user=u,password=s\0");
    }

    #[test]
    fn hanging_command_is_killed_at_its_time_limit() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo here; exec sleep 60"]);
        let started = Instant::now();
        let (status, said, _) = run(&mut command, Duration::from_millis(300)).expect("it runs");
        assert_eq!((status, said.as_str()), (None, "here\n"));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn path_with_a_comma_is_refused() {
        assert_eq!(sayable(Path::new("/disks/a b.img")), Some("/disks/a b.img"));
        assert_eq!(sayable(Path::new("/disks/a,bstype=null")), None);
        assert_eq!(sayable(Path::new("/disks/a\nTarget 1: b")), None);
    }
}
