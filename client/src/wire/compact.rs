//! Copies of short texts and bytes in one allocation, whose clones and parts need no further one.
//!
//! `Bytes` made of a vector allocates a second time when it is first cloned or sliced.

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

/// Maximum number of bytes of a copy that takes a single allocation.
pub(super) const INLINE: usize = 128;

/// Concatenates `parts`.
pub fn bytes<const COUNT: usize>(parts: [&[u8]; COUNT]) -> Bytes {
    let mut all = SmallVec::<[u8; INLINE]>::new();
    for part in parts {
        all.extend_from_slice(part);
    }
    // Up to `INLINE` bytes are stored beside their reference count.
    Bytes::from_owner(all)
}

/// Concatenates texts.
pub fn text<const COUNT: usize>(parts: [&str; COUNT]) -> ByteString {
    ByteString::try_from(bytes(parts.map(str::as_bytes))).expect("concatenated texts are UTF-8")
}

/// Copies a text and bytes into one allocation.
pub fn text_and_bytes(text: &str, data: &[u8]) -> (ByteString, Bytes) {
    let mut text_part = bytes([text.as_bytes(), data]);
    let data_part = text_part.split_off(text.len());
    (ByteString::try_from(text_part).expect("a text is UTF-8"), data_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenates_short_and_long_parts() {
        for length in [0, 1, INLINE - 3, INLINE - 2, 500] {
            let long = "x".repeat(length);
            assert_eq!(text(["a", &long, "é"]), format!("a{long}é"));
            let (topic, data) = text_and_bytes(&long, b"id");
            assert_eq!((&*topic, &data[..]), (&*long, &b"id"[..]));
        }
    }
}
