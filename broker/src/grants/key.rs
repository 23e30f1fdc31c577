//! What a grant is found by.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytestring::ByteString;

use crate::access::Principal;

/// The longest Response Topic that the bus knows: a root of 128 bytes, `/reply/`, an object, and a client.
const MAX_REPLY_TOPIC_BYTES: usize = 128 + 7 + 64 + 1 + 64;
/// The longest Correlation Data that the bus knows.
const MAX_CORRELATION_BYTES: usize = 64;

/// Who was asked, and where the reply goes: borrowed, to look a grant up without allocating.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Whose grants belong to it and to the client id, whatever connection it has.
    pub(crate) principal: &'a Arc<Principal>,
    pub(crate) client_id: &'a ByteString,
    /// The Response Topic of the request.
    pub(crate) topic: &'a str,
    /// Its Correlation Data; empty without.
    pub(crate) correlation: &'a [u8],
}

impl Wanted<'_> {
    /// Whether an object would reply: what is longer is refused by the wire contract, and not kept here.
    pub(super) fn is_of_the_bus(&self) -> bool {
        self.topic.len() <= MAX_REPLY_TOPIC_BYTES && self.correlation.len() <= MAX_CORRELATION_BYTES
    }
}

/// Without the user: of one client id hardly any other has grants at the same time.
impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.client_id.as_bytes());
        state.write(self.topic.as_bytes());
        state.write(self.correlation);
    }
}

/// The same, kept.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    principal: Arc<Principal>,
    client_id: ByteString,
    /// The topic, and behind it the correlation.
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

/// Whether two are one: each connection of the same user may have a principal of its own.
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
