//! User properties of a message (MQTT 5, 3.3.2.3.7), stored in their encoding on the wire.
//!
//! Most are passed on without being read, so that reading and writing them needs no allocation per property.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use crate::codec::USER_PROPERTY;

/// User properties in their original order \[MQTT-3.3.2-18]; names may repeat.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct UserProperties {
    /// Encoded properties: for each its identifier, and its name and value, preceded by their lengths in two bytes.
    encoded: Bytes,
}

impl UserProperties {
    /// Appends encoded properties, which must be valid.
    pub(crate) fn append_encoded(&mut self, encoded: Bytes) {
        if self.encoded.is_empty() {
            self.encoded = encoded;
        } else if !encoded.is_empty() {
            self.encoded = [&self.encoded[..], &encoded].concat().into();
        }
    }

    /// Returns the encoded properties.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Returns the same properties in other memory. `encoded` must have the same content.
    pub(crate) fn moved_to(&self, encoded: Bytes) -> Self {
        debug_assert_eq!(self.encoded, encoded, "a copy");
        Self { encoded }
    }

    /// Returns the number of properties.
    pub(crate) fn len(&self) -> usize {
        self.fields().count()
    }

    /// Returns whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Returns names and values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields().map(|(name, value)| (text(name), text(value)))
    }

    /// Returns the value of the first property of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Returns the values of all properties of this name.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields().filter(move |(other, _)| *other == name.as_bytes()).map(|(_, value)| text(value))
    }

    /// Returns a value of this list as a text that shares its memory.
    pub(crate) fn share(&self, value: &str) -> ByteString {
        ByteString::try_from(self.encoded.slice_ref(value.as_bytes())).expect("it is a text")
    }

    /// Replaces all properties of these names. Those with a value are appended.
    pub(crate) fn set<const COUNT: usize>(&mut self, set: [(&str, Option<&str>); COUNT]) {
        let is_set = |name: &[u8]| set.iter().any(|(other, _)| other.as_bytes() == name);
        let values = || set.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        if values().next().is_none() && !self.fields().any(|(name, _)| is_set(name)) {
            return;
        }
        let rest = self.fields().filter(|(name, _)| !is_set(name));
        let added = values().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        *self = encode(self.encoded.len(), rest.chain(added));
    }

    /// Returns names and values as bytes.
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.encoded[..];
        std::iter::from_fn(move || {
            // The identifier of the property.
            rest = rest.get(1..)?;
            Some((take_field(&mut rest), take_field(&mut rest)))
        })
    }
}

fn take_field<'a>(from: &mut &'a [u8]) -> &'a [u8] {
    let (length, rest) = from.split_first_chunk().expect("checked before it is kept");
    let (field, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
    *from = rest;
    field
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("checked before it is kept")
}

/// Encodes properties, whose texts must not be longer than 65,535 bytes.
fn encode<'a>(size: usize, properties: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> UserProperties {
    const ADDED: usize = 64;
    let mut encoded = Vec::with_capacity(size + ADDED);
    for (name, value) in properties {
        encoded.push(USER_PROPERTY);
        for field in [name, value] {
            let length = u16::try_from(field.len()).expect("texts of packets are not longer");
            encoded.extend_from_slice(&length.to_be_bytes());
            encoded.extend_from_slice(field);
        }
    }
    UserProperties { encoded: encoded.into() }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for UserProperties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(properties: I) -> Self {
        let all: Vec<(N, V)> = properties.into_iter().collect();
        encode(0, all.iter().map(|(name, value)| (name.as_ref().as_bytes(), value.as_ref().as_bytes())))
    }
}

impl fmt::Debug for UserProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repeated_names_are_kept() {
        let pairs = [("b", "2"), ("a", ""), ("b", "é"), ("", "x")];
        let mut properties: UserProperties = pairs.into_iter().collect();
        assert_eq!((properties.len(), properties.iter().collect::<Vec<_>>()), (4, pairs.to_vec()));
        assert_eq!((properties.get("b"), properties.get("c")), (Some("2"), None));
        assert_eq!(properties.values("b").collect::<Vec<_>>(), ["2", "é"]);
        let shared = properties.share(properties.values("b").nth(1).expect("two"));
        properties.append_encoded([("c", "3")].into_iter().collect::<UserProperties>().encoded);
        assert_eq!((&*shared, properties.len(), properties.get("c")), ("é", 5, Some("3")));
    }

    #[test]
    fn set_replaces_every_property_of_the_name() {
        let mut properties: UserProperties =
            [("a", "1"), ("x", "2"), ("b", "3"), ("x", "4")].into_iter().collect();
        properties.set([("x", Some("new")), ("y", None)]);
        assert_eq!(properties, [("a", "1"), ("b", "3"), ("x", "new")].into_iter().collect());
        properties.set([("x", None), ("y", None)]);
        assert_eq!(properties, [("a", "1"), ("b", "3")].into_iter().collect());
        let before = properties.encoded.as_ptr();
        properties.set([("x", None)]);
        assert_eq!(properties.encoded.as_ptr(), before, "unchanged");
    }
}
