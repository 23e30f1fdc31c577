//! Files that are being written: a part each, whole only by its digest.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_std::fs::File;
use parking_lot::Mutex;
use rantai_client::files::interface::LARGEST_BLOCK;
use rantai_client::wire::fault::{Code, Fault};
use uuid::Uuid;

use super::folder::{Folder, disk};

/// Uploads at the same time.
const MOST: usize = 64;
/// One that nothing came for this long gives its place up; its part stays.
const IDLE: Duration = Duration::from_mins(5);
/// Blocks that may have come before those they follow.
const AHEAD: usize = 16;

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    table: Mutex<HashMap<u64, Arc<Mutex<Upload>>>>,
    /// One upload begins at a time, so that two do not take the same room.
    beginning: Mutex<()>,
}

#[derive(Debug)]
struct Upload {
    path: String,
    part: String,
    etag: String,
    size: u64,
    file: File,
    hasher: blake3::Hasher,
    /// Bytes that are there, from the start on without a gap.
    written: u64,
    /// What came before what it follows.
    ahead: BTreeMap<u64, Vec<u8>>,
    touched: Instant,
    /// It is in its place, or was taken away.
    done: Option<bool>,
}

impl Uploads {
    /// Begins one, or goes on with it; its id, and how many bytes are there already.
    pub(super) fn create(
        &self,
        folder: &Folder,
        quota: u64,
        path: &str,
        size: u64,
        etag: &str,
    ) -> Result<(u64, u64), Fault> {
        let _alone = self.beginning.lock();
        let mut promised = 0;
        for (id, upload) in &*self.table.lock() {
            let upload = upload.lock();
            if upload.done.is_some() {
                continue;
            }
            if upload.path == path && upload.etag == etag && upload.size == size {
                return Ok((*id, upload.written));
            }
            promised += upload.size - upload.written;
        }
        self.make_room()?;
        let (mut file, part) = folder.part(path, etag)?;
        let there = file.metadata().map_err(disk(path))?.len();
        let room = quota.saturating_sub(folder.size()?).saturating_sub(promised);
        if size.saturating_sub(there) > room {
            if there == 0 {
                folder.remove(&part);
            }
            let fault = Fault::new(Code::TOO_LARGE, format!("there is room for {room} bytes more"));
            return Err(fault.with("limit", room));
        }
        let mut hasher = blake3::Hasher::new();
        let written = resume(&mut file, there, size, &mut hasher).map_err(disk(path))?;
        // Not a number that JSON readers round, and none that can be guessed.
        let id = (Uuid::new_v4().as_u128() & ((1 << 53) - 1)) as u64;
        let upload = Upload {
            path: path.to_owned(),
            part,
            etag: etag.to_owned(),
            size,
            file,
            hasher,
            written,
            ahead: BTreeMap::new(),
            touched: Instant::now(),
            done: None,
        };
        self.table.lock().insert(id, Arc::new(Mutex::new(upload)));
        Ok((id, written))
    }

    /// Takes bytes; how many are there now from the start on.
    pub(super) fn write(&self, id: u64, offset: u64, bytes: &[u8]) -> Result<u64, Fault> {
        let upload = self.find(id)?;
        let mut upload = upload.lock();
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= upload.size);
        if bytes.is_empty() || bytes.len() > LARGEST_BLOCK as usize || end.is_none() {
            return Err(Fault::wrong_parameter("data", "bytes within the size that was announced"));
        }
        upload.touched = Instant::now();
        if upload.done.is_some() || end <= Some(upload.written) {
            // It came before.
            return Ok(upload.written);
        }
        if offset > upload.written {
            if upload.ahead.len() >= AHEAD {
                return Err(Fault::busy(50));
            }
            upload.ahead.insert(offset, bytes.to_vec());
            return Ok(upload.written);
        }
        let known = (upload.written - offset) as usize;
        upload.append(&bytes[known..])?;
        while let Some((offset, bytes)) = upload.ahead.pop_first() {
            if offset > upload.written {
                upload.ahead.insert(offset, bytes);
                break;
            }
            let known = (upload.written - offset) as usize;
            if known < bytes.len() {
                upload.append(&bytes[known..])?;
            }
        }
        Ok(upload.written)
    }

    /// Puts it in its place.
    pub(super) fn commit(&self, folder: &Folder, id: u64) -> Result<(), Fault> {
        let upload = self.find(id)?;
        let mut upload = upload.lock();
        match upload.done {
            Some(true) => return Ok(()),
            Some(false) => return Err(mismatch(&upload.path)),
            None => {}
        }
        if upload.written < upload.size {
            let text = format!("{} of {} bytes are there", upload.written, upload.size);
            return Err(Fault::failed("not_whole", text));
        }
        upload.file.sync_all().map_err(disk(&upload.path))?;
        if upload.hasher.finalize().to_hex().as_str() != upload.etag {
            folder.remove(&upload.part);
            upload.done = Some(false);
            return Err(mismatch(&upload.path));
        }
        folder.rename(&upload.part, &upload.path).map_err(disk(&upload.path))?;
        upload.done = Some(true);
        Ok(())
    }

    fn find(&self, id: u64) -> Result<Arc<Mutex<Upload>>, Fault> {
        let known = self.table.lock().get(&id).cloned();
        known.ok_or_else(|| Fault::failed("no_upload", "no such upload; create it again, it goes on"))
    }

    /// Lets go of those that nothing comes for.
    fn make_room(&self) -> Result<(), Fault> {
        let mut table = self.table.lock();
        if table.len() >= MOST {
            table.retain(|_, upload| {
                upload
                    .try_lock()
                    .is_none_or(|upload| upload.done.is_none() && upload.touched.elapsed() < IDLE)
            });
        }
        if table.len() >= MOST { Err(Fault::busy(1_000)) } else { Ok(()) }
    }
}

impl Upload {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let written = self.file.seek(SeekFrom::Start(self.written)).and_then(|_| self.file.write_all(bytes));
        written.map_err(disk(&self.path))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Bytes of a part that are there, all of them read again for the digest.
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

fn mismatch(path: &str) -> Fault {
    let text = format!("{path:?}: what arrived is not what was announced; nothing was kept of it");
    Fault::new(Code::MISMATCH, text)
}
