//! Prompts on a terminal.

use std::io::{self, BufRead as _, IsTerminal as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::exit::{Exit, Failure};
use crate::terminal;

/// Reads the argument `what` as a line from stdin; prints the prompt if stdin is a terminal.
pub(crate) fn ask(prompt: &str, what: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Usage, format!("cannot read {what}: {error}"));
    if io::stdin().is_terminal() {
        terminal::ask(prompt).map_err(failed)?;
    }
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).map_err(failed)? == 0 {
        return Err(Failure::new(Exit::Usage, format!("no {what}: give it as an argument, or type it")));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Maximum number of bytes read of a password; the rest of a longer line is ignored.
const MAX_HIDDEN: usize = 4096;

/// Control characters while a password is typed: Ctrl-C, Ctrl-D, Ctrl-U, and both backspace keys.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const ERASE_ALL: u8 = 0x15;
const ERASE: [u8; 2] = [0x08, 0x7F];

/// Reads a password from the terminal without showing it.
pub(crate) fn ask_hidden(question: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Usage, format!("cannot read the password: {error}"));
    if !io::stdin().is_terminal() {
        let text = "stdin is no terminal to ask for a password; --stdin reads it from there all the same";
        return Err(Failure::new(Exit::Usage, text));
    }
    let mode = HiddenMode::set().map_err(failed)?;
    terminal::ask_aside(question).map_err(failed)?;
    let line = read_hidden();
    drop(mode);
    // The terminal did not echo the line feed either.
    terminal::end_line();
    line
}

/// Reads the first line of stdin, for passwords from a pipe.
pub(crate) fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read the password: {error}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads to the end of a line, byte by byte, so that input after it is left on stdin.
fn read_hidden() -> Result<String, Failure> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut byte));
        match read.map_err(|error| Failure::new(Exit::Usage, format!("cannot read the password: {error}")))? {
            0 => break,
            _ => match byte[0] {
                b'\n' | b'\r' => break,
                END if line.is_empty() => break,
                INTERRUPT => return Err(Failure::new(Exit::Cancelled, "cancelled")),
                ERASE_ALL => line.clear(),
                erase if ERASE.contains(&erase) => {
                    // Removes all bytes of the last character.
                    while line.pop().is_some_and(|last| last & 0xC0 == 0x80) {}
                }
                other if line.len() < MAX_HIDDEN => line.push(other),
                _ => {}
            },
        }
    }
    String::from_utf8(line).map_err(|_| Failure::new(Exit::Usage, "the password is not UTF-8"))
}

/// Terminal without echo; dropping this restores its mode. Ctrl-C arrives as a byte, as a process killed by the signal would
/// leave the terminal without echo.
struct HiddenMode(Termios);

impl HiddenMode {
    fn set() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Drain, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for HiddenMode {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
