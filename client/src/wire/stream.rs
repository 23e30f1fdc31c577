//! Results that come in parts.
//!
//! A request with the user property [`ASKED`] may be replied to in parts: each is a JSON array of items, has [`FROM`], the number
//! of items before it, and all but the last have [`MORE`]. The caller says by `rpc.more` how many bytes it takes.

use serde_json::{Value, json};

use super::Properties;

/// The user property of a request whose caller takes its result in parts: how many bytes ([`part_bytes`]), until it says more. With 0
/// it takes none, nor the whole in one list.
pub const ASKED: &str = "stream";
/// The user property of a part: the number of items before it.
pub const FROM: &str = "from";
/// The user property of a part that others follow, with the value `1`.
pub const MORE: &str = "more";
/// The built-in method by which a caller takes more. It gets no reply.
pub const MORE_METHOD: &str = "rpc.more";
/// The most bytes that a caller may take at a time.
pub const LARGEST_CREDIT: u64 = 1 << 20;
/// What each part counts for beside its payload, in bytes: many small ones take room, too.
const OVERHEAD: u64 = 128;

/// How many bytes a caller takes at first; `None` for what is no number.
pub fn asked_bytes(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(LARGEST_CREDIT).min(LARGEST_CREDIT))
}

/// What a part counts for.
pub fn part_bytes(payload: &[u8]) -> u64 {
    payload.len() as u64 + OVERHEAD
}

/// What stands in `rpc.more`, whose reply topic and correlation are those of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Items that the caller has taken.
    pub taken: u64,
    /// Bytes that it takes, from the beginning on.
    pub bytes: u64,
    /// Whether it wants all parts behind `taken` once more, as it has lost its connection.
    pub again: bool,
}

impl Credit {
    /// As parameters.
    pub fn params(&self) -> Value {
        json!([self.taken, self.bytes, self.again])
    }
}

/// The number of items before a part; `None` where a reply is none.
pub fn items_before(properties: &Properties) -> Option<u64> {
    properties.user(FROM)?.parse().ok()
}

/// Whether other parts follow.
pub fn has_more(properties: &Properties) -> bool {
    properties.user(MORE) == Some("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_takes_a_number_of_bytes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1000", Some(1_000)),
            ("99999999999999999999999", Some(LARGEST_CREDIT)),
            ("+5", None),
            ("-1", None),
            ("", None),
            ("1.5", None),
        ] {
            assert_eq!(asked_bytes(text), expected, "{text:?}");
        }
    }
}
