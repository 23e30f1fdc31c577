//! What is decided about an action.

use std::sync::Arc;

use crate::codec::{REASON_STRING_BYTES, Reason};

/// How far an action is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    Yes,
    /// A subscription that is wider than what the client may read: each topic is asked about before it is sent.
    AtDelivery,
    /// A reply, as far as there is a request for it.
    WithReplyGrant,
}

/// Why an action is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// What the client is told.
    pub(crate) reason: Reason,
    /// A Reason String: which rule decides, and what to do. Has texts of the client in it.
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

/// As much of a text as a Reason String may have: a client may write a topic of 64 KiB into it.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_STRING_BYTES)]
}
