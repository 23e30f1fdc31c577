//! Storage and targets that fail on request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::storage::{About, Folder, Progress, Storage, StorageError};
use crate::targets::{Access, Files, Handed, Target, TargetError};

/// Storage and target whose n-th call that changes something fails.
pub(super) struct Failing {
    pub(super) folder: Folder,
    files: Files,
    calls: AtomicUsize,
    fails: AtomicUsize,
}

impl Failing {
    pub(super) fn new(folder: &Path) -> Arc<Self> {
        let folder = Folder::open(folder).expect("a folder");
        let (calls, fails) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { folder, files: Files::default(), calls, fails })
    }

    /// Makes the given call fail, counted from 1; 0 for none.
    pub(super) fn fail_at(&self, call: usize) {
        self.calls.store(0, Ordering::SeqCst);
        self.fails.store(call, Ordering::SeqCst);
    }

    fn may(&self) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst) + 1 != self.fails.load(Ordering::SeqCst)
    }

    fn stored(&self) -> Result<(), StorageError> {
        self.may().then_some(()).ok_or_else(|| StorageError::Failed("the disk is on fire".to_owned()))
    }
}

impl Storage for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn images(&self) -> Result<Vec<String>, StorageError> {
        self.folder.images()
    }

    fn image(&self, image: &str) -> Result<Option<About>, StorageError> {
        self.folder.image(image)
    }

    fn snapshots(&self, image: &str) -> Result<Vec<String>, StorageError> {
        self.folder.snapshots(image)
    }

    fn snapshot(&self, image: &str, snapshot: &str) -> Result<Option<About>, StorageError> {
        self.folder.snapshot(image, snapshot)
    }

    fn take_snapshot(&self, image: &str, snapshot: &str, told: Progress<'_>) -> Result<String, StorageError> {
        let taken = self.folder.take_snapshot(image, snapshot, told);
        // A late failure has created something already.
        self.stored().and(taken)
    }

    fn remove_snapshot(&self, image: &str, snapshot: &str) -> Result<(), StorageError> {
        self.stored().and_then(|()| self.folder.remove_snapshot(image, snapshot))
    }

    fn make_disk(
        &self,
        image: &str,
        snapshot: &str,
        node: &str,
        told: Progress<'_>,
    ) -> Result<PathBuf, StorageError> {
        let made = self.folder.make_disk(image, snapshot, node, told);
        self.stored().and(made)
    }

    fn disk(&self, node: &str) -> PathBuf {
        self.folder.disk(node)
    }

    fn remove_disk(&self, node: &str) -> Result<(), StorageError> {
        self.stored().and_then(|()| self.folder.remove_disk(node))
    }

    fn import(&self, file: &str, image: &str, told: Progress<'_>) -> Result<String, StorageError> {
        let taken = self.folder.import(file, image, told);
        self.stored().and(taken)
    }

    fn export(
        &self,
        image: &str,
        snapshot: &str,
        file: &str,
        told: Progress<'_>,
    ) -> Result<(), StorageError> {
        let laid = self.folder.export(image, snapshot, file, told);
        self.stored().and(laid)
    }

    fn remove_image(&self, image: &str) -> Result<(), StorageError> {
        self.stored().and_then(|()| self.folder.remove_image(image))
    }

    fn remove_export(&self, file: &str) -> Result<(), StorageError> {
        self.stored().and_then(|()| self.folder.remove_export(file))
    }

    fn rename(&self, image: &str, to: &str) -> Result<(), StorageError> {
        let renamed = self.folder.rename(image, to);
        self.stored().and(renamed)
    }
}

/// Target that uses a [`Failing`].
pub(super) struct Handing(pub(super) Arc<Failing>);

impl Handing {
    fn may(&self) -> Result<(), TargetError> {
        self.0.may().then_some(()).ok_or_else(|| TargetError("the target is gone".to_owned()))
    }
}

impl Target for Handing {
    fn name(&self) -> &'static str {
        "handing"
    }

    fn export(&self, node: &str, disk: &Path, access: &Access) -> Result<Handed, TargetError> {
        let handed = self.0.files.export(node, disk, access);
        self.may().and(handed)
    }

    fn withdraw(&self, node: &str) -> Result<(), TargetError> {
        self.may().and_then(|()| self.0.files.withdraw(node))
    }

    fn handed_out(&self) -> Result<Vec<String>, TargetError> {
        self.0.files.handed_out()
    }
}

/// Target that refuses to export disks and to withdraw them.
pub(super) struct Stuck(pub(super) Arc<Failing>);

impl Target for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    fn export(&self, _: &str, _: &Path, _: &Access) -> Result<Handed, TargetError> {
        Err(TargetError("no".to_owned()))
    }

    fn withdraw(&self, _: &str) -> Result<(), TargetError> {
        Err(TargetError("it is held".to_owned()))
    }

    fn handed_out(&self) -> Result<Vec<String>, TargetError> {
        self.0.files.handed_out()
    }
}
