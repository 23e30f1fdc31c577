//! What comes from elsewhere, fit to be printed.

/// The same text in one line that steers no terminal: control characters as escapes, all else as it is.
pub fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_one_line() {
        assert_eq!(printable("28°C 本 📖 \"x\" \\"), "28°C 本 📖 \"x\" \\");
        assert_eq!(printable("a\nb\u{1b}[2J\0"), "a\\nb\\u{1b}[2J\\u{0}");
    }
}
