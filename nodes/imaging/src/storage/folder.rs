//! Storage in a folder of files, which are cloned by reflink if the file system supports it, otherwise as sparse copies.
//!
//! | Path | Contents |
//! |---|---|
//! | `images/IMAGE` | images, raw |
//! | `snapshots/IMAGE/SNAPSHOT` | copies of images |
//! | `disks/NODE` | disks, which nodes write to |
//! | `incoming/`, `outgoing/` | files to import as images, and exported snapshots |

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, SeekFrom as Place, ioctl_ficlone, seek, statvfs};

use super::{About, PART, Progress, Storage, StorageError};

/// Size of a block when copying, in bytes.
const BLOCK: usize = 1 << 20;
/// Number of digits of the digest in the name of an incomplete file.
const DIGEST_DIGITS: usize = 16;
/// Space that a copy must leave free, in bytes.
const RESERVED_BYTES: u64 = 64 << 20;

/// Storage in a folder.
#[derive(Debug)]
pub struct Folder {
    folder: PathBuf,
}

impl Folder {
    /// Creates missing folders, and removes incomplete files of an earlier run.
    ///
    /// # Errors
    ///
    /// A folder cannot be created or written to.
    pub fn open(folder: &Path) -> io::Result<Self> {
        for name in ["images", "snapshots", "disks", "incoming", "outgoing"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let folder = Self { folder: folder.to_owned() };
        for place in ["images", "disks", "outgoing"] {
            sweep(&folder.folder.join(place))?;
        }
        for image in fs::read_dir(folder.folder.join("snapshots"))? {
            sweep(&image?.path())?;
        }
        Ok(folder)
    }

    fn image_file(&self, image: &str) -> PathBuf {
        self.folder.join("images").join(image)
    }

    fn snapshot_file(&self, image: &str, snapshot: &str) -> PathBuf {
        self.folder.join("snapshots").join(image).join(snapshot)
    }

    /// Copies a file atomically, and returns the digest of the copy if `digest` is set.
    fn copy(
        &self,
        from: &Path,
        to: &Path,
        digest: bool,
        progress: Progress<'_>,
    ) -> Result<Option<String>, StorageError> {
        let what = file_name(to);
        let mut source = open(from).map_err(|error| failed(&file_name(from), &error))?;
        if fs::symlink_metadata(to).is_ok() {
            return Err(StorageError::Exists(what));
        }
        let part = to.with_file_name(part_of(&what));
        let _ = fs::remove_file(&part);
        let made = self.copy_to(&mut source, &part, &what, digest, progress).and_then(|digest| {
            // A hard link does not replace an existing file that was created under this name in the meantime.
            fs::hard_link(&part, to).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => StorageError::Exists(what.clone()),
                _ => failed(&what, &error),
            })?;
            sync_folder(to).map_err(|error| failed(&what, &error))?;
            Ok(digest)
        });
        let _ = fs::remove_file(&part);
        made
    }

    fn copy_to(
        &self,
        source: &mut File,
        part: &Path,
        what: &str,
        digest: bool,
        progress: Progress<'_>,
    ) -> Result<Option<String>, StorageError> {
        let error = |error: io::Error| failed(what, &error);
        let about = source.metadata().map_err(error)?;
        let mut target =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(error)?;
        if ioctl_ficlone(&target, &*source).is_err() {
            let free = statvfs(&self.folder).map_err(|errno| error(errno.into()))?;
            let free = free.f_bavail.saturating_mul(free.f_frsize);
            let needed = used(&about);
            if needed.saturating_add(RESERVED_BYTES) > free {
                return Err(StorageError::NoRoom(what.to_owned(), needed, free));
            }
            copy_data(source, &mut target, about.len(), progress).map_err(error)?;
        }
        target.sync_all().map_err(error)?;
        progress(about.len(), about.len());
        digest.then(|| digest_of(source, about.len())).transpose().map_err(error)
    }
}

