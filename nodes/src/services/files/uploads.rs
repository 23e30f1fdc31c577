//! Files that are being written: a part each, whole only by its digest.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    touched: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Writing(Box<Writing>),
    /// It is in its place.
    Placed,
    /// It was not what was announced, and was taken away.
    Wrong,
    /// Its place was given to another.
    Left,
}

#[derive(Debug)]
struct Writing {
    /// Locked as long as it is open.
    file: File,
    hasher: blake3::Hasher,
    /// Bytes that are there, from the start on without a gap.
    written: u64,
    /// What came before what it follows.
    ahead: BTreeMap<u64, Vec<u8>>,
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
            let mut upload = upload.lock();
            let State::Writing(writing) = &upload.state else { continue };
            let written = writing.written;
            if upload.path == path && upload.etag == etag && upload.size == size {
                upload.touched = Instant::now();
                return Ok((*id, written));
            }
            promised += upload.size - written;
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
        let writing = Writing { file, hasher, written, ahead: BTreeMap::new() };
        let upload = Upload {
            path: path.to_owned(),
            part,
            etag: etag.to_owned(),
            size,
            touched: Instant::now(),
            state: State::Writing(Box::new(writing)),
        };
        self.table.lock().insert(id, Arc::new(Mutex::new(upload)));
        Ok((id, written))
    }

    /// Takes bytes; how many are there now from the start on.
    pub(super) fn write(&self, id: u64, offset: u64, bytes: &[u8]) -> Result<u64, Fault> {
        let upload = self.find(id)?;
        let mut upload = upload.lock();
        let Upload { path, size, touched, state, .. } = &mut *upload;
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= *size);
        if bytes.is_empty() || bytes.len() > LARGEST_BLOCK as usize || end.is_none() {
            return Err(Fault::wrong_parameter("data", "bytes within the size that was announced"));
        }
        *touched = Instant::now();
        let writing = match state {
            State::Writing(writing) => writing,
            State::Placed | State::Wrong => return Ok(*size),
            State::Left => return Err(forgotten()),
        };
        if end <= Some(writing.written) {
            // It came before.
            return Ok(writing.written);
        }
        if offset > writing.written {
            if writing.ahead.len() >= AHEAD {
                return Err(Fault::busy(50));
            }
            writing.ahead.insert(offset, bytes.to_vec());
            return Ok(writing.written);
        }
        writing.append(offset, bytes).map_err(disk(path))?;
        while let Some((offset, bytes)) = writing.ahead.pop_first() {
            if offset > writing.written {
                writing.ahead.insert(offset, bytes);
                break;
            }
            writing.append(offset, &bytes).map_err(disk(path))?;
        }
        Ok(writing.written)
    }

    /// Puts it in its place.
    pub(super) fn commit(&self, folder: &Folder, id: u64) -> Result<(), Fault> {
        let upload = self.find(id)?;
        let mut upload = upload.lock();
        let Upload { path, part, etag, size, touched, state } = &mut *upload;
        *touched = Instant::now();
        let writing = match state {
            State::Writing(writing) => writing,
            State::Placed => return Ok(()),
            State::Wrong => return Err(mismatch(path)),
            State::Left => return Err(forgotten()),
        };
        if writing.written < *size {
            let text = format!("{} of {size} bytes are there", writing.written);
            return Err(Fault::failed("not_whole", text));
        }
        writing.file.sync_all().map_err(disk(path))?;
        if writing.hasher.finalize().to_hex().as_str() != etag {
            folder.remove(part);
            *state = State::Wrong;
            return Err(mismatch(path));
        }
        folder.rename(part, path).map_err(disk(path))?;
        *state = State::Placed;
        Ok(())
    }

    fn find(&self, id: u64) -> Result<Arc<Mutex<Upload>>, Fault> {
        self.table.lock().get(&id).cloned().ok_or_else(forgotten)
    }

    /// Lets go of those that nothing comes for.
    fn make_room(&self) -> Result<(), Fault> {
        let mut table = self.table.lock();
        if table.len() >= MOST {
            table.retain(|_, upload| upload.try_lock().is_none_or(|mut upload| !upload.leaves()));
        }
        if table.len() >= MOST { Err(Fault::busy(1_000)) } else { Ok(()) }
    }
}

impl Upload {
    /// Gives its place up where nobody needs it any more; whether it did. Its part is then free for others, and a
    /// write that has found it already finds nothing to write to.
    fn leaves(&mut self) -> bool {
        let leaves = !matches!(self.state, State::Writing(_)) || self.touched.elapsed() >= IDLE;
        if leaves && matches!(self.state, State::Writing(_)) {
            self.state = State::Left;
        }
        leaves
    }
}

impl Writing {
    /// Takes bytes that follow what is there, or overlap with it.
    fn append(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let bytes = bytes.get((self.written - offset) as usize..).unwrap_or_default();
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(bytes)?;
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

fn forgotten() -> Fault {
    Fault::failed("no_upload", "no such upload; create it again, it goes on")
}

fn mismatch(path: &str) -> Fault {
    let text = format!("{path:?}: what arrived is not what was announced; nothing was kept of it");
    Fault::new(Code::MISMATCH, text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rantai_client::wire::fault::Code;

    use super::*;

    const QUOTA: u64 = 10_000;

    fn etag(bytes: &[u8]) -> String {
        blake3::hash(bytes).to_hex().to_string()
    }

    fn parts(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).expect("there").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part")).count()
    }

    /// Two uploads with one part: the later one emptied it under the earlier, whose digest went on as if the bytes
    /// were there, so that a file full of zeros was put in its place.
    #[test]
    fn a_part_has_one_writer() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        let (uploads, elsewhere) = (Uploads::default(), Uploads::default());
        let book = vec![7; 1_000];
        let right = etag(&book);
        let (id, _) = uploads.create(&folder, QUOTA, "book", 1_000, &right).expect("begun");
        uploads.write(id, 0, &book[..600]).expect("written");
        let same_name = format!("{}{}", &right[..16], "0".repeat(48));
        for (uploads, size, etag) in
            [(&uploads, 500, &right), (&uploads, 1_000, &same_name), (&elsewhere, 1_000, &right)]
        {
            let refused = uploads.create(&folder, QUOTA, "book", size, etag);
            assert_eq!(refused.expect_err("one writer").code, Code::BUSY);
        }
        uploads.write(id, 600, &book[600..]).expect("written");
        uploads.commit(&folder, id).expect("whole");
        assert_eq!(std::fs::read(directory.path().join("book")).expect("there"), book);
        // Once it is in its place, the name of its part is free.
        elsewhere.create(&folder, QUOTA, "book", 1_000, &right).expect("begun");
        assert_eq!(parts(directory.path()), 1);
    }

    #[test]
    fn what_is_in_its_place_is_held_open_by_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        let uploads = Uploads::default();
        for (right, name) in [(true, "book"), (false, "other")] {
            let announced = etag(if right { b"x" } else { b"y" });
            let (id, _) = uploads.create(&folder, QUOTA, name, 1, &announced).expect("begun");
            uploads.write(id, 0, b"x").expect("written");
            assert_eq!(uploads.commit(&folder, id).is_ok(), right);
            assert_eq!(uploads.commit(&folder, id).is_ok(), right, "and says so again");
        }
        let open = std::fs::read_dir("/proc/self/fd").expect("there").flatten();
        let ours = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let ours: Vec<_> =
            ours.filter(|path| path.starts_with(directory.path()) && path != directory.path()).collect();
        assert!(ours.is_empty(), "{ours:?}");
        assert_eq!(parts(directory.path()), 0);
    }
}
