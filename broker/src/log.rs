//! Log lines that clients can cause: escaping of their texts, and rate limits.

use std::fmt::{self, Write as _};
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use crate::counters::Counters;

/// Maximum number of characters of a client's text in a log line.
const MAX_TEXT_CHARS: usize = 64;

/// Displays text of a client (its id, user name, a topic): truncated at 64 characters, and quoted and escaped if it
/// could be mistaken for another field or another line.
///
/// All text of clients is logged through this type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientText<'a>(pub(crate) &'a str);

impl fmt::Display for ClientText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(MAX_TEXT_CHARS).map(|(at, _)| at);
        let text = &self.0[..end.unwrap_or(self.0.len())];
        if text.is_empty() || !text.chars().all(is_plain) {
            f.write_char('"')?;
            for c in text.chars() {
                if c == ' ' || is_plain(c) { f.write_char(c)? } else { write!(f, "{}", c.escape_default())? }
            }
            f.write_char('"')?;
        } else {
            f.write_str(text)?;
        }
        if end.is_some() { write!(f, "… ({} bytes)", self.0.len()) } else { Ok(()) }
    }
}

/// Returns whether a character can neither end a field or a line nor control a terminal.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '=' | '\'')
}

/// Rate limits by kind of line.
#[derive(Debug, Default)]
pub(crate) struct LogLines {
    pub(crate) connected: LineKind,
    pub(crate) refused: LineKind,
    pub(crate) ended: LineKind,
    /// Connections that are closed, at the level debug.
    pub(crate) closed: LineKind,
    /// Filters that are subscribed to or no more, at the level debug.
    pub(crate) filters: LineKind,
    pub(crate) unread: LineKind,
    /// Lines about full queues, and about queues that have room again.
    pub(crate) queues: LineKind,
    /// Lines about limits that clients have reached.
    pub(crate) limits: LineKind,
}

impl LogLines {
    /// Logs the number of lines dropped in the seconds before that of `now`.
    pub(crate) fn log_left_out(&self, now: u64) {
        let kinds = [
            ("connected", &self.connected),
            ("refused", &self.refused),
            ("ended", &self.ended),
            ("closed", &self.closed),
            ("filters", &self.filters),
            ("unread", &self.unread),
            ("queues", &self.queues),
            ("limits", &self.limits),
        ];
        for (kind, lines) in kinds {
            let left_out = lines.take_left_out(now);
            if left_out > 0 {
                tracing::warn!(kind, left_out, "log lines left out");
            }
        }
    }
}

/// Rate limit of one kind of line.
#[derive(Debug, Default)]
pub(crate) struct LineKind(Mutex<LogWindow>);

#[derive(Debug, Default)]
struct LogWindow {
    second: u64,
    written: u32,
    /// Lines dropped in this second.
    left_out: u64,
    /// Lines dropped in earlier seconds and not reported yet.
    unreported: u64,
}

impl LogWindow {
    fn begin(&mut self, second: u64) {
        if self.second != second {
            self.unreported += std::mem::take(&mut self.left_out);
            self.second = second;
            self.written = 0;
        }
    }
}

impl LineKind {
    /// Checks whether another line may be written at `now` milliseconds, with at most `limit` lines per second;
    /// otherwise counts it as dropped.
    pub(crate) fn admit(&self, now: u64, limit: u32, left_out: &AtomicU64) -> bool {
        let mut window = self.0.lock();
        window.begin(now / 1000);
        if window.written < limit {
            window.written += 1;
            return true;
        }
        window.left_out += 1;
        Counters::add(left_out, 1);
        false
    }

    fn take_left_out(&self, now: u64) -> u64 {
        let mut window = self.0.lock();
        window.begin(now / 1000);
        std::mem::take(&mut window.unreported)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn client_texts_are_escaped_within_their_field() {
        for plain in ["sensor-1", "a/b:c@d.e", "温度", "auto-0190"] {
            assert_eq!(ClientText(plain).to_string(), plain);
        }
        for (text, shown) in [
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("a\nINFO connected", r#""a\nINFO connected""#),
            ("\u{1b}[2J", r#""\u{1b}[2J""#),
            ("a=b", r#""a=b""#),
            (r#"a" user="root"#, r#""a\" user=\"root""#),
            ("\u{202e}x\u{2028}\u{9b}", r#""\u{202e}x\u{2028}\u{9b}""#),
        ] {
            assert_eq!(ClientText(text).to_string(), shown);
        }
    }

    #[test]
    fn texts_are_cut_at_64_characters() {
        let text = "é".repeat(64);
        assert_eq!(ClientText(&text).to_string(), text);
        let longer = "é".repeat(65);
        assert_eq!(ClientText(&longer).to_string(), format!("{text}… (130 bytes)"));
        let nasty = "\0".repeat(65_535);
        assert!(ClientText(&nasty).to_string().len() < 64 * 6 + 30);
    }

    #[test]
    fn lines_above_the_limit_are_counted_and_reported_in_the_next_second() {
        let kind = LineKind::default();
        let counter = AtomicU64::default();
        let admitted = |now, n| (0..n).filter(|_| kind.admit(now, 3, &counter)).count();
        assert_eq!(admitted(1_000, 10), 3);
        assert_eq!(kind.take_left_out(1_999), 0, "not yet");
        assert_eq!(admitted(2_000, 2), 2);
        assert_eq!(kind.take_left_out(3_000), 7);
        assert_eq!(kind.take_left_out(4_000), 0);
        // A continuous flood, with lines before each report.
        for second in 5..8 {
            assert_eq!(admitted(second * 1_000, 10), 3);
            assert_eq!(kind.take_left_out(second * 1_000 + 500), if second == 5 { 0 } else { 7 });
        }
        assert_eq!(counter.load(Ordering::Relaxed), 28);
    }
}
