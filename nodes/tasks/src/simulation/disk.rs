//! Disk in memory that stops on request, like the disk of a machine that loses power: after a number of operations, and
//! so between any two writes of a commit, or after a number of commits.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_commit::Opener;
use redb::{Database, StorageBackend};
use tokio::sync::Notify;

/// Point at which the disk stops.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// After this number of operations, instead of the next one.
    AfterOperations(u64),
    /// Right after this number of syncs.
    AfterSyncs(u64),
}

/// Disk in memory; a clone is the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<SharedDisk>);

#[derive(Debug, Default)]
struct SharedDisk {
    state: Mutex<DiskState>,
    stopped: Notify,
}

#[derive(Debug, Default)]
struct DiskState {
    bytes: Vec<u8>,
    stop: Option<Stop>,
    is_stopped: bool,
}

impl Disk {
    /// Returns a new disk with everything that was written before this one stopped.
    pub(super) fn restarted(&self) -> Self {
        let disk = Self::default();
        disk.0.state.lock().bytes = std::mem::take(&mut self.0.state.lock().bytes);
        disk
    }

    /// Returns an opener for a database on the disk.
    pub(super) fn opener(&self) -> Opener {
        let disk = self.clone();
        Box::new(move || Database::builder().create_with_backend(disk.clone()))
    }

    pub(super) fn stop(&self, stop: Stop) {
        self.0.state.lock().stop = Some(stop);
    }

    /// Cancels a planned stop, unless the disk has stopped already.
    pub(super) fn go_on(&self) {
        self.0.state.lock().stop = None;
    }

    /// Stops the disk now.
    pub(super) fn stop_now(&self) {
        self.0.state.lock().is_stopped = true;
        self.0.stopped.notify_one();
    }

    /// Returns whether a stop is planned, or has happened.
    pub(super) fn is_stopping(&self) -> bool {
        let state = self.0.state.lock();
        state.stop.is_some() || state.is_stopped
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.state.lock().is_stopped
    }

    /// Waits until the disk has stopped.
    pub(super) async fn stopped(&self) {
        while !self.is_stopped() {
            self.0.stopped.notified().await;
        }
    }

    /// Counts an operation and performs it, unless the disk has stopped.
    fn operate(&self, is_sync: bool, operation: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.0.state.lock();
        match &mut state.stop {
            Some(Stop::AfterOperations(0)) => state.is_stopped = true,
            Some(Stop::AfterOperations(left)) => *left -= 1,
            Some(Stop::AfterSyncs(left)) if is_sync => *left = left.saturating_sub(1),
            Some(Stop::AfterSyncs(_)) | None => {}
        }
        let was_stopped = state.is_stopped;
        if !was_stopped {
            operation(&mut state.bytes);
            state.is_stopped = matches!(state.stop, Some(Stop::AfterSyncs(0)));
        }
        if state.is_stopped {
            state.stop = None;
            self.0.stopped.notify_one();
        }
        if was_stopped { Err(io::Error::other("the disk has stopped, as the seed says")) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.state.lock();
        let offset = offset as usize;
        match state.bytes.get(offset..offset + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(false, |bytes| bytes.resize(len as usize, 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(true, |_| ())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(false, |bytes| {
            bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        })
    }
}
