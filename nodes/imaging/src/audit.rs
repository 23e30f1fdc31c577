//! Audit log: caller, method, time and outcome of each request, as one line of JSON. It does not contain secrets.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use parking_lot::Mutex;
use serde_json::json;

/// Size at which the file is rotated, in bytes; one older file is kept, with the suffix `.1`.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Audit log, as a file that is opened at the first entry.
#[derive(Debug)]
pub(super) struct Audit {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

/// Entry of the audit log.
#[derive(Clone, Debug)]
pub(super) struct AuditEntry<'a> {
    pub(super) who: &'a str,
    pub(super) method: &'a str,
    pub(super) args: &'a [&'a str],
    pub(super) status: u16,
    pub(super) message: Option<&'a str>,
    /// Duration of the request, in milliseconds.
    pub(super) took_ms: u64,
}

impl Audit {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: Mutex::default() }
    }

    /// Appends an entry and syncs it to disk. If that fails, the entry goes to the log of the process.
    pub(super) fn write(&self, line: &AuditEntry<'_>) {
        let mut told = json!({
            "time": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "who": line.who,
            "method": line.method,
            "args": line.args,
            "status": line.status,
            "took_ms": line.took_ms,
        });
        if let Some(message) = line.message {
            told["message"] = message.into();
        }
        let mut file = self.file.lock();
        if let Err(error) = append(&self.path, &mut file, &told.to_string()) {
            *file = None;
            tracing::error!("the audit log was not written: {error}: {told}");
        }
    }
}

fn append(path: &Path, file: &mut Option<File>, line: &str) -> std::io::Result<()> {
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    if file.as_ref().map_or(Ok(0), |file| file.metadata().map(|about| about.len()))? > MAX_FILE_BYTES {
        let mut before = path.as_os_str().to_owned();
        before.push(".1");
        fs::rename(path, before)?;
        *file = None;
    }
    let file = match file {
        Some(file) => file,
        None => file.insert(open()?),
    };
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}
