//! Target for disks over iSCSI, with Debian's `tgt`.
//!
//! tgtd runs as a child of this process, listens only at the configured portal, and has no other targets. If tgtd dies,
//! it is restarted and all exports are restored. A tgtd that an earlier run left behind is killed at the start, and the
//! caller has to export the disks again.
//!
//! A node's disk is LUN 1 of its own target. Only one initiator may access it, by its name, and logs in by CHAP with its
//! own account. CHAP protects only the login: the data is neither encrypted nor signed, so the portal must be on a
//! trusted network. Secrets are passed to tgtd by its control socket, so they are in no argument and no file; tgtd keeps
//! them in memory, in plain text.
//!
//! Requires root: tgtd creates its control socket in `/var/run/tgtd`.

mod admin;
mod daemon;
mod proc;
mod settings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::target::{Access, Handed, Target, TargetError};
use admin::{Admin, Failure, LUN, Order, PATIENCE, sayable};
use daemon::{Daemon, Programs, end_former};
use settings::check;

pub use settings::Settings;

/// Maximum number of attempts to start tgtd.
const MAX_START_ATTEMPTS: u32 = 3;

/// Number of restarts within [`RESTARTS_WITHIN`] after which tgtd is not restarted.
const MAX_RESTARTS: usize = 5;

const RESTARTS_WITHIN: Duration = Duration::from_mins(1);

/// Maximum time between a failed order and the visible end of the tgtd process.
const EXIT_DELAY: Duration = Duration::from_millis(50);

/// Exports disks over iSCSI. On drop, tgtd is killed.
pub struct Tgt {
    shared: Arc<TgtShared>,
}

struct TgtShared {
    settings: Settings,
    programs: Programs,
    state: Mutex<TgtState>,
}

#[derive(Default)]
struct TgtState {
    /// The running tgtd; `None` if it could not be restarted.
    daemon: Option<Daemon>,
    exports: BTreeMap<String, Export>,
    last_tid: u32,
    deaths: VecDeque<Instant>,
    /// Exclusive lock of the folder; `None` once the target is being dropped.
    lock: Option<File>,
}

/// Export of a node's disk, whether tgtd has accepted it or not.
#[derive(Clone, Debug)]
struct Export {
    disk: DiskFile,
    access: Access,
    /// Number of the target in the running tgtd; `None` if tgtd refused it.
    tid: Option<u32>,
}

/// File or device of a disk, with its identity, because another file may have the same path later.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DiskFile {
    path: String,
    device: u64,
    inode: u64,
    /// Size in bytes. tgt reads it only once, so another size requires a new target.
    size: u64,
}

impl Tgt {
    /// Starts tgtd, without exports.
    ///
    /// # Errors
    ///
    /// tgt is not installed, the settings are not valid for it, another service uses the folder, or tgtd does not start
    /// or does not listen at the portal.
    pub fn start(settings: Settings) -> Result<Self, TargetError> {
        settings.check()?;
        let programs = Programs::find()?;
        let lock = Some(lock(&settings.folder)?);
        end_former(&settings.folder)?;
        let state = Mutex::new(TgtState { lock, ..TgtState::default() });
        let tgt = Self { shared: Arc::new(TgtShared { settings, programs, state }) };
        tgt.shared.begin(&mut tgt.shared.state.lock())?;
        Ok(tgt)
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let exports = std::mem::take(&mut state.exports);
        if let Some(mut daemon) = state.daemon.take() {
            for export in exports.into_values() {
                let Some(tid) = export.tid else { continue };
                if let Err(Failure::Silent(_)) = daemon.admin.take(tid, &export.access) {
                    break;
                }
            }
            if let Err(error) = daemon.end() {
                tracing::error!("{error}");
            }
        }
        // The thread that watches tgtd may keep the shared state alive for a moment, so the lock is released here.
        state.lock = None;
    }
}

impl Target for Tgt {
    fn name(&self) -> &'static str {
        "tgt"
    }

    fn export(&self, node: &str, disk: &Path, access: &Access) -> Result<Handed, TargetError> {
        let name = self.shared.settings.target(node)?;
        check(access)?;
        let disk = DiskFile::at(disk)?;
        self.shared.with(|state| state.export(node, &name, &disk, access))?;
        let portal = self.shared.settings.portal.to_string();
        Ok(Handed { target: Some(name), portal: Some(portal), lun: Some(LUN), file: None })
    }

    fn withdraw(&self, node: &str) -> Result<(), TargetError> {
        self.shared.withdraw(node)
    }

    fn handed_out(&self) -> Result<Vec<String>, TargetError> {
        let names = self.shared.with(|state| Ok(state.admin()?.targets()?))?;
        let node =
            |name: &str| Some(name.strip_prefix(&self.shared.settings.prefix)?.strip_prefix(':')?.to_owned());
        Ok(names.iter().filter_map(|(_, name)| node(name)).collect())
    }
}

