//! Control of the faults of a process, used by the test.

use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::page::{BELOW, CONTROL, COUNTS, FAILED, FULL, Faults, LOADED, Page, SHORT, STALLED};

/// Faults of a process, and of the processes that replace it after a restart. They are stored in a file.
#[derive(Debug)]
pub struct Control {
    file: File,
    path: PathBuf,
    below: PathBuf,
}

/// Counters of a library since its file was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of processes that have loaded the library.
    pub loaded: u64,
    /// Number of delayed calls.
    pub stalled: u64,
    /// Number of calls that failed with EIO.
    pub failed: u64,
    /// Number of calls that failed with ENOSPC.
    pub full: u64,
    /// Number of writes that wrote only a part.
    pub short: u64,
}

impl Counts {
    /// Returns the number of calls with a fault.
    pub fn faults(&self) -> u64 {
        self.stalled + self.failed + self.full + self.short
    }
}

impl Control {
    /// Creates the file `path`, for faults of the files below the existing directory `below`.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or the directory does not exist.
    pub fn create(path: &Path, below: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(size_of::<Page>() as u64)?;
        // Canonical, like the paths of open files in /proc.
        Ok(Self { file, path: path.canonicalize()?, below: below.canonicalize()? })
    }

    /// Makes a command load the library.
    pub fn preload(&self, command: &mut Command, library: &Path) {
        command.env("LD_PRELOAD", library).env(CONTROL, &self.path).env(BELOW, &self.below);
    }

    /// Starts faults, chosen by a seed.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn begin(&self, faults: &Faults, seed: u64) -> io::Result<()> {
        let Faults { stalls, stall_ms, errors, no_space, short } = *faults;
        for (offset, value) in [
            (offset_of!(Page, stall_ms), stall_ms),
            (offset_of!(Page, stalls), stalls),
            (offset_of!(Page, errors), errors),
            (offset_of!(Page, no_space), no_space),
            (offset_of!(Page, short), short),
        ] {
            self.file.write_all_at(&value.to_ne_bytes(), offset as u64)?;
        }
        self.file.write_all_at(&seed.to_ne_bytes(), offset_of!(Page, seed) as u64)?;
        self.file.write_all_at(&[0; 8], offset_of!(Page, calls) as u64)?;
        self.switch(true)
    }

    /// Stops the faults. Delayed calls continue within 10 ms.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn end(&self) -> io::Result<()> {
        self.switch(false)
    }

    fn switch(&self, on: bool) -> io::Result<()> {
        self.file.write_all_at(&u32::from(on).to_ne_bytes(), offset_of!(Page, on) as u64)
    }

    /// Returns the counters so far.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn counts(&self) -> io::Result<Counts> {
        let mut counts = [0; COUNTS];
        for (number, count) in counts.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, (offset_of!(Page, counts) + 8 * number) as u64)?;
            *count = u64::from_ne_bytes(bytes);
        }
        Ok(Counts {
            loaded: counts[LOADED],
            stalled: counts[STALLED],
            failed: counts[FAILED],
            full: counts[FULL],
            short: counts[SHORT],
        })
    }
}
