//! Log file of limited size, with rotation.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// Maximum number of old files.
pub(crate) const MAX_OLD_FILES: u16 = 1_000;

/// Log file. When it is full, it is renamed to `FILE.1`, the previous `FILE.1` to `FILE.2`, and the oldest is deleted.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    largest: u64,
    old: u16,
}

impl LogFile {
    /// Opens the file for appending, or creates it. It has at most `largest` bytes, unless a single line is longer, and `old`
    /// earlier files are kept.
    pub(crate) fn open(path: &Path, largest: u64, old: u16) -> Result<Self, Failure> {
        let opened = open(path).map_err(|error| failed("open", path, &error))?;
        let (file, size) = opened;
        Ok(Self { path: path.to_owned(), file, size, largest, old })
    }

    /// Appends a line. On return the operating system has the line, so that it survives if the process is killed.
    pub(crate) fn append(&mut self, line: &str) -> Result<(), Failure> {
        let more = line.len() as u64 + 1;
        if self.size > 0 && self.size + more > self.largest {
            self.turn().map_err(|error| failed("put away", &self.path, &error))?;
        }
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| failed("write to", &self.path, &error))?;
        self.size += more;
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        for number in (1..self.old).rev() {
            if_there(rename(self.numbered(number), self.numbered(number + 1)))?;
        }
        if self.old > 0 {
            if_there(rename(&self.path, self.numbered(1)))?;
        } else {
            if_there(std::fs::remove_file(&self.path))?;
        }
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }

    fn numbered(&self, number: u16) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Opens the file and returns its size; completes a last line that was cut off.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    let mut size = file.seek(SeekFrom::End(0))?;
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

fn if_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_log_file_is_rotated_and_the_oldest_deleted() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("log");
        let mut log = LogFile::open(&path, 10, 2).expect("made");
        for line in ["1234", "6789", "b", "c", "d", "e", "f", "a line longer than a file", "x"] {
            log.append(line).expect("written");
        }
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
        assert_eq!((&*text("log"), &*text("log.1")), ("x\n", "a line longer than a file\n"));
        assert_eq!(text("log.2"), "b\nc\nd\ne\nf\n");
        assert_eq!(folder.path().read_dir().expect("there").count(), 3);
    }

    #[test]
    fn existing_log_file_is_appended_to_and_a_partial_line_completed() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("log");
        std::fs::write(&path, "whole\ncut").expect("written");
        LogFile::open(&path, 100, 1).expect("there").append("new").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "whole\ncut\nnew\n");
        let mut none = LogFile::open(&path, 15, 0).expect("there");
        none.append("only").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "only\n");
        assert!(LogFile::open(folder.path(), 10, 0).is_err(), "a folder is no file");
    }
}
