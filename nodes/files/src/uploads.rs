//! Files that are being written: a part each, whole only by its digest.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rantai_client::files::interface::LARGEST_BLOCK;
use rantai_client::wire::fault::{Code, Fault};
use rantai_group_commit::is_full;
use uuid::Uuid;

use rantai_client::shares::{CallerKey, HeldPlace, ShareLimits, ShareLog, Shares};

use super::ahead::{Ahead, Held};
use super::folder::{Folder, disk, explain};

/// Uploads at the same time.
pub(super) const MOST: u64 = 64;
/// One that nothing came for this long gives its place up, and the room that it was promised; its part stays, until
/// its room is needed too.
const IDLE: Duration = Duration::from_mins(5);

/// What is being written.
#[derive(Debug)]
pub(super) struct Uploads {
    table: Mutex<HashMap<u64, Arc<Mutex<Upload>>>>,
    held: Held,
    idle: Duration,
    /// Bytes to leave free on the disk, where that is configured.
    free_space: Option<u64>,
    places: Arc<Shares<CallerKey>>,
    share_log: ShareLog,
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
    /// Its place among the uploads of its caller.
    _place: HeldPlace<CallerKey>,
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
    /// The disk was full, and its part was taken away.
    NoRoom,
}

#[derive(Debug)]
struct Writing {
    /// Locked as long as it is open.
    file: File,
    hasher: blake3::Hasher,
    /// Bytes that are there, from the start on without a gap.
    written: u64,
    ahead: Ahead,
}

impl Default for Uploads {
    fn default() -> Self {
        Self::new(None, ShareLimits::new(MOST))
    }
}

impl Uploads {
    /// None yet; `limits` says how many there may be. Leaves `free_space` bytes free on the disk; without it 64 MiB or a
    /// hundredth of it, whichever is less.
    pub(super) fn new(free_space: Option<u64>, limits: ShareLimits) -> Self {
        Self {
            table: Mutex::default(),
            held: Held::default(),
            idle: IDLE,
            free_space,
            places: Shares::new(limits),
            share_log: ShareLog::default(),
            beginning: Mutex::default(),
        }
    }

