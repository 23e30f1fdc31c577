//! Disk that fails on request, for tests.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};

use super::{Memory, Opener};

/// Faults of a disk, set by a test while the disk is in use.
#[derive(Debug, Default)]
pub struct Switch {
    /// Whether writes and syncs fail as on a full disk.
    pub full: AtomicBool,
    /// Whether writes and syncs fail with an error other than a full disk.
    pub broken: AtomicBool,
    /// Whether writes and syncs panic.
    pub panics: AtomicBool,
    /// Whether reads fail.
    pub unreadable: AtomicBool,
    /// Number of writes and syncs that still succeed while the disk is full or broken.
    pub writes: AtomicU64,
    /// Highest offset at which a write has ended, in bytes.
    pub written: AtomicU64,
    /// Number of attempts to open the file, including failed ones.
    pub opened: AtomicU64,
    /// Whether opening the file fails.
    pub gone: AtomicBool,
    /// Offset at which the disk ends, in bytes: a write beyond it fails, even if the file is longer. 0 for no end.
    pub end: AtomicU64,
    hang: Hang,
}

/// State of a hanging disk, at which writes and syncs block.
#[derive(Debug, Default)]
struct Hang {
    hangs: Mutex<Hanging>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Hanging {
    hangs: bool,
    waiting: usize,
}

impl Switch {
    /// Makes writes and syncs block, until [`release`](Self::release).
    pub fn hang(&self) {
        self.hang.hangs.lock().hangs = true;
    }

    /// Blocks until a write or a sync hangs.
    pub fn wait_until_it_hangs(&self) {
        let mut hanging = self.hang.hangs.lock();
        while hanging.waiting == 0 {
            self.hang.changed.wait(&mut hanging);
        }
    }

    /// Releases the writes and syncs that hang.
    pub fn release(&self) {
        self.hang.hangs.lock().hangs = false;
        self.hang.changed.notify_all();
    }

    fn check(&self) -> io::Result<()> {
        let mut hanging = self.hang.hangs.lock();
        if hanging.hangs {
            hanging.waiting += 1;
            self.hang.changed.notify_all();
            while hanging.hangs {
                self.hang.changed.wait(&mut hanging);
            }
            hanging.waiting -= 1;
        }
        drop(hanging);
        assert!(!self.panics.load(Ordering::Relaxed), "the disk panics, as the test asked");
        let left = self.writes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if left.is_err() && self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if left.is_err() && self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk fails, as the test asked"));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Faulty<B> {
    backend: B,
    switch: Arc<Switch>,
}

impl<B: StorageBackend> StorageBackend for Faulty<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.switch.unreadable.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk cannot be read, as the test asked"));
        }
        self.backend.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.switch.check()?;
        self.backend.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.switch.check()?;
        self.backend.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.switch.check()?;
        let last = offset + data.len() as u64;
        let end = self.switch.end.load(Ordering::Relaxed);
        if end > 0 && last > end {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.backend.write(offset, data)?;
        self.switch.written.fetch_max(last, Ordering::Relaxed);
        Ok(())
    }
    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}

/// Returns an opener of a file on such a disk, and its faults. The database has no cache, so every read goes to the disk.
pub fn file(path: &Path) -> (Opener, Arc<Switch>) {
    let uncached = || {
        let mut builder = Builder::new();
        builder.set_cache_size(0);
        builder
    };
    file_with(path, uncached)
}

/// Same as [`file`], with the options of `builder`.
pub fn file_with(path: &Path, builder: fn() -> Builder) -> (Opener, Arc<Switch>) {
    let switch = Arc::new(Switch::default());
    let (given, path) = (switch.clone(), path.to_owned());
    let opener: Opener = Box::new(move || {
        given.opened.fetch_add(1, Ordering::Relaxed);
        if given.gone.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
        let backend = Faulty { backend: FileBackend::new(file)?, switch: given.clone() };
        builder().create_with_backend(backend)
    });
    (opener, switch)
}

/// Returns an opener of the database in `memory`, with the options of `builder`, on a disk with faults. Each call
/// returns its own switch.
pub fn memory(memory: &Memory, builder: fn() -> Builder) -> (Opener, Arc<Switch>) {
    let switch = Arc::new(Switch::default());
    let (given, memory) = (switch.clone(), memory.clone());
    let opener: Opener = Box::new(move || {
        given.opened.fetch_add(1, Ordering::Relaxed);
        let backend = Faulty { backend: memory.clone(), switch: given.clone() };
        builder().create_with_backend(backend)
    });
    (opener, switch)
}
