//! Removal of passwords from excerpts of a configuration, because errors end up in logs.

use std::ops::Range;

/// Placeholder for a password.
pub(super) const HIDDEN: &str = "…";

/// Returns a line of a configuration with the values of all keys `password` hidden, and the range in it that
/// corresponds to the bytes `marked`.
pub(super) fn hide_passwords(line: &str, mut marked: Range<usize>) -> (String, Range<usize>) {
    let (mut shown, mut from) = (line.to_owned(), 0);
    while let Some(value) = password_value(&shown, from) {
        let moved = |at: usize, inside: usize| {
            if at <= value.start {
                at
            } else if at < value.end {
                inside
            } else {
                at - value.len() + HIDDEN.len()
            }
        };
        from = value.start + HIDDEN.len();
        let start = moved(marked.start, value.start);
        marked = start..moved(marked.end, from).max(start);
        shown.replace_range(value, HIDDEN);
    }
    (shown, marked)
}

/// Returns the range of the value of the first `password = …` after `from`: up to the end of its quotes, or of the line
/// if it has none.
fn password_value(line: &str, mut from: usize) -> Option<Range<usize>> {
    while let Some(found) = line[from..].find("password") {
        let name_end = from + found + "password".len();
        let rest = &line[name_end..];
        // TOML allows a key in quotes: `"password"` is the same key.
        let value = rest.trim_start_matches(['"', '\'']).trim_start();
        if let Some(value) = value.strip_prefix('=') {
            let value = value.trim_start();
            let start = line.len() - value.len();
            let quote = value.chars().next().filter(|quote| ['"', '\''].contains(quote));
            let quoted = quote.and_then(|quote| value[1..].find(quote));
            return Some(start..quoted.map_or(line.len(), |length| start + length + 2));
        }
        from = name_end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hidden_and_the_marked_range_is_adjusted() {
        for (line, marked, expected, shown) in [
            ("name = 'a'", "'a'", "name = 'a'", "'a'"),
            ("password = 'rahasia'", "'rahasia'", "password = …", "…"),
            ("password='rahasia' x", "x", "password=… x", "x"),
            (
                "{ name = 'a', password = \"b\", roles = 1 }",
                "1",
                "{ name = 'a', password = …, roles = 1 }",
                "1",
            ),
            (
                "[{ password = 'a' }, { password = 'b', x = 1 }]",
                "x",
                "[{ password = … }, { password = …, x = 1 }]",
                "x",
            ),
            ("password = rahasia # é", "rahasia", "password = …", "…"),
            ("'password' = 12", "12", "'password' = …", "…"),
            ("password_file = 'a'", "'a'", "password_file = 'a'", "'a'"),
            ("password", "password", "password", "password"),
        ] {
            let start = line.find(marked).expect("marked");
            let (hidden, marked) = hide_passwords(line, start..start + marked.len());
            assert_eq!((&*hidden, &hidden[marked]), (expected, shown), "{line}");
        }
    }
}
