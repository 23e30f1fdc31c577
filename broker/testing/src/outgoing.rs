//! Packets sent by a client. Nothing is checked: tests need invalid packets too.

use crate::primitive::{binary, string, variable_integer};
use crate::property::{Property, encode_properties};
use crate::version::Version;

/// Returns a packet from its first byte and the bytes after its remaining length.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend(variable_integer(body.len() as u32));
    out.extend(body);
    out
}

/// Will of a CONNECT (MQTT 5, 3.1.2.5).
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
    /// Creates a will at QoS 0 without Will Retain.
    pub fn new(topic: &str, payload: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }

    /// Sets the QoS.
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Sets Will Retain.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Adds a property (MQTT 5 only).
    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

/// CONNECT packet (MQTT 5, 3.1).
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
    /// Creates a CONNECT with a clean start and a unique client id.
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

    /// Sets the client id.
    pub fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// Clears Clean Session (3.1.1) or Clean Start (5).
    pub fn resume(mut self) -> Self {
        self.clean = false;
        self
    }

    /// Requests a session that outlives its connection, as the version requires.
    pub fn persistent(self) -> Self {
        match self.version {
            Version::V3 => self.resume(),
            Version::V5 => self.resume().property(Property::SessionExpiry(600)),
        }
    }

    /// Sets the keep-alive, in seconds.
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// Adds a property (MQTT 5 only).
    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// Sets the will.
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// Sets the user name.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Sets the password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.as_bytes().to_vec());
        self
    }

    /// Returns the Connect Flags that match the fields.
    pub fn flags(&self) -> u8 {
        let will = self.will.as_ref().map_or(0, |will| 0x04 | (will.qos << 3) | (u8::from(will.retain) << 5));
        (u8::from(self.clean) << 1)
            | will
            | (u8::from(self.password.is_some()) << 6)
            | (u8::from(self.user.is_some()) << 7)
    }

    /// Encodes the packet.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with("MQTT", self.version.level(), self.flags())
    }

    /// Encodes the packet with these Connect Flags, which may contradict the fields.
    pub fn encode_with_flags(&self, flags: u8) -> Vec<u8> {
        self.encode_with("MQTT", self.version.level(), flags)
    }

    /// Encodes the packet with another protocol name, protocol level and Connect Flags.
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

/// PUBLISH packet (MQTT 5, 3.3), in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields have the names of the standard")]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// Packet identifier; 0 for none.
    pub id: u16,
    pub properties: Vec<Property>,
}

impl Publish {
    /// Creates a PUBLISH at QoS 0 without RETAIN.
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

    /// Sets the QoS.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Sets RETAIN.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Sets DUP.
    #[must_use]
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// Sets the packet identifier.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Adds a property (MQTT 5 only).
    #[must_use]
    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// Returns the payload as text.
    ///
    /// # Panics
    ///
    /// Panics if the payload is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("tests send text")
    }

    /// Returns the Response Topic.
    pub fn response_topic(&self) -> Option<&str> {
        self.properties.iter().find_map(|property| match property {
            Property::ResponseTopic(topic) => Some(topic.as_str()),
            _ => None,
        })
    }

    /// Returns the Correlation Data.
    pub fn correlation(&self) -> Option<&[u8]> {
        self.properties.iter().find_map(|property| match property {
            Property::CorrelationData(data) => Some(data.as_slice()),
            _ => None,
        })
    }

    /// Returns the Subscription Identifiers, sorted, because their order has no meaning [MQTT-3.3.4-4].
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

    /// Encodes the packet.
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

/// Encodes an acknowledgement: PUBACK is kind 4, PUBREC 5, PUBREL 6 and PUBCOMP 7. In 3.1.1 the code is omitted.
pub fn ack(kind: u8, version: Version, id: u16, code: u8) -> Vec<u8> {
    let flags = if kind == 6 { 2 } else { 0 };
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 && code != 0 {
        body.push(code);
    }
    frame((kind << 4) | flags, &body)
}

/// Encodes SUBSCRIBE (MQTT 5, 3.8) for filters with their Subscription Options.
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(version, id, filters, &[])
}

/// Encodes SUBSCRIBE (MQTT 5, 3.8) with properties.
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

/// Encodes UNSUBSCRIBE (MQTT 5, 3.10).
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

/// Encodes PINGREQ (MQTT 5, 3.12).
pub fn pingreq() -> Vec<u8> {
    vec![0xC0, 0]
}

/// Encodes DISCONNECT (MQTT 5, 3.14). In 3.1.1 code and properties are omitted.
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

/// Encodes AUTH (MQTT 5, 3.15).
pub fn auth(code: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![code];
    body.extend(encode_properties(properties));
    frame(0xF0, &body)
}
