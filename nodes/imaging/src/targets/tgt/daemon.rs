//! The process `tgtd`: starts it, watches it, and ends it, including one that an earlier run has left behind.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::super::target::TargetError;
use super::admin::{Admin, Failure, Order, PATIENCE, SOCKETS_VARIABLE, wait};
use super::proc::{Identity, listening};
use super::settings::Settings;

/// Number of control numbers to try if none is configured.
const MAX_CONTROLS_TRIED: u16 = 64;

/// Number of stderr lines that are kept for error messages.
const KEPT_STDERR_LINES: usize = 5;

/// Paths of the two programs of the package.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) tgtd: PathBuf,
    pub(super) tgtadm: PathBuf,
}

impl Programs {
    /// Finds the programs in `PATH`, or in `/usr/sbin` and `/sbin`.
    pub(super) fn find() -> Result<Self, TargetError> {
        let path = env::var_os("PATH").unwrap_or_default();
        Self::find_in(&path).or_else(|_| Self::find_in(OsStr::new("/usr/sbin:/sbin")))
    }

    fn find_in(path: &OsStr) -> Result<Self, TargetError> {
        let find = |name: &str| {
            env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file()).ok_or_else(|| {
                TargetError(format!(
                    "there is no {name}: install the package `tgt`, or hand disks out by the driver `files`"
                ))
            })
        };
        Ok(Self { tgtd: find("tgtd")?, tgtadm: find("tgtadm")? })
    }
}

/// Running tgtd that listens only at its portal.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    pub(super) admin: Admin,
    words: Words,
    /// Disconnected once stderr is closed.
    silence: Receiver<Infallible>,
    /// File with the identity of the process.
    record: PathBuf,
}

/// Last lines of tgtd's stderr.
type Words = Arc<Mutex<VecDeque<String>>>;

/// Error of starting tgtd.
enum Unstarted {
    /// Another tgtd uses the control number.
    Taken(TargetError),
    /// Any other error.
    Otherwise(TargetError),
}

impl Daemon {
    /// Starts tgtd. `ended` is called on its own thread when tgtd ends, for any reason.
    pub(super) fn start(
        programs: &Programs,
        settings: &Settings,
        ended: impl Fn() + Clone + Send + 'static,
    ) -> Result<Self, TargetError> {
        // tgtd would run without its portal; this check fails earlier and with a clearer error.
        TcpListener::bind(settings.portal).map_err(|error| {
            TargetError(format!("cannot listen at the portal {}: {error}", settings.portal))
        })?;
        let controls = match settings.control {
            0 => 1..=MAX_CONTROLS_TRIED,
            control => control..=control,
        };
        let mut refused = None;
        for control in controls {
            match Self::start_at(programs, settings, control, ended.clone()) {
                Ok(daemon) => return Ok(daemon),
                Err(Unstarted::Otherwise(error)) => return Err(error),
                Err(Unstarted::Taken(error)) => refused = Some(error),
            }
        }
        Err(refused.expect("at least one control number is tried"))
    }

    fn start_at(
        programs: &Programs,
        settings: &Settings,
        control: u16,
        ended: impl Fn() + Send + 'static,
    ) -> Result<Self, Unstarted> {
        let mut child = Command::new(&programs.tgtd)
            .args(["-f", "-C", &control.to_string(), "--iscsi", &format!("portal={}", settings.portal)])
            .env_remove(SOCKETS_VARIABLE)
            // Signals of our terminal, such as Ctrl-C, must not reach tgtd.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Unstarted::Otherwise(text(&programs.tgtd, &error)))?;
        let words = Words::default();
        let (talks, silence) = channel();
        if let Some(stderr) = child.stderr.take() {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                listen(stderr, &words);
                drop(talks);
                ended();
            });
        }
        let admin = Admin { tgtadm: programs.tgtadm.clone(), control };
        let mut daemon = Self { child, admin, words, silence, record: record(&settings.folder) };
        let started =
            daemon.write_record().map_err(Unstarted::Otherwise).and_then(|()| daemon.ready(settings.portal));
        if started.is_err() {
            // The error of the start is returned; if tgtd cannot be ended either, the next start fails at its portal.
            let _ = daemon.end();
        }
        started.map(|()| daemon)
    }

    /// Returns whether tgtd has ended, or ends within this time.
    pub(super) fn has_ended(&mut self, within: Duration) -> bool {
        !matches!(wait(&mut self.child, within), Ok(None))
    }

    /// Returns the last lines of stderr.
    pub(super) fn words(&self) -> String {
        self.words.lock().iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Kills tgtd with SIGKILL, because it ignores SIGTERM while it has targets.
    pub(super) fn end(&mut self) -> Result<(), TargetError> {
        let pid = self.child.id();
        // Fails if tgtd has ended already.
        let _ = self.child.kill();
        match wait(&mut self.child, PATIENCE) {
            Ok(Some(_)) => {
                fs::remove_file(&self.record).or_else(absent).map_err(|error| text(&self.record, &error))
            }
            Ok(None) => Err(TargetError(format!("tgtd, process {pid}, cannot be ended"))),
            Err(error) => Err(TargetError(format!("tgtd, process {pid}, cannot be ended: {error}"))),
        }
    }

    /// Stores the identity of the process on disk, so that it is found even if this process is killed.
    fn write_record(&self) -> Result<(), TargetError> {
        let identity = Identity::of(self.child.id().cast_signed())
            .ok_or_else(|| TargetError("tgtd ended at its start".to_owned()))?;
        let fresh = self.record.with_extension("new");
        fs::write(&fresh, identity.to_line())
            .and_then(|()| fs::rename(&fresh, &self.record))
            .map_err(|error| text(&self.record, &error))
    }

    /// Waits until tgtd answers, and checks where it listens: if it cannot bind its portal, it keeps running and listens
    /// at port 3260 of every address.
    fn ready(&mut self, portal: SocketAddr) -> Result<(), Unstarted> {
        let otherwise = |text: String| Unstarted::Otherwise(TargetError(text));
        let pid = self.child.id();
        let until = Instant::now() + PATIENCE;
        loop {
            if self.has_ended(Duration::from_millis(2)) {
                // The last lines of stderr may not have been read yet.
                let _ = self.silence.recv_timeout(PATIENCE);
                let words = self.words();
                let error = TargetError(format!("tgtd ended at its start: {words}"));
                let taken = words.contains("another tgtd is using");
                return Err(if taken { Unstarted::Taken(error) } else { Unstarted::Otherwise(error) });
            }
            // The control number belongs to this tgtd only once it listens; before that, another tgtd could answer.
            let listens = !listening(pid).unwrap_or_default().is_empty();
            let answer = if listens { self.admin.order(Order::ShowPortals) } else { Ok(String::new()) };
            match answer {
                Ok(_) if listens => break,
                Err(Failure::Refused(words)) => {
                    return Err(otherwise(format!("tgtd does not serve: {words}")));
                }
                _ if Instant::now() < until => {}
                _ => return Err(otherwise(format!("tgtd does not answer: {}", self.words()))),
            }
        }
        let found = listening(pid)
            .map_err(|error| otherwise(format!("where tgtd listens cannot be seen: {error}")))?;
        if found == [SocketAddr::new(portal.ip(), portal.port())] {
            return Ok(());
        }
        let found = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        Err(otherwise(format!(
            "tgtd was to listen at {portal} and listened at {found}: ended; {}",
            self.words()
        )))
    }
}

