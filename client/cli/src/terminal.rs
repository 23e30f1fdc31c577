//! Everything the program prints: nothing else writes to stdout or stderr.
//!
//! What comes from the bus may not steer the terminal of whoever looks at it. On stderr every line is escaped, whatever
//! stderr is: it is for people, and is looked at later. On stdout lines are escaped where it is a terminal; into a pipe
//! or a file results go as they are.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, StdoutLock, Write};
use std::sync::OnceLock;

use rantai_client::{printable, printable_lines, steers};
use serde_json::Value;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use crate::exit::Exit;

/// Prints a line on stdout. A reader that has gone away ends the program quietly; any other error of stdout ends it as a
/// failure. So it is with all functions that print.
pub(crate) fn print(line: &str) {
    put(&on_stdout(line, |line| printable(line).into()));
}

/// Prints a text on stdout that may have several lines.
pub(crate) fn print_text(text: &str) {
    put(&on_stdout(text, printable_lines));
}

/// Prints a value on stdout as JSON in one line. It is JSON on a terminal too, where escapes are those of JSON.
pub(crate) fn print_json(value: &Value) {
    put(&on_stdout(&value.to_string(), escaped_json));
}

/// Prints a line on stdout in a format of the user's, colours and all; what comes from the bus is escaped in it already.
pub(crate) fn print_formatted(line: &str) {
    put(line);
}

/// Prints a binary result on stdout: as it is, or as far as it is a text where stdout is a terminal.
pub(crate) fn print_bytes(bytes: &[u8]) {
    if is_terminal() {
        put(&printable_lines(&String::from_utf8_lossy(bytes)));
    } else {
        print_document(bytes);
    }
}

/// Prints what the program itself has made, as it is and in one piece: a manual page, a script.
pub(crate) fn print_document(bytes: &[u8]) {
    put_bytes(|out| out.write_all(bytes));
}

/// Prints a line on stdout of a program that serves: without a reader it is lost, and the program goes on.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let line = on_stdout(line, printable_lines);
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Asks on stdout, without an end of line.
pub(crate) fn ask(question: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let question = on_stdout(question, printable_lines);
    write!(out, "{question}").and_then(|()| out.flush())
}

/// Asks on stderr, without an end of line: stdout is for the result.
pub(crate) fn ask_aside(question: &str) -> io::Result<()> {
    let mut out = io::stderr().lock();
    write!(out, "{}", printable(question)).and_then(|()| out.flush())
}

/// Prints a line on stderr; without a reader it is lost, and the program goes on.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

/// The same with a text that may have several lines, as an excerpt of a file of the user's has.
pub(crate) fn note_lines(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable_lines(text));
}

/// Draws a line on stderr over the one that was drawn before; an empty one erases it.
pub(crate) fn redraw(line: &str) {
    let _ = write!(io::stderr().lock(), "\r{}\x1b[K", printable(line));
}

/// Ends the line that was drawn.
pub(crate) fn end_line() {
    let _ = writeln!(io::stderr().lock());
}

/// Whether lines can be redrawn.
pub(crate) fn can_redraw() -> bool {
    io::stderr().is_terminal()
}

/// Logs from this level on, one line per event, on stderr.
pub(crate) fn log(level: Level) {
    let log = tracing_subscriber::fmt().with_writer(Log).with_max_level(level).with_target(false);
    // Where nobody reads it any more it is lost, and the program goes on.
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
    /// Takes an event as a whole, as the subscriber writes it.
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

/// JSON in which the characters that steer a terminal are escaped as JSON escapes them; they stand only in strings.
fn escaped_json(json: &str) -> Cow<'_, str> {
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
    fn json_on_a_terminal_is_the_same_value() {
        let value = json!({"a\u{9b}2J": ["\u{1b}[2J", "\u{7f}\u{202e}\u{2069}", "é📖"]});
        let shown = escaped_json(&value.to_string()).into_owned();
        assert!(!shown.chars().any(steers), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), value);
    }
}
