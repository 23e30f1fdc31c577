//! Keys of grants.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytestring::ByteString;

use crate::access::Principal;

/// Maximum length of a Response Topic on the bus, in bytes: a root of 128 bytes, `/reply/`, an object, and a client.
const MAX_REPLY_TOPIC_BYTES: usize = 128 + 7 + 64 + 1 + 64;
/// Maximum length of Correlation Data on the bus, in bytes.
const MAX_CORRELATION_BYTES: usize = 64;

/// Borrowed key of a grant: the client that may reply, and the reply's topic and correlation. Allows a lookup without
/// allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Principal that holds the grants, together with the client id, on any connection.
    pub(crate) principal: &'a Arc<Principal>,
    pub(crate) client_id: &'a ByteString,
    /// Response Topic of the request.
    pub(crate) topic: &'a str,
    /// Correlation Data of the request; empty if it has none.
    pub(crate) correlation: &'a [u8],
}

impl Wanted<'_> {
    /// Returns whether an object on the bus would reply to this request. The wire contract refuses longer topics and
    /// correlations, which therefore get no grants.
    pub(super) fn is_of_the_bus(&self) -> bool {
        self.topic.len() <= MAX_REPLY_TOPIC_BYTES && self.correlation.len() <= MAX_CORRELATION_BYTES
    }
}

/// The user is not hashed: a client id rarely has grants of two users at the same time.
impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.client_id.as_bytes());
        state.write(self.topic.as_bytes());
        state.write(self.correlation);
    }
}

/// Owned key of a grant.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    principal: Arc<Principal>,
    client_id: ByteString,
    /// The topic, followed by the correlation.
    text: Box<[u8]>,
    topic_length: u32,
}

impl Key {
    fn texts(&self) -> (&[u8], &[u8]) {
        self.text.split_at(self.topic_length as usize)
    }

    pub(crate) fn borrowed(&self) -> Wanted<'_> {
        let (topic, correlation) = self.texts();
        Wanted {
            principal: &self.principal,
            client_id: &self.client_id,
            topic: std::str::from_utf8(topic).expect("copied from a text"),
            correlation,
        }
    }

    pub(super) fn is(&self, wanted: &Wanted<'_>) -> bool {
        self.texts() == (wanted.topic.as_bytes(), wanted.correlation)
            && self.client_id == *wanted.client_id
            && is_same(&self.principal, wanted.principal)
    }
}

/// Returns whether two principals are the same client: each connection of a user may have its own principal.
fn is_same(one: &Arc<Principal>, other: &Arc<Principal>) -> bool {
    Arc::ptr_eq(one, other) || one.caller() == other.caller() && one.local == other.local
}

impl From<&Wanted<'_>> for Key {
    fn from(wanted: &Wanted<'_>) -> Self {
        Self {
            principal: wanted.principal.clone(),
            client_id: wanted.client_id.clone(),
            text: [wanted.topic.as_bytes(), wanted.correlation].concat().into(),
            topic_length: wanted.topic.len() as u32,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.borrowed())
    }
}

impl Eq for Key {}
