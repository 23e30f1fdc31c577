//! Streamed results: replies in parts.
//!
//! A request with the user property [`STREAM_PROPERTY`] may get its result in parts. A part is a JSON array of items with
//! [`FROM_PROPERTY`], its offset; all but the last have [`MORE_PROPERTY`]. Flow control is by credit: the caller raises it
//! with `rpc.more`.

use serde_json::{Value, json};

use super::Properties;

/// User property of a request that asks for a stream: the initial credit in bytes ([`part_bytes`]). With 0 the caller accepts
/// neither a stream nor a list.
pub const STREAM_PROPERTY: &str = "stream";
/// User property of a part: the number of items before it.
pub const FROM_PROPERTY: &str = "from";
/// User property, with the value `1`, of every part but the last.
pub const MORE_PROPERTY: &str = "more";
/// Built-in method that raises the credit. It gets no reply.
pub const MORE_METHOD: &str = "rpc.more";
/// Maximum of unused credit, in bytes.
pub const MAX_CREDIT_BYTES: u64 = 1 << 20;
/// Number of bytes that a part counts for in addition to its payload, so that small parts use up credit too.
const PART_OVERHEAD_BYTES: u64 = 128;

/// Parses [`STREAM_PROPERTY`]; `None` if it is not a decimal number.
pub fn initial_credit(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(MAX_CREDIT_BYTES).min(MAX_CREDIT_BYTES))
}

/// Returns the number of bytes of credit that a part uses up.
pub fn part_bytes(payload: &[u8]) -> u64 {
    payload.len() as u64 + PART_OVERHEAD_BYTES
}

/// Parameters of `rpc.more`. Its reply topic and correlation are those of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Items that the caller has received.
    pub taken: u64,
    /// Total credit since the start of the stream, in bytes.
    pub bytes: u64,
    /// Whether all parts after `taken` are to be retransmitted, after a lost connection.
    pub again: bool,
}

impl Credit {
    /// Returns the parameters as a JSON array.
    pub fn params(&self) -> Value {
        json!([self.taken, self.bytes, self.again])
    }
}

/// Returns the number of items before a part; `None` if the reply is not a part.
pub fn part_offset(properties: &Properties) -> Option<u64> {
    properties.user(FROM_PROPERTY)?.parse().ok()
}

/// Returns whether another part follows.
pub fn has_more(properties: &Properties) -> bool {
    properties.user(MORE_PROPERTY) == Some("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_a_decimal_number_of_bytes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1000", Some(1_000)),
            ("99999999999999999999999", Some(MAX_CREDIT_BYTES)),
            ("+5", None),
            ("-1", None),
            ("", None),
            ("1.5", None),
        ] {
            assert_eq!(initial_credit(text), expected, "{text:?}");
        }
    }
}
