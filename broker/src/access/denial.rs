//! Decisions about actions.

use std::sync::Arc;

use crate::codec::{REASON_STRING_BYTES, Reason};

/// Extent to which an action is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    Yes,
    /// A subscription that is wider than the client's read rights: each topic is checked before a message is sent.
    AtDelivery,
    /// A reply, allowed if the client holds a reply grant.
    WithReplyGrant,
}

/// Refusal of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Reason code for the client.
    pub(crate) reason: Reason,
    /// Reason String: the rule that decides, and what to do. Contains text sent by the client.
    pub(crate) text: Arc<str>,
}

impl Denial {
    pub(crate) fn not_authorized(text: &str) -> Self {
        Self { reason: Reason::NOT_AUTHORIZED, text: cut(text).into() }
    }

    pub(crate) fn client_id(text: &str) -> Self {
        Self { reason: Reason::CLIENT_ID_NOT_VALID, text: cut(text).into() }
    }
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        Self { reason, text: reason.text().into() }
    }
}

/// Truncates a text to the maximum length of a Reason String: it may contain a topic of 64 KiB.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_STRING_BYTES)]
}
