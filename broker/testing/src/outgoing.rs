//! Packets as a client writes them. Nothing here checks anything: tests need wrong ones too.

use crate::primitive::{binary, string, variable_integer};
use crate::property::{Property, encode_properties};
use crate::version::Version;

/// A packet: first byte, remaining length, rest.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend(variable_integer(body.len() as u32));
    out.extend(body);
    out
}

/// A will (3.1.2.5).
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields have the names of the standard")]
#[must_use]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<Property>,
}

impl Will {
    /// At QoS 0, not retained.
    pub fn new(topic: &str, payload: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }

    /// At another QoS.
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// With Will Retain set.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With a property, in MQTT 5.
    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

/// CONNECT (3.1).
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields have the names of the standard")]
#[must_use]
pub struct Connect {
    pub version: Version,
    pub id: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub properties: Vec<Property>,
    pub will: Option<Will>,
    pub user: Option<String>,
    pub password: Option<Vec<u8>>,
}

impl Connect {
    /// A clean start under a client id that no other test has.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            id: crate::name::unique(),
            clean: true,
            keep_alive: 0,
            properties: Vec::new(),
            will: None,
            user: None,
            password: None,
        }
    }

    /// Under this client id.
    pub fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// With Clean Session (3.1.1) or Clean Start (5) off.
    pub fn resume(mut self) -> Self {
        self.clean = false;
        self
    }

    /// A session that outlives its connection, in either version's way.
    pub fn persistent(self) -> Self {
        match self.version {
            Version::V3 => self.resume(),
            Version::V5 => self.resume().property(Property::SessionExpiry(600)),
        }
    }

    /// In seconds.
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// With a property, in MQTT 5.
    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// With a will.
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// With a user name.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// With a password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.as_bytes().to_vec());
        self
    }

    /// The Connect Flags that its fields call for.
    pub fn flags(&self) -> u8 {
        let will = self.will.as_ref().map_or(0, |will| 0x04 | (will.qos << 3) | (u8::from(will.retain) << 5));
        (u8::from(self.clean) << 1)
            | will
            | (u8::from(self.password.is_some()) << 6)
            | (u8::from(self.user.is_some()) << 7)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with("MQTT", self.version.level(), self.flags())
    }

    /// Its bytes with other Connect Flags than its fields call for.
    pub fn encode_with_flags(&self, flags: u8) -> Vec<u8> {
        self.encode_with("MQTT", self.version.level(), flags)
    }

    /// Its bytes with another protocol name, level and flags.
    pub fn encode_with(&self, name: &str, level: u8, flags: u8) -> Vec<u8> {
        let mut body = string(name);
        body.push(level);
        body.push(flags);
        body.extend(self.keep_alive.to_be_bytes());
        if self.version == Version::V5 {
            body.extend(encode_properties(&self.properties));
        }
        body.extend(string(&self.id));
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                body.extend(encode_properties(&will.properties));
            }
            body.extend(string(&will.topic));
            body.extend(binary(&will.payload));
        }
        if let Some(user) = &self.user {
            body.extend(string(user));
        }
        if let Some(password) = &self.password {
            body.extend(binary(password));
        }
        frame(0x10, &body)
    }
}

/// PUBLISH (3.3), in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields have the names of the standard")]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// The packet identifier; 0 stands for none.
    pub id: u16,
    pub properties: Vec<Property>,
}

impl Publish {
    /// At QoS 0, not retained.
    pub fn new(topic: &str, payload: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            retain: false,
            dup: false,
            id: 0,
            properties: Vec::new(),
        }
    }

    /// At another QoS.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// With RETAIN set.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With DUP set.
    #[must_use]
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// With this packet identifier.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// With a property, in MQTT 5.
    #[must_use]
    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("tests send text")
    }

    /// Its Response Topic.
    pub fn response_topic(&self) -> Option<&str> {
        self.properties.iter().find_map(|property| match property {
            Property::ResponseTopic(topic) => Some(topic.as_str()),
            _ => None,
        })
    }

    /// Its Correlation Data.
    pub fn correlation(&self) -> Option<&[u8]> {
        self.properties.iter().find_map(|property| match property {
            Property::CorrelationData(data) => Some(data.as_slice()),
            _ => None,
        })
    }

    /// Its Subscription Identifiers, sorted: their order means nothing [MQTT-3.3.4-4].
    pub fn subscription_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .properties
            .iter()
            .filter_map(|property| match property {
                Property::SubscriptionId(id) => Some(*id),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Its bytes.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let first = 0x30 | (u8::from(self.dup) << 3) | (self.qos << 1) | u8::from(self.retain);
        let mut body = string(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if version == Version::V5 {
            body.extend(encode_properties(&self.properties));
        }
        body.extend(&self.payload);
        frame(first, &body)
    }
}

/// An acknowledgement: PUBACK 4, PUBREC 5, PUBREL 6 or PUBCOMP 7. In 3.1.1 the code is left out.
pub fn ack(kind: u8, version: Version, id: u16, code: u8) -> Vec<u8> {
    let flags = if kind == 6 { 2 } else { 0 };
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 && code != 0 {
        body.push(code);
    }
    frame((kind << 4) | flags, &body)
}

/// SUBSCRIBE (3.8) to filters with their Subscription Options.
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(version, id, filters, &[])
}

/// SUBSCRIBE (3.8) with properties.
pub fn subscribe_with(version: Version, id: u16, filters: &[(&str, u8)], properties: &[Property]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.extend(encode_properties(properties));
    }
    for (filter, options) in filters {
        body.extend(string(filter));
        body.push(*options);
    }
    frame(0x82, &body)
}

/// UNSUBSCRIBE (3.10).
pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(string(filter));
    }
    frame(0xA2, &body)
}

/// PINGREQ (3.12).
pub fn pingreq() -> Vec<u8> {
    vec![0xC0, 0]
}

/// DISCONNECT (3.14); in 3.1.1 code and properties are left out.
pub fn disconnect(version: Version, code: u8, properties: &[Property]) -> Vec<u8> {
    match version {
        Version::V3 => vec![0xE0, 0],
        Version::V5 => {
            let mut body = vec![code];
            body.extend(encode_properties(properties));
            frame(0xE0, &body)
        }
    }
}

/// AUTH (3.15).
pub fn auth(code: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![code];
    body.extend(encode_properties(properties));
    frame(0xF0, &body)
}