/// Kills the tgtd that an earlier run has left behind, and nothing else: its process id, start time and program must
/// match the record.
pub(super) fn end_former(folder: &Path) -> Result<(), TargetError> {
    let record = record(folder);
    let line = match fs::read_to_string(&record) {
        Ok(line) => line,
        Err(error) => return absent(error).map_err(|error| text(&record, &error)),
    };
    if let Some(former) = Identity::parse(&line) {
        let failed = |error: io::Error| {
            TargetError(format!("tgtd of an earlier run, process {}, cannot be ended: {error}", former.pid))
        };
        // The pidfd is opened before the check, so the signal cannot hit a later process with the same id.
        let handle = Pid::from_raw(former.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(handle) = handle.filter(|_| former.runs() && former.is_program("tgtd")) {
            tracing::warn!(pid = former.pid, "ending tgtd of an earlier run");
            pidfd_send_signal(&handle, Signal::KILL).map_err(|error| failed(error.into()))?;
            let until = Instant::now() + PATIENCE;
            while former.runs() {
                if Instant::now() >= until {
                    return Err(failed(io::ErrorKind::TimedOut.into()));
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    } else {
        tracing::warn!(file = %record.display(), "does not say which tgtd is ours");
    }
    fs::remove_file(&record).or_else(absent).map_err(|error| text(&record, &error))
}

/// Returns the path of the file with the identity of the process.
fn record(folder: &Path) -> PathBuf {
    folder.join("tgtd.pid")
}

/// Reads the lines of stderr until it is closed, logs them, and keeps the last ones.
fn listen(stderr: ChildStderr, words: &Words) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        tracing::debug!("{line}");
        let mut words = words.lock();
        words.push_back(line);
        if words.len() > KEPT_STDERR_LINES {
            words.pop_front();
        }
    }
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn text(file: &Path, error: &io::Error) -> TargetError {
    TargetError(format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_missing_tgt_says_what_to_install() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Programs::find_in(folder.path().as_os_str()).expect_err("the folder is empty");
        assert!(
            error.0.contains("install the package `tgt`") && error.0.contains("the driver `files`"),
            "{error}"
        );
        for name in ["tgtd", "tgtadm"] {
            fs::write(folder.path().join(name), "").expect("a file");
        }
        let found = Programs::find_in(folder.path().as_os_str()).expect("both are there");
        assert_eq!(found.tgtadm, folder.path().join("tgtadm"));
    }

    #[test]
    fn a_process_that_is_not_tgtd_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut other = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let identity = Identity::of(other.id().cast_signed()).expect("it runs");
        for line in [identity.to_line(), "no line of ours".to_owned()] {
            fs::write(record(folder.path()), line).expect("a record");
            end_former(folder.path()).expect("there is nothing to end");
            assert!(!record(folder.path()).exists());
        }
        end_former(folder.path()).expect("nothing to read is no error");
        let ended = wait(&mut other, Duration::from_millis(50)).expect("it is ours");
        other.kill().expect("it runs");
        other.wait().expect("it is ours");
        assert_eq!(ended, None);
    }
}
