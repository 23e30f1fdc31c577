//! All output of the program: nothing else writes to stdout or stderr.
//!
//! Texts from the bus must not control the terminal of the reader. On stderr every line is escaped, even if stderr is no
//! terminal: it is for people, who may view it later. On stdout lines are escaped if stdout is a terminal; results are
//! written to pipes and files unchanged.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, StdoutLock, Write};
use std::sync::OnceLock;

use rantai_client::{printable, printable_lines, steers};
use serde_json::Value;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use crate::exit::Exit;
use crate::logging::print_line;

/// Prints a line on stdout. If the reader has closed the pipe, the program ends without an error; any other error of stdout
/// ends it as a failure. This holds for all functions that print.
pub(crate) fn print(line: &str) {
    put(&on_stdout(line, |line| printable(line).into()));
}

/// Prints a text on stdout that may have several lines.
pub(crate) fn print_text(text: &str) {
    put(&on_stdout(text, printable_lines));
}

/// Prints a value on stdout as JSON in one line. On a terminal it stays valid JSON: characters are escaped by JSON's rules.
pub(crate) fn print_json(value: &Value) {
    put(&on_stdout(&value.to_string(), escaped_json));
}

/// Prints a line on stdout in the user's own format, with colours; texts of the bus are escaped in it already.
pub(crate) fn print_formatted(line: &str) {
    put(line);
}

/// Prints a binary result on stdout: unchanged, or as lossy UTF-8 if stdout is a terminal.
pub(crate) fn print_bytes(bytes: &[u8]) {
    if is_terminal() {
        put(&printable_lines(&String::from_utf8_lossy(bytes)));
    } else {
        print_document(bytes);
    }
}

/// Prints a document that the program generated, unchanged and as a whole: a manual page, a script.
pub(crate) fn print_document(bytes: &[u8]) {
    put_bytes(|out| out.write_all(bytes));
}

/// Prints a line on stdout of a program that serves; if nobody reads it, the line is lost and the program continues.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let line = on_stdout(line, printable_lines);
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a question on stdout, without a line feed.
pub(crate) fn ask(question: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let question = on_stdout(question, printable_lines);
    write!(out, "{question}").and_then(|()| out.flush())
}

/// Prints a question on stderr, without a line feed: stdout is for the result.
pub(crate) fn ask_aside(question: &str) -> io::Result<()> {
    let mut out = io::stderr().lock();
    write!(out, "{}", printable(question)).and_then(|()| out.flush())
}

/// Prints a line on stderr; if nobody reads it, the line is lost and the program continues.
pub(crate) fn note(line: &str) {
    note_as(Level::INFO, line);
}

/// Same as [`note`], with a level for logs that have one.
pub(crate) fn note_as(level: Level, line: &str) {
    let shown = printable(line);
    if !print_line(level, line, &shown) {
        stderr_line(&shown);
    }
}

/// Writes a line on stderr that is escaped already; if nobody reads it, the line is lost.
pub(crate) fn stderr_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints a text on stderr that may have several lines, such as one with an excerpt of a file.
pub(crate) fn note_lines(text: &str) {
    let shown = printable_lines(text);
    if !print_line(Level::ERROR, text, &shown) {
        stderr_line(&shown);
    }
}

/// Redraws the current line on stderr; an empty text erases it.
pub(crate) fn redraw(line: &str) {
    let _ = write!(io::stderr().lock(), "\r{}\x1b[K", printable(line));
}

/// Ends the line that was redrawn.
pub(crate) fn end_line() {
    let _ = writeln!(io::stderr().lock());
}

/// Checks whether lines can be redrawn: stderr is a terminal.
pub(crate) fn can_redraw() -> bool {
    io::stderr().is_terminal()
}

/// Logs events of this level and above on stderr, one line per event.
pub(crate) fn log(level: Level) {
    let log = tracing_subscriber::fmt().with_writer(Log).with_max_level(level).with_target(false);
    // If nobody reads the log, it is lost and the program continues.
    log.log_internal_errors(false).init();
}

/// Writer of log lines.
struct Log;

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Log {
    /// Writes one whole event, as the subscriber passes it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(event);
        writeln!(io::stderr().lock(), "{}", printable(line.trim_end_matches('\n')))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn put(text: &str) {
    put_bytes(|out| writeln!(out, "{text}"));
}

fn put_bytes(write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) {
    let mut out = io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(Exit::Success as i32);
        }
        Err(error) => {
            note(&format!("error: cannot write to stdout: {error}"));
            std::process::exit(Exit::Failed as i32);
        }
    }
}

fn is_terminal() -> bool {
    static TERMINAL: OnceLock<bool> = OnceLock::new();
    *TERMINAL.get_or_init(|| io::stdout().is_terminal())
}

fn on_stdout<'a>(text: &'a str, escaped: impl Fn(&'a str) -> Cow<'a, str>) -> Cow<'a, str> {
    if is_terminal() { escaped(text) } else { Cow::Borrowed(text) }
}

/// Escapes the control characters of JSON by JSON's rules; they can occur in strings only.
pub(crate) fn escaped_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(steers) {
        return Cow::Borrowed(json);
    }
    json.chars()
        .fold(String::with_capacity(json.len() + 16), |mut line, c| {
            if steers(c) {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            } else {
                line.push(c);
            }
            line
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn escaped_json_is_the_same_value() {
        let value = json!({"a\u{9b}2J": ["\u{1b}[2J", "\u{7f}\u{202e}\u{2069}", "é📖"]});
        let shown = escaped_json(&value.to_string()).into_owned();
        assert!(!shown.chars().any(steers), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), value);
    }
}
