//! Destination of log lines, and of the other lines that a server prints on stderr.

use std::io::{self, Write};
use std::sync::OnceLock;

use chrono::{SecondsFormat, Utc};
use rantai_client::printable;
use serde_json::json;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::file::LogThread;
use crate::terminal::{escaped_json, stderr_line};

/// Format and file chosen by options.
pub(super) struct Sink {
    pub(super) is_json: bool,
    pub(super) file: Option<LogThread>,
}

static SINK: OnceLock<Sink> = OnceLock::new();

/// Sets the destination, once.
pub(super) fn set(sink: Sink) {
    let _ = SINK.set(sink);
}

/// Prints a line that is not a log event, such as an error or the broker's address: on stderr, in the form of the log,
/// and in the log file too. `shown` is the line in the form of other commands. Returns false, and prints nothing, if no
/// form was chosen.
pub(crate) fn print_line(level: Level, line: &str, shown: &str) -> bool {
    let Some(sink) = SINK.get() else { return false };
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let logged = if sink.is_json {
        // Has the same order of members as the log's own lines.
        let line = json!({"message": line});
        let object =
            format!(r#"{{"timestamp":"{now}","level":"{level}","fields":{line},"target":"rantai"}}"#);
        escaped_json(&object).into_owned()
    } else {
        format!("{now} {:>5} {}", level.as_str(), printable(line))
    };
    stderr_line(if sink.is_json { &logged } else { shown });
    if let Some(file) = &sink.file {
        file.write(logged);
    }
    true
}

/// Waits until all logged lines are in the log file, for a second at most.
pub(crate) fn finish() {
    if let Some(file) = SINK.get().and_then(|sink| sink.file.as_ref()) {
        file.finish();
    }
}

/// Writer of log events.
pub(super) struct LogLine;

impl<'a> MakeWriter<'a> for LogLine {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for LogLine {
    /// Writes one whole event, as the subscriber passes it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.trim_end_matches('\n');
        let sink = SINK.get();
        let line = match sink {
            Some(sink) if sink.is_json => escaped_json(text),
            _ => printable(text).into(),
        };
        match sink.and_then(|sink| sink.file.as_ref()) {
            Some(file) => file.write(line.into_owned()),
            None => stderr_line(&line),
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
