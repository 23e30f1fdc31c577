//! Disks over iSCSI, by Debian's `tgt`.
//!
//! tgtd runs as a child of this process, listens at the configured portal only, and has no targets but these. What
//! ends with it comes back: where it dies by itself it is started again with everything that was handed out, and
//! what an earlier run left behind is ended at the start, for the caller to hand out again.
//!
//! A node's disk is LUN 1 of a target of its own. One initiator sees it, by its name, and logs in by CHAP with its
//! own account. CHAP guards the login and no more: what is read and written is neither encrypted nor signed, so the
//! portal belongs on a network that is trusted with the disks. Secrets are told tgtd by its control socket, so they
//! are in no argument and no file; tgtd has them in its memory, in clear.
//!
//! It wants the rights of root: tgtd makes its control socket in `/var/run/tgtd`.

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

/// How often it is tried to start tgtd.
const TRIES: u32 = 3;

/// How often it may end within [`DEATHS_WITHIN`] and is started again.
const DEATHS: usize = 5;

const DEATHS_WITHIN: Duration = Duration::from_mins(1);

/// An order fails this long, at most, before the end of the process can be seen.
const A_MOMENT: Duration = Duration::from_millis(50);

/// Hands disks out over iSCSI. tgtd ends when this is dropped.
pub struct Tgt {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    programs: Programs,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// None where it could not be started again.
    daemon: Option<Daemon>,
    exports: BTreeMap<String, Export>,
    last_tid: u32,
    deaths: VecDeque<Instant>,
    /// Locked for as long as the folder is ours; none once it has been told to end.
    lock: Option<File>,
}

/// What a node has, or is to have.
#[derive(Clone, Debug)]
struct Export {
    disk: Disk,
    access: Access,
    /// The number of its target in the tgtd that runs. None where that would not take it.
    tid: Option<u32>,
}

/// A file or a device, and which: another may have the same path by now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Disk {
    path: String,
    device: u64,
    inode: u64,
    /// tgt looks at it once.
    size: u64,
}

