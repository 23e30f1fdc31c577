//! Escaping of untrusted texts for output.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes a text so that it is one line and cannot control a terminal: control characters, and characters that change the
/// direction of writing, become escapes such as `\u{1b}`; all others are kept.
pub fn printable(text: &str) -> String {
    escaped(text, steers).into_owned()
}

/// Like [`printable`], but keeps line feeds and tabs.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| steers(c) && !matches!(c, '\n' | '\t'))
}

/// Formats bytes as lower-case hexadecimal digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Checks whether a character controls a terminal instead of being shown: C0 and C1 controls and DEL, and the embeddings,
/// overrides and isolates of bidirectional text, which change the order of the following characters.
pub fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, escape: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&escape) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escape(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_one_line() {
        assert_eq!(printable("28°C 本 📖 \"x\" \\"), "28°C 本 📖 \"x\" \\");
        assert_eq!(printable("a\nb\u{1b}[2J\0"), "a\\nb\\u{1b}[2J\\u{0}");
    }

    #[test]
    fn hex_has_two_digits_per_byte() {
        assert_eq!(hex(&[0, 0x0f, 0xA0, 0xff]), "000fa0ff");
        assert_eq!(hex(&[]), "");
    }

    #[test]
    fn control_and_direction_characters_are_escaped() {
        let obeyed = ('\0'..='\u{1f}')
            .chain('\u{7f}'..='\u{9f}')
            .chain('\u{202a}'..='\u{202e}')
            .chain('\u{2066}'..='\u{2069}');
        for c in obeyed {
            let shown = printable(&format!("a{c}b"));
            assert!(!shown.contains(c) && shown.starts_with("a\\"), "{shown:?}");
            let lines = printable_lines(&format!("a{c}b")).into_owned();
            assert_eq!(lines.contains(c), matches!(c, '\n' | '\t'), "{lines:?}");
        }
        for c in [' ', '~', '\u{a0}', 'é', '\u{200d}', '\u{2029}', '\u{feff}', '👩'] {
            assert_eq!(printable(&c.to_string()), c.to_string());
        }
    }
}
