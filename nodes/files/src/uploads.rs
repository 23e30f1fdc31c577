//! Uploads: each file is written to a part, and put in its place only if its digest is right.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rantai_client::files::interface::{Attributes, MAX_BLOCK_BYTES};
use rantai_client::files::sparse;
use rantai_client::wire::fault::{Code, Fault};
use rantai_group_commit::is_full;
use uuid::Uuid;

use rantai_client::shares::{CallerKey, HeldPlace, ShareLimits, ShareLog, ShareReport, Shares};

use super::ahead::{Ahead, HeldBytes};
use super::folder::{Folder, disk, explain};

/// Default limit of concurrent uploads.
pub(super) const DEFAULT_UPLOADS: u64 = 64;
/// Time without a write after which an upload gives up its place, and the room reserved for it. Its part is kept until its
/// room is needed too.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// Upload in progress.
#[derive(Debug)]
pub(super) struct Uploads {
    table: Mutex<HashMap<u64, Arc<Mutex<Upload>>>>,
    held: HeldBytes,
    idle: Duration,
    /// Bytes to leave free on the disk, if that is configured.
    free_space: Option<u64>,
    places: Arc<Shares<CallerKey>>,
    share_log: ShareLog,
    /// Maximum number of bytes that one caller may announce and not send yet, instead of its fair share of the quota.
    announced_per_caller: Option<u64>,
    announced_log: ShareLog,
    /// Held while an upload begins, so that two do not reserve the same room.
    beginning: Mutex<()>,
}

#[derive(Debug)]
struct Upload {
    path: String,
    part: String,
    etag: String,
    size: u64,
    /// Attributes that the file gets when it is moved to its path.
    attributes: Attributes,
    touched: Instant,
    state: UploadState,
    /// Place of the upload among those of its caller.
    place: HeldPlace<CallerKey>,
}

#[derive(Debug)]
enum UploadState {
    Writing(Box<Writing>),
    /// The file is at its path.
    Placed,
    /// The digest did not match, and the part was removed.
    Wrong,
    /// The upload was idle, and its place was given up.
    Left,
    /// The disk was full, and the part was removed.
    NoRoom,
}

#[derive(Debug)]
struct Writing {
    /// Part, locked as long as it is open.
    file: File,
    hasher: blake3::Hasher,
    /// Number of bytes received from the start of the file without a gap.
    written: u64,
    ahead: Ahead,
}

impl Default for Uploads {
    fn default() -> Self {
        Self::new(None, ShareLimits::new(DEFAULT_UPLOADS))
    }
}

impl Uploads {
    /// Creates an empty table for as many uploads as `limits` allow. Leaves `free_space` bytes free on the disk; with `None`,
    /// 64 MiB or a hundredth of the disk, whichever is less.
    pub(super) fn new(free_space: Option<u64>, limits: ShareLimits) -> Self {
        Self {
            table: Mutex::default(),
            held: HeldBytes::default(),
            idle: IDLE_TIMEOUT,
            free_space,
            places: Shares::new(limits),
            share_log: ShareLog::default(),
            announced_per_caller: None,
            announced_log: ShareLog::default(),
            beginning: Mutex::default(),
        }
    }

    /// Sets the maximum number of bytes that one caller may announce and not send, instead of its fair share of the quota.
    pub(super) fn announced_per_caller(self, most: Option<u64>) -> Self {
        Self { announced_per_caller: most, ..self }
    }

    /// Reports the tables and their largest holders, without uploads that are being written at this moment.
    pub(super) fn reports(&self, quota: u64) -> Vec<ShareReport> {
        let mut announced = BTreeMap::<String, u64>::new();
        for upload in self.table.lock().values() {
            if let Some(upload) = upload.try_lock()
                && let UploadState::Writing(writing) = &upload.state
            {
                *announced.entry(upload.place.caller().to_string()).or_default() +=
                    upload.size - writing.written;
            }
        }
        let all = announced.values().sum();
        vec![
            self.places.report("uploads", &self.share_log),
            ShareReport::new("announced bytes", quota, all, &self.announced_log, announced.into_iter()),
        ]
    }