    /// Begins one, or goes on with it; its id, and how many bytes are there already.
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
            let fault = Fault::new(Code::TOO_LARGE, format!("there is room for {room} bytes more"));
            return Err(fault.with("limit", room));
        }
        let room = disk_room.saturating_add(freed);
        if needed > room {
            let text =
                format!("the disk has room for {room} bytes more, and {needed} are needed; make room on it");
            return Err(Fault::failed("disk_full", text).with("limit", room));
        }
        let mut file = folder.part(path, &part)?;
        let there = file.metadata().map_err(disk(path))?.len();
        let mut hasher = blake3::Hasher::new();
        let written = resume(&mut file, there, size, &mut hasher).map_err(disk(path))?;
        // Not a number that JSON readers round, and none that can be guessed.
        let id = (Uuid::new_v4().as_u128() & ((1 << 53) - 1)) as u64;
        let writing = Writing { file, hasher, written, ahead: Ahead::new(&self.held) };
        let upload = Upload {
            path: path.to_owned(),
            part,
            etag: etag.to_owned(),
            size,
            touched: Instant::now(),
            state: State::Writing(Box::new(writing)),
            _place: place,
        };
        self.table.lock().insert(id, Arc::new(Mutex::new(upload)));
        Ok((id, written))
    }

    /// Takes bytes; how many are there now from the start on.
    pub(super) fn write(&self, folder: &Folder, id: u64, offset: u64, bytes: &[u8]) -> Result<u64, Fault> {
        let upload = self.find(id)?;
        let mut upload = upload.lock();
        let Upload { path, part, size, touched, state, .. } = &mut *upload;
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= *size);
        if bytes.is_empty() || bytes.len() > LARGEST_BLOCK as usize || end.is_none() {
            return Err(Fault::wrong_parameter("data", "bytes within the size that was announced"));
        }
        *touched = Instant::now();
        let writing = match state {
            State::Writing(writing) => writing,
            State::Placed | State::Wrong => return Ok(*size),
            State::Left => return Err(forgotten()),
            State::NoRoom => return Err(no_room()),
        };
        if end <= Some(writing.written) {
            // It came before.
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

    /// Puts it in its place.
    pub(super) fn commit(&self, folder: &Folder, id: u64) -> Result<(), Fault> {
        let upload = self.find(id)?;
        let mut upload = upload.lock();
        let Upload { path, part, etag, size, touched, state, .. } = &mut *upload;
        *touched = Instant::now();
        let writing = match state {
            State::Writing(writing) => writing,
            State::Placed => return Ok(()),
            State::Wrong => return Err(mismatch(path)),
            State::Left => return Err(forgotten()),
            State::NoRoom => return Err(no_room()),
        };
        if writing.written < *size {
            let text = format!("{} of {size} bytes are there", writing.written);
            return Err(Fault::failed("not_whole", text));
        }
        // Some file systems find out only now that there is no room.
        if let Err(error) = writing.file.sync_all() {
            return Err(failed(folder, (path, part), state, &error));
        }
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

    /// Lets go of those that nothing came for. A write that has found one already finds nothing to write to.
    fn forget_idle(&self) {
        self.table.lock().retain(|_, upload| {
            // One that is locked is being written.
            let Some(mut upload) = upload.try_lock() else { return true };
            let idle = upload.touched.elapsed() >= self.idle;
            if idle && matches!(upload.state, State::Writing(_)) {
                upload.state = State::Left;
            }
            !idle
        });
    }

    /// Lets go of those that only answer what was asked before.
    fn forget_done(&self) {
        let done = |upload: &Upload| !matches!(upload.state, State::Writing(_));
        self.table.lock().retain(|_, upload| upload.try_lock().is_none_or(|upload| !done(&upload)));
    }
}

impl Writing {
    /// Takes bytes that follow what is there, and those that came before them.
    fn append_all(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.append(offset, bytes)?;
        while let Some((offset, bytes)) = self.ahead.next(self.written) {
            self.append(offset, &bytes)?;
        }
        Ok(())
    }

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

/// What a write says that failed. Where the disk is full the upload is given up, and its part with it: it would keep
/// everybody else on the disk from writing.
fn failed(folder: &Folder, (path, part): (&str, &str), state: &mut State, error: &std::io::Error) -> Fault {
    if !is_full(error) {
        return explain(path, error);
    }
    tracing::warn!(path, "the disk is full: the upload is given up, and what had arrived of it is removed");
    folder.remove(part);
    *state = State::NoRoom;
    no_room()
}

fn no_room() -> Fault {
    Fault::failed("disk_full", "the disk is full; nothing was kept of the file; make room and put it again")
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
    use std::time::SystemTime;

    use rantai_client::wire::fault::Code;

    use super::super::parts::part_name;
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
        let (id, _) =
            uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "book", 1_000, &right).expect("begun");
        uploads.write(&folder, id, 0, &book[..600]).expect("written");
        let same_name = format!("{}{}", &right[..16], "0".repeat(48));
        for (uploads, size, etag) in
            [(&uploads, 500, &right), (&uploads, 1_000, &same_name), (&elsewhere, 1_000, &right)]
        {
            let refused = uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "book", size, etag);
            assert_eq!(refused.expect_err("one writer").code, Code::BUSY);
        }
        uploads.write(&folder, id, 600, &book[600..]).expect("written");
        uploads.commit(&folder, id).expect("whole");
        assert_eq!(std::fs::read(directory.path().join("book")).expect("there"), book);
        // Once it is in its place, the name of its part is free.
        elsewhere.create(&folder, QUOTA, &CallerKey::Unnamed, "book", 1_000, &right).expect("begun");
        assert_eq!(parts(directory.path()), 1);
    }

    #[test]
    fn what_is_in_its_place_is_held_open_by_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        let uploads = Uploads::default();
        for (right, name) in [(true, "book"), (false, "other")] {
            let announced = etag(if right { b"x" } else { b"y" });
            let (id, _) =
                uploads.create(&folder, QUOTA, &CallerKey::Unnamed, name, 1, &announced).expect("begun");
            uploads.write(&folder, id, 0, b"x").expect("written");
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

    #[test]
    fn what_has_no_room_on_the_disk_is_refused_before_it_begins() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        for (free_space, size, begins) in
            [(u64::MAX, 1, false), (0, 1, true), (0, 1 << 60, false), (1 << 60, 1 << 20, false)]
        {
            let uploads = Uploads::new(Some(free_space), ShareLimits::new(MOST));
            match uploads.create(&folder, u64::MAX, &CallerKey::Unnamed, "book", size, &etag(b"x")) {
                Ok(_) => assert!(begins, "{free_space} {size}"),
                Err(fault) => {
                    assert!(!begins, "{fault}");
                    assert_eq!(fault.data["kind"], "disk_full", "{fault}");
                    assert!(fault.data["limit"].as_u64() < Some(size));
                }
            }
            assert_eq!(parts(directory.path()), usize::from(begins));
            for entry in std::fs::read_dir(directory.path()).expect("there").flatten() {
                std::fs::remove_file(entry.path()).expect("removed");
            }
        }
    }

    #[test]
    fn an_upload_that_finds_the_disk_full_is_given_up_with_its_part() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        let uploads = Uploads::new(Some(0), ShareLimits::new(MOST));
        let (id, _) = uploads
            .create(&folder, QUOTA, &CallerKey::Unnamed, "book", 1_000, &etag(&[7; 1_000]))
            .expect("begun");
        uploads.write(&folder, id, 0, &[7; 600]).expect("written");
        let found = uploads.find(id).expect("there");
        if let State::Writing(writing) = &mut found.lock().state {
            writing.file = File::options().write(true).open("/dev/full").expect("there");
        }
        for _ in 0..2 {
            let fault = uploads.write(&folder, id, 600, &[7; 400]).expect_err("full");
            assert_eq!(fault.data["kind"], "disk_full", "{fault}");
            assert_eq!(parts(directory.path()), 0);
        }
        let fault = uploads.commit(&folder, id).expect_err("given up");
        assert_eq!(fault.data["kind"], "disk_full", "{fault}");
        let (again, offset) = uploads
            .create(&folder, QUOTA, &CallerKey::Unnamed, "book", 1_000, &etag(&[7; 1_000]))
            .expect("begun anew");
        assert!(again != id && offset == 0);
    }

    #[test]
    fn an_idle_upload_gives_its_room_back_and_goes_on_where_there_is_some() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        let mut uploads = Uploads::default();
        let (book, right) = (vec![7; 6_000], etag(&[7; 6_000]));
        let (id, _) =
            uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "book", 6_000, &right).expect("begun");
        uploads.write(&folder, id, 0, &book[..1_000]).expect("written");
        let other = etag(b"other");
        let refused = uploads
            .create(&folder, QUOTA, &CallerKey::Unnamed, "other", 5_000, &other)
            .expect_err("promised to the book");
        assert_eq!((refused.code, refused.data["limit"].as_u64()), (Code::TOO_LARGE, Some(4_000)));
        let found = uploads.find(id).expect("there");

        uploads.idle = Duration::ZERO;
        let (second, _) = uploads
            .create(&folder, QUOTA, &CallerKey::Unnamed, "other", 5_000, &other)
            .expect("promised no more");
        uploads.idle = IDLE;
        assert!(
            matches!(found.lock().state, State::Left),
            "a write that had found it finds nothing to write to"
        );
        let fault = uploads.write(&folder, id, 1_000, &book[1_000..]).expect_err("forgotten");
        assert_eq!(fault.data["kind"], "no_upload");
        let refused = uploads
            .create(&folder, QUOTA, &CallerKey::Unnamed, "book", 6_000, &right)
            .expect_err("promised to the other");
        assert_eq!(refused.code, Code::TOO_LARGE);

        uploads.write(&folder, second, 0, &[0; 5_000]).expect("written");
        uploads.commit(&folder, second).expect_err("not what was announced");
        let (id, offset) =
            uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "book", 6_000, &right).expect("room again");
        assert_eq!(offset, 1_000);
        uploads.write(&folder, id, offset, &book[1_000..]).expect("written");
        uploads.commit(&folder, id).expect("whole");
        assert_eq!(std::fs::read(directory.path().join("book")).expect("there"), book);
    }

    #[test]
    fn parts_that_were_left_go_when_their_room_is_needed_and_after_a_day() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        let uploads = Uploads::default();
        let minutes_old = |name: &str, minutes: u64| {
            let part = directory.path().join(name);
            let file = File::options().append(true).create(true).open(&part).expect("opened");
            file.set_modified(SystemTime::now() - Duration::from_mins(minutes)).expect("set");
            part
        };
        let left = |name: &str, minutes| {
            std::fs::write(directory.path().join(name), [0; 2_000]).expect("written");
            minutes_old(name, minutes)
        };
        let (id, _) = uploads
            .create(&folder, QUOTA, &CallerKey::Unnamed, "live", 2_000, &etag(b"live"))
            .expect("begun");
        uploads.write(&folder, id, 0, &[0; 2_000]).expect("written");
        let live = minutes_old(&part_name("live", &etag(b"live")[..16]), 10_000);
        let ancient = left(&part_name("ancient", "0123456789abcdef"), 10_000);
        let oldest = left(&part_name("oldest", "0123456789abcdef"), 60);
        let old = left(&part_name("old", "0123456789abcdef"), 30);
        let new = left(&part_name("new", "0123456789abcdef"), 1);
        let there = || [&live, &ancient, &oldest, &old, &new].map(|part| part.exists());
        assert_eq!(there(), [true; 5]);

        uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "empty", 0, &etag(b"")).expect("begun");
        assert_eq!(there(), [true, false, true, true, true], "after a day");
        let refused = uploads
            .create(&folder, QUOTA, &CallerKey::Unnamed, "large", 6_001, &etag(b""))
            .expect_err("no room");
        assert_eq!((refused.code, refused.data["limit"].as_u64()), (Code::TOO_LARGE, Some(2_000)));
        assert_eq!(there(), [true, false, true, true, true], "none goes in vain");
        uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "small", 2_001, &etag(b"small")).expect("begun");
        assert_eq!(there(), [true, false, false, true, true], "the oldest");
    }

    #[test]
    fn what_is_refused_leaves_no_folder() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        let refused = Uploads::default().create(
            &folder,
            QUOTA,
            &CallerKey::Unnamed,
            "a/b/book",
            QUOTA + 1,
            &etag(b"x"),
        );
        assert_eq!(refused.expect_err("no room").code, Code::TOO_LARGE);
        assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 0);
    }

    /// 63 uploads of one byte took every place, and everybody else was told busy for five minutes.
    #[test]
    fn one_caller_takes_two_thirds_of_the_uploads() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        let uploads = Uploads::new(None, ShareLimits::new(8));
        let create = |caller: &str, name: &str| {
            let caller = CallerKey::Client(caller.to_owned());
            uploads.create(&folder, QUOTA, &caller, name, 1, &etag(b"x"))
        };
        let begun: Vec<_> = (0..6).map(|n| create("greedy", &format!("g{n}")).expect("begun")).collect();
        let refused = create("greedy", "g6").expect_err("over its share");
        assert_eq!(refused.code, Code::BUSY);
        assert!(refused.data["retry_after_ms"].is_u64());
        create("honest", "book").expect("others are served");
        assert_eq!(create("greedy", "g0").expect("it goes on"), begun[0]);
        for (id, _) in &begun[..2] {
            uploads.write(&folder, *id, 0, b"x").expect("written");
            uploads.commit(&folder, *id).expect("whole");
        }
        create("greedy", "g6").expect("its own that are done make room");
        assert_eq!(create("greedy", "g7").expect_err("over its share").code, Code::BUSY);
    }
}