impl Tgt {
    /// Starts tgtd, with nothing handed out.
    ///
    /// # Errors
    ///
    /// Where tgt is not installed, the settings are none for it, another service has the folder, or tgtd does not
    /// start as it should.
    pub fn start(settings: Settings) -> Result<Self, TargetError> {
        settings.check()?;
        let programs = Programs::find()?;
        let lock = Some(lock(&settings.folder)?);
        end_former(&settings.folder)?;
        let state = Mutex::new(State { lock, ..State::default() });
        let tgt = Self { shared: Arc::new(Shared { settings, programs, state }) };
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
        // Whoever looks after tgtd may still hold the rest for a moment.
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
        let disk = Disk::at(disk)?;
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

impl Shared {
    /// Starts tgtd, with everything that is to be handed out. What another process does at this moment may be in the
    /// way for a moment.
    fn begin(self: &Arc<Self>, state: &mut State) -> Result<(), TargetError> {
        let mut tries = 1;
        loop {
            let shared = Arc::downgrade(self);
            let begun = Daemon::start(&self.programs, &self.settings, move || notice(&shared))
                .and_then(|daemon| Ok(state.restore(daemon, &self.settings)?));
            if begun.is_ok() || tries == TRIES {
                return begun;
            }
            tries += 1;
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Does something with a tgtd that runs: where it has ended, or ends meanwhile, with another.
    fn with<T>(
        self: &Arc<Self>,
        mut work: impl FnMut(&mut State) -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        let mut state = self.state.lock();
        if state.has_ended(Duration::ZERO) {
            self.revive(&mut state)?;
        }
        match work(&mut state) {
            Err(_) if state.has_ended(A_MOMENT) => {
                self.revive(&mut state)?;
                work(&mut state)
            }
            result => result,
        }
    }

    /// Nothing is handed out by a tgtd that has ended, so this does not wait for another.
    fn withdraw(self: &Arc<Self>, node: &str) -> Result<(), TargetError> {
        let mut state = self.state.lock();
        if !state.has_ended(Duration::ZERO) {
            let result = state.withdraw(node);
            if result.is_ok() || !state.has_ended(A_MOMENT) {
                return result;
            }
        }
        state.exports.remove(node);
        Ok(())
    }

    /// Starts tgtd again, with everything that was handed out.
    fn revive(self: &Arc<Self>, state: &mut State) -> Result<(), TargetError> {
        let words = state.daemon.take().map(|daemon| daemon.words()).unwrap_or_default();
        state.deaths.retain(|death| death.elapsed() < DEATHS_WITHIN);
        if state.deaths.len() >= DEATHS {
            return Err(TargetError(format!(
                "tgtd was started again {DEATHS} times within {} s, and is not for now: {words}",
                DEATHS_WITHIN.as_secs()
            )));
        }
        state.deaths.push_back(Instant::now());
        tracing::error!(words, "tgtd has ended, and is started again");
        self.begin(state)
            .map_err(|error| TargetError(format!("tgtd ended and cannot be started again: {error}")))
    }
}

/// Called when a tgtd has ended: nobody should have to ask before the disks come back.
fn notice(shared: &Weak<Shared>) {
    let Some(shared) = shared.upgrade() else { return };
    let mut state = shared.state.lock();
    // Where there is none it was ended on purpose, or could not be started.
    if state.daemon.is_none() || !state.has_ended(Duration::from_secs(1)) {
        return;
    }
    if let Err(error) = shared.revive(&mut state) {
        tracing::error!("{error}");
    }
}

impl State {
    fn admin(&self) -> Result<&Admin, TargetError> {
        self.daemon
            .as_ref()
            .map(|daemon| &daemon.admin)
            .ok_or_else(|| TargetError("tgtd does not run".to_owned()))
    }

    fn has_ended(&mut self, within: Duration) -> bool {
        self.daemon.as_mut().is_none_or(|daemon| daemon.has_ended(within))
    }

    /// Hands everything out again by a tgtd that is new. One disk that is gone does not keep the others.
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
                    // The failure is told; the portal tells next time if this failed too.
                    let _ = daemon.end();
                    return Err(silent);
                }
            };
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    fn export(&mut self, node: &str, name: &str, disk: &Disk, access: &Access) -> Result<(), TargetError> {
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

/// What is done in several orders. The initiator is let in last and shut out first: there is no moment at which it
/// gets in without its secret.
impl Admin {
    /// Makes a target for a disk, or nothing.
    fn give(&self, tid: u32, name: &str, disk: &Disk, access: &Access) -> Result<(), Failure> {
        let give = || {
            self.order(Order::NewTarget { tid, name })?;
            self.account(tid, access)?;
            self.order(Order::NewDisk { tid, disk: &disk.path })?;
            // The same disk for an initiator whichever number its target has this time.
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

    /// Gives a target another account. Whoever is logged in stays.
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

    /// Takes a target away, whoever uses it, with its account.
    fn take(&self, tid: u32, access: &Access) -> Result<(), Failure> {
        // It may not have got so far.
        unless_silent(self.order(Order::Exclude { tid, initiator: &access.initiator }))?;
        let until = Instant::now() + PATIENCE;
        let mut closed = BTreeSet::new();
        loop {
            // By force alone tgtd refuses while something is read or written, and it is always a little while.
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

/// What is refused is no matter here: it is not there.
fn unless_silent<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Err(Failure::Refused(_)) => Ok(None),
        result => result.map(Some),
    }
}

impl Disk {
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

/// Keeps a second service out of the folder: it would end the tgtd of the first.
fn lock(folder: &Path) -> Result<File, TargetError> {
    let path = folder.join("tgtd.lock");
    let no = |error: &dyn std::fmt::Display| TargetError(format!("{}: {error}", path.display()));
    let file = fs::create_dir_all(folder).and_then(|()| File::create(&path)).map_err(|error| no(&error))?;
    file.try_lock().map_err(|error| no(&error))?;
    Ok(file)
}