    /// Begins or resumes an upload; returns its id, and the number of bytes that have been received already.
    pub(super) fn create(
        &self,
        folder: &Folder,
        quota: u64,
        caller: &CallerKey,
        path: &str,
        size: u64,
        etag: &str,
    ) -> Result<(u64, u64), Fault> {
        let _alone = self.beginning.lock();
        self.forget_idle();
        let (mut promised, mut promised_to_caller) = (0, 0);
        for (id, upload) in &*self.table.lock() {
            let mut upload = upload.lock();
            let UploadState::Writing(writing) = &upload.state else { continue };
            let written = writing.written;
            if upload.path == path && upload.etag == etag && upload.size == size {
                upload.touched = Instant::now();
                return Ok((*id, written));
            }
            promised += upload.size - written;
            if upload.place.caller() == caller {
                promised_to_caller += upload.size - written;
            }
        }
        if !self.places.admits(caller) {
            self.forget_done();
        }
        let Some(place) = self.places.take(caller) else {
            self.share_log.refused("the places of uploads", caller);
            return Err(Fault::busy(1_000));
        };
        let (part, there) = folder.part_of(path, etag)?;
        let (used, mut parts) = folder.used()?;
        parts.retain(|other| other.path != part);
        let needed = size.saturating_sub(there);
        let taken = used.saturating_add(promised);
        let disk_room = folder.free_beyond(self.free_space).map_err(disk(path))?.saturating_sub(promised);
        let wanted = taken.saturating_add(needed).saturating_sub(quota).max(needed.saturating_sub(disk_room));
        let freed = folder.sweep(&parts, wanted, self.idle);
        let room = quota.saturating_sub(taken.saturating_sub(freed));
        if needed > room {
            let text = format!(
                "{path:?} needs {needed} bytes, and the quota of the folder has room for {room}; remove files, or raise its \
                 quota_bytes"
            );
            return Err(Fault::new(Code::TOO_LARGE, text).with("limit", room));
        }
        let limits = ShareLimits { limit: quota, per_caller: self.announced_per_caller };
        let share = limits.room(taken.saturating_sub(freed), promised_to_caller);
        if needed > share {
            self.announced_log.refused("the room for files", caller);
            return Err(over_share((path, needed), share, promised_to_caller));
        }
        let room = disk_room.saturating_add(freed);
        if needed > room {
            let text =
                format!("{path:?} needs {needed} bytes, and the disk has room for {room}; make room on it");
            return Err(Fault::failed("disk_full", text).with("limit", room));
        }
        let mut file = folder.part(path, &part)?;
        let there = file.metadata().map_err(disk(path))?.len();
        let mut hasher = blake3::Hasher::new();
        let written = resume(&mut file, there, size, &mut hasher).map_err(disk(path))?;
        // Below 2^53, so that JSON readers do not round it, and random, so that it cannot be guessed.
        let id = (Uuid::new_v4().as_u128() & ((1 << 53) - 1)) as u64;
        let writing = Writing { file, hasher, written, ahead: Ahead::new(&self.held) };
        let upload = Upload {
            path: path.to_owned(),
            part,
            etag: etag.to_owned(),
            size,
            attributes: Attributes::default(),
            touched: Instant::now(),
            state: UploadState::Writing(Box::new(writing)),
            place,
        };
        self.table.lock().insert(id, Arc::new(Mutex::new(upload)));
        Ok((id, written))
    }

    /// Sets the attributes of an upload, in place of those of an earlier attempt.
    pub(super) fn announce(&self, id: u64, attributes: Attributes) -> Result<(), Fault> {
        self.find(id)?.lock().attributes = attributes;
        Ok(())
    }