/// Copies the data of a file, without its holes.
fn copy_data(source: &mut File, target: &mut File, bytes: u64, progress: Progress<'_>) -> io::Result<()> {
    target.set_len(bytes)?;
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    while at < bytes {
        let begins = match seek(&*source, Place::Data(at)) {
            Ok(begins) => begins,
            // There is only a hole after this position.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let ends = seek(&*source, Place::Hole(begins))?;
        source.seek(SeekFrom::Start(begins))?;
        target.seek(SeekFrom::Start(begins))?;
        let mut left = ends - begins;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            let read = source.read(&mut block[..most])?;
            if read == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "it became shorter meanwhile"));
            }
            target.write_all(&block[..read])?;
            left -= read as u64;
            progress(ends - left, bytes);
        }
        at = ends;
    }
    Ok(())
}

/// Returns the digest of the first `bytes` bytes; holes count as zeros and are not read.
fn digest_of(source: &mut File, bytes: u64) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let (mut block, zeros) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut at = 0;
    while at < bytes {
        let data = seek(&*source, Place::Data(at)).unwrap_or(bytes).min(bytes);
        while at < data {
            let most = usize::try_from(data - at).unwrap_or(BLOCK).min(BLOCK);
            hasher.update(&zeros[..most]);
            at += most as u64;
        }
        if at >= bytes {
            break;
        }
        let ends = seek(&*source, Place::Hole(at))?.min(bytes);
        source.seek(SeekFrom::Start(at))?;
        while at < ends {
            let most = usize::try_from(ends - at).unwrap_or(BLOCK).min(BLOCK);
            source.read_exact(&mut block[..most])?;
            hasher.update(&block[..most]);
            at += most as u64;
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

impl Storage for Folder {
    fn name(&self) -> &'static str {
        "folder"
    }

    fn images(&self) -> Result<Vec<String>, StorageError> {
        names(&self.folder.join("images"))
    }

    fn image(&self, image: &str) -> Result<Option<About>, StorageError> {
        about(&self.image_file(image))
    }

    fn snapshots(&self, image: &str) -> Result<Vec<String>, StorageError> {
        names(&self.folder.join("snapshots").join(image))
    }

    fn snapshot(&self, image: &str, snapshot: &str) -> Result<Option<About>, StorageError> {
        about(&self.snapshot_file(image, snapshot))
    }

    fn take_snapshot(
        &self,
        image: &str,
        snapshot: &str,
        progress: Progress<'_>,
    ) -> Result<String, StorageError> {
        let to = self.snapshot_file(image, snapshot);
        let folder = self.folder.join("snapshots").join(image);
        fs::create_dir_all(&folder).map_err(|error| failed(image, &error))?;
        sync_folder(&folder).map_err(|error| failed(image, &error))?;
        let digest = self.copy(&self.image_file(image), &to, true, progress)?;
        Ok(digest.unwrap_or_default())
    }

    fn remove_snapshot(&self, image: &str, snapshot: &str) -> Result<(), StorageError> {
        remove(&self.snapshot_file(image, snapshot))?;
        // Succeeds only if that was the last snapshot.
        let _ = fs::remove_dir(self.folder.join("snapshots").join(image));
        Ok(())
    }

    fn make_disk(
        &self,
        image: &str,
        snapshot: &str,
        node: &str,
        progress: Progress<'_>,
    ) -> Result<PathBuf, StorageError> {
        let disk = self.disk(node);
        self.copy(&self.snapshot_file(image, snapshot), &disk, false, progress)?;
        Ok(disk)
    }

    fn disk(&self, node: &str) -> PathBuf {
        self.folder.join("disks").join(node)
    }

    fn remove_disk(&self, node: &str) -> Result<(), StorageError> {
        remove(&self.disk(node))
    }

    fn import(&self, file: &str, image: &str, progress: Progress<'_>) -> Result<String, StorageError> {
        let from = self.folder.join("incoming").join(file);
        Ok(self.copy(&from, &self.image_file(image), true, progress)?.unwrap_or_default())
    }

    fn export(
        &self,
        image: &str,
        snapshot: &str,
        file: &str,
        progress: Progress<'_>,
    ) -> Result<(), StorageError> {
        let to = self.folder.join("outgoing").join(file);
        self.copy(&self.snapshot_file(image, snapshot), &to, false, progress).map(drop)
    }

    fn remove_image(&self, image: &str) -> Result<(), StorageError> {
        remove(&self.image_file(image))
    }

    fn remove_export(&self, file: &str) -> Result<(), StorageError> {
        remove(&self.folder.join("outgoing").join(file))
    }

    fn rename(&self, image: &str, to: &str) -> Result<(), StorageError> {
        let snapshots = |name: &str| self.folder.join("snapshots").join(name);
        for (from, to) in [(snapshots(image), snapshots(to)), (self.image_file(image), self.image_file(to))] {
            match fs::rename(&from, &to) {
                Ok(()) => sync_folder(&to).map_err(|error| failed(&file_name(&to), &error))?,
                // The image has no snapshots, or an earlier attempt has renamed it already.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&file_name(&from), &error)),
            }
        }
        Ok(())
    }
}

/// Opens a regular file, without following a symbolic link.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    Ok(file)
}

