//! Tables and paragraphs, laid out for the width of the terminal.

use std::io::{IsTerminal as _, stdout};

use crate::connection::print;

/// Number of spaces between two columns.
const GAP: usize = 2;

/// Minimum width of a column that is broken into lines; with less room, it is laid out below the others.
pub(crate) const MIN_COLUMN: usize = 24;

/// Additional indentation of a text's lines after its first.
pub(crate) const CONTINUATION_INDENT: usize = 4;

/// Rows of texts below the column titles.
///
/// On a terminal the last two columns are broken at spaces so that every line fits; words are not split. Elsewhere each row
/// is one line.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(titles: [&str; N]) -> Self {
        Self { rows: vec![titles.map(ToOwned::to_owned)] }
    }

    pub(crate) fn row(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(ToOwned::to_owned));
    }

    /// Prints the table, or nothing if it has no rows.
    pub(crate) fn print(&self) {
        if self.rows.len() > 1 {
            for line in self.lines(width()) {
                print(&line);
            }
        }
    }

    /// Returns the lines of the table, none longer than `width` unless a single word is.
    fn lines(&self, width: Option<usize>) -> Vec<String> {
        let mut widths: [usize; N] =
            std::array::from_fn(|column| self.rows.iter().map(|row| length(&row[column])).max().unwrap_or(0));
        if let Some(width) = width {
            let fixed = |widths: &[usize; N], last: usize| -> usize {
                widths[..N - last].iter().map(|width| width + GAP).sum()
            };
            // If the last column lacks room, the one before it shrinks.
            let wide = fixed(&widths, 1);
            let least = self.longest_word(N - 1).max(MIN_COLUMN.min(widths[N - 1]));
            if N > 1 && wide + least > width {
                let rest = width.saturating_sub(fixed(&widths, 2) + GAP);
                let word = self.longest_word(N - 2);
                widths[N - 2] = rest.saturating_sub(least).max(word).min(widths[N - 2]);
            }
            let rest = width.saturating_sub(fixed(&widths, 1));
            if rest < least {
                return self.rows.iter().flat_map(|row| paragraph(row, width)).collect();
            }
            widths[N - 1] = rest;
        }
        self.rows.iter().flat_map(|row| columns(row, &widths)).collect()
    }

    fn longest_word(&self, column: usize) -> usize {
        self.rows.iter().flat_map(|row| row[column].split(' ')).map(length).max().unwrap_or(0)
    }
}

/// Lays out a row in as many lines as its longest cell needs.
fn columns<const N: usize>(row: &[String; N], widths: &[usize; N]) -> Vec<String> {
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| wrap(cell, *width, 0)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |at: usize| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let text = cell.get(at).map_or("", String::as_str);
            line.push_str(text);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(length(text)) + GAP));
        }
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// Lays out a row as a paragraph, if the columns do not fit.
fn paragraph<const N: usize>(row: &[String; N], width: usize) -> Vec<String> {
    wrap(&row.join("  "), width, CONTINUATION_INDENT)
}

/// Prints a line; on a terminal, a line that does not fit is broken at spaces and continues indented.
pub(crate) fn print_wrapped(text: &str) {
    match width() {
        None => print(text),
        Some(width) => {
            for line in wrap(text, width, CONTINUATION_INDENT) {
                print(&line);
            }
        }
    }
}

/// Breaks a text at spaces into lines of at most `width` characters; lines after the first are indented by `indent` more.
/// A word that is longer gets a line of its own.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let words = text.trim_start_matches(' ');
    let first = text.len() - words.len();
    let mut lines = vec![" ".repeat(first)];
    for word in words.split(' ') {
        let line = lines.last_mut().expect("one at least");
        if line.trim().is_empty() {
            line.push_str(word);
        } else if length(line) + 1 + length(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            line.truncate(line.trim_end().len());
            lines.push(" ".repeat(first + indent) + word);
        }
    }
    lines
}

/// Returns the width of stdout in characters; `None` if it is no terminal.
pub(crate) fn width() -> Option<usize> {
    let out = stdout();
    let (width, _) = terminal_size::terminal_size_of(&out).filter(|_| out.is_terminal())?;
    Some(usize::from(width.0)).filter(|width| *width > 0)
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new(["NAME", "STATE", "METHODS"]);
        table.row(["calculator", "served", "add sub mul div"]);
        table.row(["pages", "lost", ""]);
        table
    }

    #[test]
    fn without_a_terminal_each_row_is_one_line() {
        let lines = table().lines(None);
        assert_eq!(
            lines,
            ["NAME        STATE   METHODS", "calculator  served  add sub mul div", "pages       lost"]
        );
    }

    #[test]
    fn lines_fit_every_width_without_breaking_words() {
        let mut table = Table::new(["NAME", "FOR", "OBJECTS"]);
        table.row(["library", "books that are read and lent", "shop pages lending example.chainTopology.1"]);
        let words = |text: String| {
            let mut words: Vec<String> = text.split_whitespace().map(ToOwned::to_owned).collect();
            words.sort();
            words
        };
        let whole = words(table.lines(None).join(" "));
        for width in 27..120 {
            let lines = table.lines(Some(width));
            assert!(lines.iter().all(|line| length(line) <= width), "{width}: {lines:#?}");
            assert_eq!(words(lines.join(" ")), whole, "{width}: {lines:#?}");
        }
    }

    #[test]
    fn columns_are_kept_if_their_words_fit() {
        let mut table = Table::new(["NAME", "FOR", "OBJECTS"]);
        table.row(["library", "books that are read and lent", "shop pages lending example.chainTopology.1"]);
        let expected = [
            "NAME     FOR                   OBJECTS",
            "library  books that are read   shop pages lending",
            "         and lent              example.chainTopology.1",
        ];
        assert_eq!(table.lines(Some(55)), expected);
    }

    #[test]
    fn word_that_does_not_fit_gets_its_own_line() {
        let lines = ["a", "  example.chainTopology.bandung", "  b"];
        assert_eq!(wrap("a example.chainTopology.bandung b", 10, 2), lines);
    }

    #[test]
    fn continuation_lines_are_indented_further() {
        assert_eq!(wrap("  one  two three", 10, 2), ["  one  two", "    three"]);
        assert_eq!(wrap("  one  two", 6, 2), ["  one", "    two"]);
        assert_eq!(wrap("", 6, 2), [""]);
    }
}