    /// Writes bytes; returns the number of bytes received from the start without a gap.
    pub(super) fn write(&self, folder: &Folder, id: u64, offset: u64, bytes: &Bytes) -> Result<u64, Fault> {
        let upload = self.find(id)?;
        let mut upload = upload.lock();
        let Upload { path, part, size, touched, state, .. } = &mut *upload;
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= *size);
        if bytes.is_empty() || bytes.len() > MAX_BLOCK_BYTES as usize || end.is_none() {
            return Err(Fault::wrong_parameter("data", "bytes within the size that was announced"));
        }
        *touched = Instant::now();
        let writing = match state {
            UploadState::Writing(writing) => writing,
            UploadState::Placed | UploadState::Wrong => return Ok(*size),
            UploadState::Left => return Err(forgotten()),
            UploadState::NoRoom => return Err(no_room(path)),
        };
        if end <= Some(writing.written) {
            // A repeat of a block that was written already.
            return Ok(writing.written);
        }
        if offset > writing.written {
            let kept = writing.ahead.keep(offset, bytes);
            return if kept { Ok(writing.written) } else { Err(Fault::busy(50)) };
        }
        if let Err(error) = writing.append_all(offset, bytes) {
            return Err(failed(folder, (path, part), state, &error));
        }
        Ok(writing.written)
    }

    /// Checks the digest, and moves the file to its path.
    pub(super) fn commit(&self, folder: &Folder, id: u64) -> Result<(), Fault> {
        let upload = self.find(id)?;
        let mut upload = upload.lock();
        let Upload { path, part, etag, size, attributes, touched, state, .. } = &mut *upload;
        *touched = Instant::now();
        let writing = match state {
            UploadState::Writing(writing) => writing,
            UploadState::Placed => return Ok(()),
            UploadState::Wrong => return Err(mismatch(path)),
            UploadState::Left => return Err(forgotten()),
            UploadState::NoRoom => return Err(no_room(path)),
        };
        if writing.written < *size {
            let text = format!("{} of {size} bytes are there", writing.written);
            return Err(Fault::failed("not_whole", text));
        }
        attributes.apply_or_log(&writing.file, Path::new(path));
        // Some file systems report only now that there is no room.
        if let Err(error) = writing.file.sync_all() {
            return Err(failed(folder, (path, part), state, &error));
        }
        if writing.hasher.finalize().to_hex().as_str() != etag {
            folder.remove(part);
            *state = UploadState::Wrong;
            return Err(mismatch(path));
        }
        folder.rename(part, path).map_err(disk(path))?;
        *state = UploadState::Placed;
        Ok(())
    }

    fn find(&self, id: u64) -> Result<Arc<Mutex<Upload>>, Fault> {
        self.table.lock().get(&id).cloned().ok_or_else(forgotten)
    }

    /// Removes idle uploads from the table. A concurrent write to one of them fails.
    fn forget_idle(&self) {
        self.table.lock().retain(|_, upload| {
            // A locked upload is being written.
            let Some(mut upload) = upload.try_lock() else { return true };
            let idle = upload.touched.elapsed() >= self.idle;
            if idle && matches!(upload.state, UploadState::Writing(_)) {
                upload.state = UploadState::Left;
            }
            !idle
        });
    }

    /// Removes uploads from the table that have ended and are only kept to answer repeated requests.
    fn forget_done(&self) {
        let done = |upload: &Upload| !matches!(upload.state, UploadState::Writing(_));
        self.table.lock().retain(|_, upload| upload.try_lock().is_none_or(|upload| !done(&upload)));
    }
}

impl Writing {
    /// Appends a block, and then buffered blocks that follow it.
    fn append_all(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.append(offset, bytes)?;
        while let Some((offset, bytes)) = self.ahead.next(self.written) {
            self.append(offset, &bytes)?;
        }
        Ok(())
    }

    /// Appends a block, which may overlap with what has been received.
    fn append(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let bytes = bytes.get((self.written - offset) as usize..).unwrap_or_default();
        sparse::append(&self.file, self.written, bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Reads a part again to compute the digest so far; returns its size in bytes.
fn resume(file: &mut File, there: u64, size: u64, hasher: &mut blake3::Hasher) -> std::io::Result<u64> {
    let kept = if there > size { 0 } else { there };
    file.set_len(kept)?;
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 256 << 10];
    let mut left = kept;
    while left > 0 {
        let wanted = left.min(buffer.len() as u64) as usize;
        file.read_exact(&mut buffer[..wanted])?;
        hasher.update(&buffer[..wanted]);
        left -= wanted as u64;
    }
    Ok(kept)
}

/// Returns the fault for a write that failed. If the disk is full, the upload is given up and its part removed, as it would
/// keep others from writing to the disk.
fn failed(
    folder: &Folder,
    (path, part): (&str, &str),
    state: &mut UploadState,
    error: &std::io::Error,
) -> Fault {
    if !is_full(error) {
        return explain(path, error);
    }
    tracing::warn!(path, "the disk is full: the upload is given up, and what had arrived of it is removed");
    folder.remove(part);
    *state = UploadState::NoRoom;
    no_room(path)
}

/// Refuses a file that fits into the quota, but not into its caller's share of it. Retryable if the caller has announced
/// other files.
fn over_share((path, needed): (&str, u64), share: u64, announced: u64) -> Fault {
    let text = format!(
        "{path:?} needs {needed} bytes, and your share of the room has {share} left; put it \
         again when other uploads have ended"
    );
    let fault = match announced {
        0 => Fault::new(Code::TOO_LARGE, text),
        _ => Fault { message: text, ..Fault::busy(1_000) },
    };
    fault.with("limit", share)
}

fn no_room(path: &str) -> Fault {
    let text =
        format!("{path:?}: the disk is full; nothing was kept of the file; make room and put it again");
    Fault::failed("disk_full", text)
}

fn forgotten() -> Fault {
    Fault::failed("no_upload", "no such upload; create it again, it goes on")
}

fn mismatch(path: &str) -> Fault {
    let text = format!("{path:?}: what arrived is not what was announced; nothing was kept of it");
    Fault::new(Code::MISMATCH, text)
}

#[cfg(test)]
mod tests;
