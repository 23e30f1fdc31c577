//! Invariants for arbitrary bytes of a client, used by the fuzz target and by a seeded test.

use super::frames::{FrameReader, Violation};
use super::request;
use crate::config::WebSettings;

/// Parses `bytes` as a request, and as frames in pieces of `piece` bytes.
///
/// # Panics
///
/// The result of the frames depends on the pieces, or is longer than the input.
pub(crate) fn check(bytes: &[u8], piece: usize) {
    let _ = request::answer(bytes, &WebSettings::default());
    let whole = outcome(bytes, bytes.len().max(1));
    let (payload, ..) = &whole;
    assert!(payload.len() <= bytes.len());
    assert_eq!(outcome(bytes, piece.max(1)), whole);
}

type Outcome = (Vec<u8>, Option<Vec<u8>>, Result<Option<u16>, Violation>);

/// Returns the payload, the last ping, and the result.
fn outcome(bytes: &[u8], piece: usize) -> Outcome {
    let (mut reader, mut payload, mut ping) = (FrameReader::default(), Vec::new(), None);
    for bytes in bytes.chunks(piece) {
        let before = payload.len();
        let decoded = reader.decode(&mut bytes.to_vec(), &mut payload);
        ping = reader.take_ping().or(ping);
        match decoded {
            Ok(count) => assert_eq!(payload.len(), before + count, "as many as it says"),
            Err(violation) => return (payload, ping, Err(violation)),
        }
    }
    (payload, ping, Ok(reader.close_code().filter(|_| reader.is_closed())))
}
