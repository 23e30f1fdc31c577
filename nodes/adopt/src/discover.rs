//! A description in a file, as `rpc.discover` returns it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rantai_client::object::Description;
use rantai_client::wire::json;
use serde_json::Value;

/// Maximum size of a description, in bytes.
const LARGEST: u64 = 1 << 20;
/// Maximum number of characters of a line in an error, before and behind its place.
const SHOWN: usize = 60;

/// Reads a description.
///
/// # Errors
///
/// The file cannot be read or is no such document; the text shows file, line, column and a caret.
pub(crate) fn load(path: &Path) -> Result<Description, String> {
    let file = path.display();
    let mut text = String::new();
    let read = File::open(path).and_then(|opened| opened.take(LARGEST + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read {file}: {error}"))?;
    if text.len() as u64 > LARGEST {
        return Err(format!("{file}: expected {LARGEST} bytes at most"));
    }
    if let Err(error) = serde_json::from_str::<Value>(&text) {
        let at = format!(" at line {} column {}", error.line(), error.column());
        let said = error.to_string();
        let said = said.strip_suffix(&at).unwrap_or(&said);
        return Err(shown(&file.to_string(), &text, error.line(), error.column(), said));
    }
    // Member names that are repeated, and the like.
    let document = json::read(text.as_bytes()).map_err(|error| format!("{file}: {error}"))?;
    if !document["methods"].is_array() {
        let text =
            "has no list `methods`; write what `rantai call NAME.rpc.discover` prints of such an object";
        return Err(format!("{file}: {text}"));
    }
    Ok(Description::from_open_rpc(&document))
}

/// Formats an error with an excerpt of the text, and a caret below its place. `line` and `column` begin at 1, and columns count
/// bytes.
fn shown(file: &str, text: &str, line: usize, column: usize, said: &str) -> String {
    let whole = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let before = whole.get(..column.saturating_sub(1)).unwrap_or(whole).chars().count();
    let start = before.saturating_sub(SHOWN);
    let excerpt: String = whole.chars().skip(start).take(2 * SHOWN).collect();
    let margin = " ".repeat(line.to_string().len());
    let mut error = format!("{file}:{line}:{column}: {said}\n");
    let caret = " ".repeat(before - start);
    let _ = write!(error, "{margin} |\n{line} | {excerpt}\n{margin} | {caret}^");
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_part_of_a_long_line_that_is_wrong() {
        let text = format!("{{\"é\": \"{}\" 5, \"b\": \"{}\"}}", "x".repeat(500), "y".repeat(500));
        let error = serde_json::from_str::<Value>(&text).expect_err("no comma");
        let shown = shown("a.json", &text, error.line(), error.column(), "expected a comma");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], format!("a.json:1:{}: expected a comma", error.column()));
        let caret = lines[3].chars().count() - 1;
        assert_eq!(lines[2].chars().nth(caret), Some('5'), "{shown}");
        assert!(lines[2].chars().count() <= 2 * SHOWN + 4, "{shown}");
    }
}
