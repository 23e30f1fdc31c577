//! Thread that writes the log file, so that a disk that does not respond blocks nothing else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::exit::{Exit, Failure};
use crate::log_file::LogFile;

/// Maximum number of lines that wait for the disk; further ones are counted and dropped.
const MAX_QUEUED_LINES: usize = 8_192;
/// Time limit for writing queued lines at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Handle of the thread.
pub(super) struct LogThread {
    lines: SyncSender<LogEntry>,
    left_out: Arc<AtomicU64>,
}

enum LogEntry {
    Line(String),
    /// Answered once every earlier line is written.
    Flush(SyncSender<()>),
}

impl LogThread {
    /// Opens the file and starts the thread.
    pub(super) fn start(path: &Path, bytes: u64, files: u16) -> Result<Self, Failure> {
        let file = LogFile::open(path, bytes, files)?;
        let (lines, entries) = sync_channel(MAX_QUEUED_LINES);
        let left_out = Arc::new(AtomicU64::new(0));
        let thread = Writer { file, left_out: left_out.clone(), is_failing: false };
        thread::Builder::new()
            .name("rantai-log".to_owned())
            .spawn(move || thread.run(&entries))
            .map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        Ok(Self { lines, left_out })
    }

    /// Queues a line, without waiting.
    pub(super) fn write(&self, line: String) {
        if self.lines.try_send(LogEntry::Line(line)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the queued lines are written, for a second at most.
    pub(super) fn finish(&self) {
        let (done, written) = sync_channel(1);
        // Fails if the queue is full, because the disk does not respond.
        if self.lines.try_send(LogEntry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

struct Writer {
    file: LogFile,
    left_out: Arc<AtomicU64>,
    is_failing: bool,
}

impl Writer {
    fn run(mut self, entries: &Receiver<LogEntry>) {
        for entry in entries {
            match entry {
                LogEntry::Line(line) => self.write(&line),
                LogEntry::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, line: &str) {
        match self.file.append(line) {
            Ok(()) => {
                self.is_failing = false;
                let left_out = self.left_out.swap(0, Ordering::Relaxed);
                if left_out > 0 {
                    // Logged like any other event, so that the line has the same form.
                    tracing::warn!(left_out, "log lines left out: the log file could not be written");
                }
            }
            Err(failure) => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    failure.tell();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queued_lines_are_written_at_the_end_and_old_files_rotated() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("log");
        let log = LogThread::start(&path, 4_096, 1).expect("started");
        for number in 0..200 {
            log.write(format!("{number:0>99}"));
        }
        log.finish();
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
        assert!(text("log").ends_with(&format!("{:0>99}\n", 199)));
        assert!(text("log.1").len() <= 4_096 && text("log").len() <= 4_096);
        assert_eq!(folder.path().read_dir().expect("there").count(), 2);
        assert!(LogThread::start(folder.path(), 4_096, 1).is_err(), "a folder is no file");
    }
}