fn about(path: &Path) -> Result<Option<About>, StorageError> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() => Ok(Some(About { bytes: about.len(), used: used(&about) })),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&file_name(path), &error)),
    }
}

fn used(about: &fs::Metadata) -> u64 {
    about.blocks().saturating_mul(512).min(about.len())
}

fn names(folder: &Path) -> Result<Vec<String>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&file_name(folder), &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(&file_name(folder), &error))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        // Names that no request could use are omitted.
        if let Some(name) = entry.file_name().to_str().filter(|_| is_file)
            && crate::names::file("a file", name).is_ok()
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name().to_str().is_some_and(is_part) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Returns the name of a file while it is incomplete: hidden, with a digest that distinguishes it from files of others.
fn part_of(name: &str) -> String {
    let digest = blake3::hash(format!("part of {name}").as_bytes()).to_hex();
    format!(".{name}.{}{PART}", &digest.as_str()[..DIGEST_DIGITS])
}

fn is_part(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(PART));
    inner.and_then(|inner| inner.rsplit_once('.')).is_some_and(|(of, _)| part_of(of) == name)
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path).map_err(|error| failed(&file_name(path), &error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(&file_name(path), &error)),
    }
}

/// Syncs the folder that contains `path`, so that the new or removed entry is on disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Returns the file name without the path, which callers need not know.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn failed(what: &str, error: &io::Error) -> StorageError {
    if error.kind() == ErrorKind::NotFound {
        return StorageError::NotFound(what.to_owned());
    }
    StorageError::Failed(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> (tempfile::TempDir, Folder) {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("opened");
        // The image consists of data, a hole, data, and a hole.
        let mut image = File::create(directory.path().join("images/a.img")).expect("made");
        image.write_all(&[7; 5_000]).expect("written");
        image.seek(SeekFrom::Start(8 << 20)).expect("there");
        image.write_all(b"end").expect("written");
        image.set_len(16 << 20).expect("a size");
        (directory, folder)
    }

    const NO_PROGRESS: Progress<'static> = &|_, _| {};

    #[test]
    fn a_snapshot_is_the_image_as_it_was_and_a_disk_is_the_nodes_own() {
        let (directory, folder) = storage();
        let image = directory.path().join("images/a.img");
        let golden = fs::read(&image).expect("read");
        let digest = folder.take_snapshot("a.img", "gold", NO_PROGRESS).expect("taken");
        assert_eq!(digest, blake3::hash(&golden).to_hex().to_string());
        assert_eq!(
            folder.take_snapshot("a.img", "gold", NO_PROGRESS),
            Err(StorageError::Exists("gold".to_owned()))
        );
        let disk = folder.make_disk("a.img", "gold", "node", NO_PROGRESS).expect("made");
        assert_eq!(fs::read(&disk).expect("read"), golden);
        assert!(about(&disk).expect("known").expect("there").used < 1 << 20, "holes stay holes");
        fs::write(&disk, b"changed").expect("written");
        fs::write(&image, b"changed").expect("written");
        let snapshot = directory.path().join("snapshots/a.img/gold");
        assert_eq!(fs::read(snapshot).expect("read"), golden);
        assert_eq!(folder.snapshots("a.img"), Ok(vec!["gold".to_owned()]));
        folder.remove_disk("node").expect("removed");
        folder.remove_disk("node").expect("gone already");
        folder.remove_snapshot("a.img", "gold").expect("removed");
        assert_eq!(folder.snapshots("a.img"), Ok(Vec::new()));
    }

    #[test]
    fn progress_increases_up_to_the_total() {
        let (_directory, folder) = storage();
        let seen = parking_lot::Mutex::new(Vec::new());
        folder.take_snapshot("a.img", "gold", &|done, total| seen.lock().push((done, total))).expect("taken");
        let seen = seen.into_inner();
        assert!(seen.is_sorted() && seen.last() == Some(&(16 << 20, 16 << 20)), "{seen:?}");
    }

    #[test]
    fn missing_and_irregular_files_are_errors() {
        let (directory, folder) = storage();
        assert_eq!(
            folder.take_snapshot("b.img", "s", NO_PROGRESS),
            Err(StorageError::NotFound("b.img".to_owned()))
        );
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("images/link")).expect("made");
        assert!(folder.take_snapshot("link", "s", NO_PROGRESS).is_err());
        assert_eq!(folder.image("link"), Ok(None));
        assert_eq!(folder.images(), Ok(vec!["a.img".to_owned()]));
        assert!(folder.snapshots("b.img").expect("none").is_empty());
    }

    #[test]
    fn files_are_imported_and_exported_and_images_renamed() {
        let (directory, folder) = storage();
        fs::write(directory.path().join("incoming/new"), b"disk").expect("written");
        assert_eq!(
            folder.import("new", "b.img", NO_PROGRESS),
            Ok(blake3::hash(b"disk").to_hex().to_string())
        );
        assert_eq!(folder.import("new", "b.img", NO_PROGRESS), Err(StorageError::Exists("b.img".to_owned())));
        folder.take_snapshot("b.img", "s", NO_PROGRESS).expect("taken");
        folder.export("b.img", "s", "out", NO_PROGRESS).expect("laid out");
        assert_eq!(fs::read(directory.path().join("outgoing/out")).expect("read"), b"disk");
        folder.rename("b.img", "c.img").expect("renamed");
        folder.rename("b.img", "c.img").expect("done already");
        assert_eq!(folder.snapshots("c.img"), Ok(vec!["s".to_owned()]));
        assert_eq!(folder.images(), Ok(vec!["a.img".to_owned(), "c.img".to_owned()]));
    }

    #[test]
    fn incomplete_files_are_removed_at_the_start() {
        let (directory, folder) = storage();
        drop(folder);
        let places = ["disks", "images", "outgoing"].map(|place| directory.path().join(place));
        // Regression: files of the administrator with similar names were removed too.
        let others = ["node.part", ".node.part", ".node.0123456789abcdef.part", ".part"];
        for place in &places {
            for name in others.iter().copied().chain([&*part_of("node")]) {
                fs::write(place.join(name), b"half").expect("written");
            }
        }
        Folder::open(directory.path()).expect("opened");
        for place in &places {
            assert!(!place.join(part_of("node")).exists());
            assert!(others.iter().all(|name| place.join(name).exists()), "{}", place.display());
        }
    }
}
