//! Disk of a journal: bytes in memory, of which an image is taken if the node crashes between two writes.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_commit::Commits;
use redb::{Builder, StorageBackend};

/// State that survives a crash of the node. A clone is the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Image>>);

#[derive(Debug, Default)]
struct Image {
    bytes: Vec<u8>,
    /// Number of writes until the crash.
    left: Option<u64>,
    /// Bytes at the crash.
    frozen: Option<Vec<u8>>,
}

impl Image {
    /// Takes the image of the crash, if it is due before the next write.
    fn count(&mut self) {
        match &mut self.left {
            Some(0) if self.frozen.is_none() => self.frozen = Some(self.bytes.clone()),
            Some(left) => *left = left.saturating_sub(1),
            None => {}
        }
    }
}

impl Disk {
    /// Schedules the crash after this many further writes.
    pub(super) fn crash_after(&self, writes: u64) {
        self.0.lock().left = Some(writes);
    }

    /// Returns the disk as the next start of the node finds it; later writes of the crashed node are lost.
    pub(super) fn after_crash(&self) -> Self {
        let image = self.0.lock();
        let bytes = image.frozen.clone().unwrap_or_else(|| image.bytes.clone());
        Self(Arc::new(Mutex::new(Image { bytes, ..Image::default() })))
    }

    /// Opens a journal on the disk.
    pub(super) fn open(&self, environment: rantai_client::Environment) -> (crate::journal::Journal, Commits) {
        let disk = self.clone();
        let opener = Box::new(move || {
            let mut builder = Builder::new();
            builder.set_cache_size(1 << 20);
            builder.create_with_backend(disk.clone())
        });
        crate::journal::Journal::simulated(opener, environment).expect("opens in memory")
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let image = self.0.lock();
        let start = offset as usize;
        let bytes = image.bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut image = self.0.lock();
        image.count();
        image.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut image = self.0.lock();
        image.count();
        let start = offset as usize;
        let bytes = image.bytes.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(data);
        Ok(())
    }
}
