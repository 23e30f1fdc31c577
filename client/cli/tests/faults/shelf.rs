//! Files that callers send and fetch. The content of each is derived from its number.

use std::path::{Path, PathBuf};

use rantai_client::Client;
use rantai_client::files::{FileError, Files};
use tempfile::TempDir;

use crate::calls::DEADLINE;

/// Name of the object, and of the folder that it shares.
pub(crate) const OBJECT: &str = "shelf";
/// Maximum size of a file, in bytes: most files have several blocks.
const MAX_FILE_BYTES: usize = 200_000;

/// Files of one caller.
pub(crate) struct Shelf {
    files: Files,
    here: TempDir,
    /// Numbers of the acknowledged files.
    pub(crate) kept: Vec<u64>,
}

/// Returns the content of the file with this number.
fn content(id: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(id);
    let mut content = vec![0; random.usize(0..MAX_FILE_BYTES)];
    random.fill(&mut content);
    content
}

fn path(id: u64) -> String {
    format!("{}/{id}", id % 10)
}

impl Shelf {
    pub(crate) fn new(client: &Client) -> Self {
        let files = Files::new(client, OBJECT).patience(DEADLINE).replace(true);
        Self { files, here: tempfile::tempdir().expect("a folder"), kept: Vec::new() }
    }

    pub(crate) async fn put(&mut self, id: u64) -> Result<(), FileError> {
        let source = self.here.path().join("source");
        std::fs::write(&source, content(id)).expect("written");
        self.files.put(&source, &path(id), &mut |_, _| {}).await?;
        self.kept.push(id);
        Ok(())
    }

    /// Returns whether the content was right.
    pub(crate) async fn get(&self, id: u64) -> Result<bool, FileError> {
        let target = self.here.path().join("target");
        self.files.get(&path(id), &target, &mut |_, _| {}).await?;
        Ok(std::fs::read(&target).expect("it is there") == content(id))
    }
}

/// Returns the paths of files that differ from what was acknowledged.
pub(crate) fn damaged(folder: &Path, kept: &[u64]) -> Vec<PathBuf> {
    let files = kept.iter().map(|id| (folder.join(path(*id)), *id));
    let wrong = files.filter(|(file, id)| std::fs::read(file).ok() != Some(content(*id)));
    wrong.map(|(file, _)| file).collect()
}
