//! MQTT 5 properties of messages.

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

/// MQTT 5 properties of a message that the contract uses.
///
/// Those of a received message share the memory of the buffer that it was read into: [`compact`](super::compact) copies what is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Content Type.
    pub content_type: Option<ByteString>,
    /// Response Topic.
    pub response_topic: Option<ByteString>,
    /// Correlation Data.
    pub correlation: Option<Bytes>,
    /// Message Expiry Interval, in seconds.
    pub expiry: Option<u32>,
    /// User properties, in order.
    pub user: UserProperties,
}

impl Properties {
    /// Returns the first user property of this name.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.user.get(name).map(|value| &**value)
    }
}

/// Name and value of a user property.
type UserProperty = (ByteString, ByteString);

/// User properties in order; names may repeat. Two are stored without an allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserProperties(SmallVec<[UserProperty; 2]>);

impl UserProperties {
    /// Appends a property.
    pub fn push(&mut self, (name, value): (impl Into<ByteString>, impl Into<ByteString>)) {
        self.0.push((name.into(), value.into()));
    }

    /// Returns the value of the first property of this name.
    pub fn get(&self, name: &str) -> Option<&ByteString> {
        self.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Returns the properties, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, UserProperty> {
        self.0.iter()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a UserProperties {
    type Item = &'a UserProperty;
    type IntoIter = std::slice::Iter<'a, UserProperty>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<N: Into<ByteString>, V: Into<ByteString>> FromIterator<(N, V)> for UserProperties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(properties: I) -> Self {
        Self(properties.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl<N: Into<ByteString>, V: Into<ByteString>> Extend<(N, V)> for UserProperties {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, properties: I) {
        self.0.extend(properties.into_iter().map(|(name, value)| (name.into(), value.into())));
    }
}

impl<N: Into<ByteString>, V: Into<ByteString>, const COUNT: usize> From<[(N, V); COUNT]> for UserProperties {
    fn from(properties: [(N, V); COUNT]) -> Self {
        properties.into_iter().collect()
    }
}
