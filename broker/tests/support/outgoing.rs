//! Packets as a client writes them. Nothing here checks anything: tests need wrong ones too.

use super::Version;
use super::property::{Property, encode_properties};

/// A variable byte integer (1.5.5) in its shortest form.
pub(crate) fn variable_integer(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// Two bytes of length, then the text.
pub(crate) fn string(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

/// Two bytes of length, then the bytes.
pub(crate) fn binary(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a test's string fits its length field");
    [length.to_be_bytes().as_slice(), bytes].concat()
}

/// A packet: first byte, remaining length, rest.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend(variable_integer(body.len() as u32));
    out.extend(body);
    out
}

/// A will (3.1.2.5).
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Vec<Property>,
}

impl Will {
    /// At QoS 0, not retained.
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_bytes().to_vec(),
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }

    /// At another QoS.
    pub(crate) fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// With Will Retain set.
    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With a property, in MQTT 5.
    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

/// CONNECT (3.1).
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) id: String,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) properties: Vec<Property>,
    pub(crate) will: Option<Will>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
}

impl Connect {
    /// A clean start under a client id that no other test has.
    pub(crate) fn new(version: Version) -> Self {
        Self {
            version,
            id: super::unique(),
            clean: true,
            keep_alive: 0,
            properties: Vec::new(),
            will: None,
            user: None,
            password: None,
        }
    }

    /// Under this client id.
    pub(crate) fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// With Clean Session (3.1.1) or Clean Start (5) off.
    pub(crate) fn resume(mut self) -> Self {
        self.clean = false;
        self
    }

    /// A session that outlives its connection, in either version's way.
    pub(crate) fn persistent(self) -> Self {
        match self.version {
            Version::V3 => self.resume(),
            Version::V5 => self.resume().property(Property::SessionExpiry(600)),
        }
    }

    /// In seconds.
    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// With a property, in MQTT 5.
    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// With a will.
    pub(crate) fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// With a user name.
    pub(crate) fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// With a password.
    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.as_bytes().to_vec());
        self
    }

    /// The Connect Flags that its fields call for.
    pub(crate) fn flags(&self) -> u8 {
        let will = self.will.as_ref().map_or(0, |will| 0x04 | (will.qos << 3) | (u8::from(will.retain) << 5));
        (u8::from(self.clean) << 1)
            | will
            | (u8::from(self.password.is_some()) << 6)
            | (u8::from(self.user.is_some()) << 7)
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.encode_with("MQTT", self.version.level(), self.flags())
    }

    /// Its bytes with other Connect Flags than its fields call for.
    pub(crate) fn encode_with_flags(&self, flags: u8) -> Vec<u8> {
        self.encode_with("MQTT", self.version.level(), flags)
    }

    /// Its bytes with another protocol name, level and flags.
    pub(crate) fn encode_with(&self, name: &str, level: u8, flags: u8) -> Vec<u8> {
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
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// 0 stands for none; a client's [`publish`](super::Client::publish) then chooses one.
    pub(crate) id: u16,
    pub(crate) properties: Vec<Property>,
}

impl Publish {
    /// At QoS 0, not retained.
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_bytes().to_vec(),
            qos: 0,
            retain: false,
            dup: false,
            id: 0,
            properties: Vec::new(),
        }
    }

    /// At another QoS.
    pub(crate) fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// With RETAIN set.
    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With DUP set.
    pub(crate) fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// With this packet identifier.
    pub(crate) fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// With a property, in MQTT 5.
    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("tests send text")
    }

    /// Its Subscription Identifiers, sorted: their order means nothing [MQTT-3.3.4-4].
    pub(crate) fn subscription_ids(&self) -> Vec<u32> {
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
    pub(crate) fn encode(&self, version: Version) -> Vec<u8> {
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
pub(crate) fn ack(kind: u8, version: Version, id: u16, code: u8) -> Vec<u8> {
    let flags = if kind == 6 { 2 } else { 0 };
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 && code != 0 {
        body.push(code);
    }
    frame((kind << 4) | flags, &body)
}

/// SUBSCRIBE (3.8) to filters with their Subscription Options.
pub(crate) fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(version, id, filters, &[])
}

/// SUBSCRIBE (3.8) with properties.
pub(crate) fn subscribe_with(
    version: Version,
    id: u16,
    filters: &[(&str, u8)],
    properties: &[Property],
) -> Vec<u8> {
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
pub(crate) fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
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
pub(crate) fn pingreq() -> Vec<u8> {
    vec![0xC0, 0]
}

/// DISCONNECT (3.14); in 3.1.1 code and properties are left out.
pub(crate) fn disconnect(version: Version, code: u8, properties: &[Property]) -> Vec<u8> {
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
pub(crate) fn auth(code: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![code];
    body.extend(encode_properties(properties));
    frame(0xF0, &body)
}
