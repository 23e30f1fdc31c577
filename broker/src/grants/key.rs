//! What a grant is found by.

use std::hash::{Hash, Hasher};

use bytestring::ByteString;

/// The longest Response Topic that the bus knows: a root of 128 bytes, `/reply/`, an object, and a client.
const MAX_REPLY_TOPIC_BYTES: usize = 128 + 7 + 64 + 1 + 64;
/// The longest Correlation Data that the bus knows.
const MAX_CORRELATION_BYTES: usize = 64;

/// Who was asked, and where the reply goes: borrowed, to look a grant up without allocating.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wanted<'a> {
    pub(crate) holder: Holder<'a>,
    /// The Response Topic of the request.
    pub(crate) topic: &'a str,
    /// Its Correlation Data; empty without.
    pub(crate) correlation: &'a [u8],
}

/// Who holds grants: a user and a client id, whatever connection it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder<'a> {
    /// None for a client that did not log in.
    pub(crate) user: Option<&'a ByteString>,
    /// The broker's own process, which has no user.
    pub(crate) local: bool,
    pub(crate) client_id: &'a ByteString,
}

impl Wanted<'_> {
    /// Whether an object would reply: what is longer is refused by the wire contract, and not kept here.
    pub(super) fn is_of_the_bus(&self) -> bool {
        self.topic.len() <= MAX_REPLY_TOPIC_BYTES && self.correlation.len() <= MAX_CORRELATION_BYTES
    }
}

/// The same, kept.
#[derive(Debug)]
pub(crate) struct Key {
    user: Option<ByteString>,
    local: bool,
    client_id: ByteString,
    /// The topic, and behind it the correlation.
    text: Box<[u8]>,
    topic_length: usize,
}

impl Key {
    pub(super) fn borrowed(&self) -> Wanted<'_> {
        let (topic, correlation) = self.text.split_at(self.topic_length);
        Wanted {
            holder: Holder { user: self.user.as_ref(), local: self.local, client_id: &self.client_id },
            topic: std::str::from_utf8(topic).expect("copied from a text"),
            correlation,
        }
    }

    pub(super) fn is(&self, wanted: &Wanted<'_>) -> bool {
        let Holder { user, local, client_id } = wanted.holder;
        let (topic, correlation) = self.text.split_at(self.topic_length);
        topic == wanted.topic.as_bytes()
            && correlation == wanted.correlation
            && self.client_id == *client_id
            && self.user.as_ref() == user
            && self.local == local
    }
}

impl From<&Wanted<'_>> for Key {
    fn from(wanted: &Wanted<'_>) -> Self {
        let Holder { user, local, client_id } = wanted.holder;
        Self {
            user: user.cloned(),
            local,
            client_id: client_id.clone(),
            text: [wanted.topic.as_bytes(), wanted.correlation].concat().into(),
            topic_length: wanted.topic.len(),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.borrowed() == other.borrowed()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}
