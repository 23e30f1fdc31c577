//! Questions on a terminal.

use std::io::{self, BufRead as _, IsTerminal as _};

use crate::exit::{Exit, Failure};
use crate::terminal;

/// The line a user types, or that a pipe brings, for the argument `what`.
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
