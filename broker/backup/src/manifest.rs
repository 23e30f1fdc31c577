//! Manifest of a backup: its files with their sizes and digests.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rantai_group_commit::open_private;
use serde::{Deserialize, Serialize};

use crate::error::BackupError;

/// File name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// File name of the manifest's digest, in the format of `b3sum`.
pub const MANIFEST_DIGEST: &str = "manifest.b3";
/// Format of backups that this version writes. It reads this format and earlier ones.
pub const MANIFEST_FORMAT: u64 = 1;
/// Maximum size of a manifest, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Maximum number of files in a backup.
const MAX_BACKUP_FILES: usize = 1_000;

/// Contents of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version of the backup.
    pub format: u64,
    /// Name and version of the program that made the backup.
    pub program: String,
    /// Time at which the backup began, in RFC 3339.
    pub created: String,
    /// Files of the backup, in the order in which they were read.
    pub files: Vec<Entry>,
}

/// File of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// File name, in the backup and in the data directory.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 digest in hexadecimal digits.
    pub blake3: String,
    /// Time of the state in the copy, in RFC 3339 with microseconds.
    pub taken: String,
    /// Original path of a file from outside the data directory; such a file is not restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<PathBuf>,
}

impl Manifest {
    /// Returns the total size of the files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }

    /// Reads the manifest of a backup, and checks it against its digest.
    ///
    /// # Errors
    ///
    /// The manifest is missing, differs from its digest, or has a later format.
    pub fn read(backup: &Path) -> Result<Self, BackupError> {
        let path = backup.join(MANIFEST);
        let text = small_file(&path)?;
        let expected = small_file(&backup.join(MANIFEST_DIGEST))?;
        if expected != digest_line(&text).as_bytes() {
            return Err(BackupError::damaged(&path, format!("it differs from {MANIFEST_DIGEST}")));
        }
        let found: Version = serde_json::from_slice(&text)
            .map_err(|error| BackupError::damaged(&path, format!("it is not a manifest ({error})")))?;
        if found.format > MANIFEST_FORMAT {
            return Err(BackupError::Newer { path, found: found.format, supported: MANIFEST_FORMAT });
        }
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| BackupError::damaged(&path, format!("it is not a manifest ({error})")))?;
        match manifest.mistake() {
            Some(mistake) => Err(BackupError::damaged(&path, mistake)),
            None => Ok(manifest),
        }
    }

    /// Returns why the manifest cannot be restored; `None` if it can. Names must be plain file names, so that nothing
    /// is written outside the data directory.
    fn mistake(&self) -> Option<String> {
        if self.files.is_empty() || self.files.len() > MAX_BACKUP_FILES {
            return Some(format!("it has {} files", self.files.len()));
        }
        for (index, entry) in self.files.iter().enumerate() {
            if !is_file_name(&entry.name) {
                return Some(format!("{:?} is not a file name", entry.name));
            }
            if self.files[..index].iter().any(|earlier| earlier.name == entry.name) {
                return Some(format!("{} is in it twice", entry.name));
            }
        }
        None
    }

    /// Writes the manifest and its digest, both synced to disk before this returns.
    pub(crate) fn write(&self, backup: &Path) -> Result<(), BackupError> {
        let mut text = serde_json::to_vec_pretty(self).expect("texts and numbers");
        text.push(b'\n');
        for (name, content) in [(MANIFEST, &*text), (MANIFEST_DIGEST, digest_line(&text).as_bytes())] {
            let path = backup.join(name);
            let written = open_private(&path).and_then(|mut file| {
                file.write_all(content)?;
                file.sync_all()
            });
            written.map_err(BackupError::io("write", &path))?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Version {
    format: u64,
}

fn digest_line(text: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", blake3::hash(text).to_hex())
}

fn small_file(path: &Path) -> Result<Vec<u8>, BackupError> {
    let mut text = Vec::new();
    let opened = File::open(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            return BackupError::damaged(path, "it is missing, and so this is no complete backup");
        }
        BackupError::io("read", path)(error)
    })?;
    opened.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut text).map_err(BackupError::io("read", path))?;
    if text.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(BackupError::damaged(path, format!("it has more than {MAX_MANIFEST_BYTES} bytes")));
    }
    Ok(text)
}

/// Returns whether a text is the name of a regular data file: no path, not hidden, and not that of the manifest.
fn is_file_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=200).contains(&name.len())
        && name.chars().all(is_plain)
        && !name.starts_with('.')
        && name != MANIFEST
        && name != MANIFEST_DIGEST
}