impl TgtShared {
    /// Starts tgtd and restores all exports. Retries, because another process may interfere for a moment.
    fn begin(self: &Arc<Self>, state: &mut TgtState) -> Result<(), TargetError> {
        let mut tries = 1;
        loop {
            let shared = Arc::downgrade(self);
            let begun = Daemon::start(&self.programs, &self.settings, move || notice(&shared))
                .and_then(|daemon| Ok(state.restore(daemon, &self.settings)?));
            if begun.is_ok() || tries == MAX_START_ATTEMPTS {
                return begun;
            }
            tries += 1;
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Runs `work` with a running tgtd. If tgtd has ended before, or ends during `work`, restarts it and runs `work` again.
    fn with<T>(
        self: &Arc<Self>,
        mut work: impl FnMut(&mut TgtState) -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        let mut state = self.state.lock();
        if state.has_ended(Duration::ZERO) {
            self.revive(&mut state)?;
        }
        match work(&mut state) {
            Err(_) if state.has_ended(EXIT_DELAY) => {
                self.revive(&mut state)?;
                work(&mut state)
            }
            result => result,
        }
    }

    /// Withdraws the disk of a node. A tgtd that has ended exports nothing, so this does not restart it.
    fn withdraw(self: &Arc<Self>, node: &str) -> Result<(), TargetError> {
        let mut state = self.state.lock();
        if !state.has_ended(Duration::ZERO) {
            let result = state.withdraw(node);
            if result.is_ok() || !state.has_ended(EXIT_DELAY) {
                return result;
            }
        }
        state.exports.remove(node);
        Ok(())
    }

    /// Restarts tgtd and restores all exports.
    fn revive(self: &Arc<Self>, state: &mut TgtState) -> Result<(), TargetError> {
        let words = state.daemon.take().map(|daemon| daemon.words()).unwrap_or_default();
        state.deaths.retain(|death| death.elapsed() < RESTARTS_WITHIN);
        if state.deaths.len() >= MAX_RESTARTS {
            return Err(TargetError(format!(
                "tgtd was started again {MAX_RESTARTS} times within {} s, and is not for now: {words}",
                RESTARTS_WITHIN.as_secs()
            )));
        }
        state.deaths.push_back(Instant::now());
        tracing::error!(words, "tgtd has ended, and is started again");
        self.begin(state)
            .map_err(|error| TargetError(format!("tgtd ended and cannot be started again: {error}")))
    }
}

/// Callback for the end of tgtd: restarts it at once, so that disks are back before the next request.
fn notice(shared: &Weak<TgtShared>) {
    let Some(shared) = shared.upgrade() else { return };
    let mut state = shared.state.lock();
    // Without a daemon, it was ended on purpose or could not be started.
    if state.daemon.is_none() || !state.has_ended(Duration::from_secs(1)) {
        return;
    }
    if let Err(error) = shared.revive(&mut state) {
        tracing::error!("{error}");
    }
}

impl TgtState {
    fn admin(&self) -> Result<&Admin, TargetError> {
        self.daemon
            .as_ref()
            .map(|daemon| &daemon.admin)
            .ok_or_else(|| TargetError("tgtd does not run".to_owned()))
    }

    fn has_ended(&mut self, within: Duration) -> bool {
        self.daemon.as_mut().is_none_or(|daemon| daemon.has_ended(within))
    }

    /// Restores all exports in a new tgtd. A disk that is gone does not affect the others.
    fn restore(&mut self, mut daemon: Daemon, settings: &Settings) -> Result<(), Failure> {
        for (node, export) in &mut self.exports {
            self.last_tid += 1;
            let name = settings.target(node).expect("it was handed out by this name");
            export.tid = match daemon.admin.give(self.last_tid, &name, &export.disk, &export.access) {
                Ok(()) => Some(self.last_tid),
                Err(Failure::Refused(error)) => {
                    tracing::error!(node, error, "its disk is not handed out again");
                    None
                }
                Err(silent) => {
                    // `silent` is returned; if ending tgtd fails too, the next start fails at its portal.
                    let _ = daemon.end();
                    return Err(silent);
                }
            };
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    fn export(
        &mut self,
        node: &str,
        name: &str,
        disk: &DiskFile,
        access: &Access,
    ) -> Result<(), TargetError> {
        let same_user =
            |(other, export): (&String, &Export)| other != node && export.access.user == access.user;
        if let Some((other, _)) = self.exports.iter().find(|entry| same_user(*entry)) {
            return Err(TargetError(format!("{node} cannot have the user {}: {other} has it", access.user)));
        }
        if let Some(Export { disk: old_disk, access: old, tid: Some(tid) }) = self.exports.get(node).cloned()
        {
            let admin = self.admin()?;
            let there = admin.targets()?.iter().any(|(number, other)| *number == tid && other == name);
            if there && old_disk == *disk && old.initiator == access.initiator {
                if old != *access {
                    let changed = admin.change(tid, &old, access);
                    if changed.is_err() {
                        self.withdraw(node)?;
                    }
                    changed?;
                    self.exports.insert(
                        node.to_owned(),
                        Export { disk: old_disk, access: access.clone(), tid: Some(tid) },
                    );
                }
                return Ok(());
            }
        }
        self.withdraw(node)?;
        self.last_tid += 1;
        let tid = self.last_tid;
        let admin = self.admin()?;
        if let Err(failure) = admin.give(tid, name, disk, access) {
            return Err(failure.into());
        }
        let export = Export { disk: disk.clone(), access: access.clone(), tid: Some(tid) };
        self.exports.insert(node.to_owned(), export);
        Ok(())
    }

    fn withdraw(&mut self, node: &str) -> Result<(), TargetError> {
        if let Some(export) = self.exports.get(node) {
            if let Some(tid) = export.tid {
                self.admin()?.take(tid, &export.access)?;
            }
            self.exports.remove(node);
        }
        Ok(())
    }
}

/// Operations that consist of several orders. The initiator is admitted last and excluded first, so it can never log in
/// without its secret.
impl Admin {
    /// Creates the target of a disk; on failure, removes what was created.
    fn give(&self, tid: u32, name: &str, disk: &DiskFile, access: &Access) -> Result<(), Failure> {
        let give = || {
            self.order(Order::NewTarget { tid, name })?;
            self.account(tid, access)?;
            self.order(Order::NewDisk { tid, disk: &disk.path })?;
            // The SCSI id depends on the name only, so an initiator recognises the disk even if the target has another number.
            let id = blake3::hash(name.as_bytes()).to_hex();
            self.order(Order::Identify { tid, id: &id[..16] })?;
            self.order(Order::Admit { tid, initiator: &access.initiator })?;
            Ok(())
        };
        give().inspect_err(|failure| {
            if let Err(left) = self.take(tid, access) {
                tracing::error!(name, ?failure, ?left, "a target may be left over");
            }
        })
    }

    /// Replaces the account of a target. Sessions that are logged in are kept.
    fn change(&self, tid: u32, old: &Access, new: &Access) -> Result<(), Failure> {
        self.order(Order::Exclude { tid, initiator: &old.initiator })?;
        self.order(Order::DeleteAccount { user: &old.user })?;
        self.account(tid, new)?;
        self.order(Order::Admit { tid, initiator: &new.initiator })?;
        Ok(())
    }

    fn account(&self, tid: u32, access: &Access) -> Result<(), Failure> {
        self.new_account(&access.user, &access.secret)?;
        self.order(Order::BindAccount { tid, user: &access.user })?;
        Ok(())
    }

    /// Deletes a target and its account, even if it is in use.
    fn take(&self, tid: u32, access: &Access) -> Result<(), Failure> {
        // The target may be incomplete.
        unless_silent(self.order(Order::Exclude { tid, initiator: &access.initiator }))?;
        let until = Instant::now() + PATIENCE;
        let mut closed = BTreeSet::new();
        loop {
            // Even with --force, tgtd refuses while a connection has I/O in progress, and takes a moment to finish it.
            for connection in unless_silent(self.connections(tid))?.unwrap_or_default() {
                if closed.insert(connection) {
                    unless_silent(self.order(Order::CloseConnection { tid, connection }))?;
                }
            }
            match self.order(Order::DeleteTarget { tid }) {
                Ok(_) => break,
                Err(Failure::Refused(words)) if words.contains("can't find the target") => break,
                Err(Failure::Refused(words)) if words.contains("still active") && Instant::now() < until => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(failure) => return Err(failure),
            }
        }
        unless_silent(self.order(Order::DeleteAccount { user: &access.user }))?;
        Ok(())
    }
}

/// Ignores a refusal, which means that the object does not exist.
fn unless_silent<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Err(Failure::Refused(_)) => Ok(None),
        result => result.map(Some),
    }
}

impl DiskFile {
    fn at(path: &Path) -> Result<Self, TargetError> {
        let no = |why: &dyn std::fmt::Display| TargetError(format!("{}: {why}", path.display()));
        let path = path.canonicalize().map_err(|error| no(&error))?;
        let about = fs::metadata(&path).map_err(|error| no(&error))?;
        if !about.is_file() && !about.file_type().is_block_device() {
            return Err(no(&"is neither a file nor a block device"));
        }
        let path = sayable(&path)
            .ok_or_else(|| no(&"tgt takes no path with a comma or a control character"))?
            .to_owned();
        Ok(Self { path, device: about.dev(), inode: about.ino(), size: about.len() })
    }
}

/// Locks the folder against a second service, which would kill the tgtd of the first.
fn lock(folder: &Path) -> Result<File, TargetError> {
    let path = folder.join("tgtd.lock");
    let no = |error: &dyn std::fmt::Display| TargetError(format!("{}: {error}", path.display()));
    let file = fs::create_dir_all(folder).and_then(|()| File::create(&path)).map_err(|error| no(&error))?;
    file.try_lock().map_err(|error| no(&error))?;
    Ok(file)
}
