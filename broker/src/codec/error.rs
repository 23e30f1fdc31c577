//! Errors of decoding.

use super::reason::Reason;

/// Error of decoding a packet: the connection ends with this reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({reason:?})")]
pub(crate) struct DecodeError {
    pub(crate) reason: Reason,
    pub(crate) text: &'static str,
}

impl DecodeError {
    pub(crate) fn malformed(text: &'static str) -> Self {
        Self { reason: Reason::MALFORMED_PACKET, text }
    }

    pub(crate) fn protocol(text: &'static str) -> Self {
        Self { reason: Reason::PROTOCOL_ERROR, text }
    }
}
