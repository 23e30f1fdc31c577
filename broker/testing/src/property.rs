//! Properties of MQTT 5 (2.2.2.2): their identifiers, their encoding, and the packets that may contain them.

use crate::primitive::{binary, string, variable_integer};
use crate::reader::{Malformed, Reader, ensure, malformed};

/// Property of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants have the names of the standard")]
pub enum Property {
    PayloadFormat(u8),
    MessageExpiry(u32),
    ContentType(String),
    ResponseTopic(String),
    CorrelationData(Vec<u8>),
    SubscriptionId(u32),
    SessionExpiry(u32),
    AssignedClientId(String),
    ServerKeepAlive(u16),
    AuthenticationMethod(String),
    AuthenticationData(Vec<u8>),
    RequestProblem(u8),
    WillDelay(u32),
    RequestResponse(u8),
    ResponseInformation(String),
    ServerReference(String),
    ReasonString(String),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(u8),
    User(String, String),
    MaximumPacketSize(u32),
    WildcardAvailable(u8),
    SubscriptionIdsAvailable(u8),
    SharedAvailable(u8),
}

impl Property {
    /// Returns the identifier on the wire.
    pub fn id(&self) -> u8 {
        match self {
            Self::PayloadFormat(_) => 0x01,
            Self::MessageExpiry(_) => 0x02,
            Self::ContentType(_) => 0x03,
            Self::ResponseTopic(_) => 0x08,
            Self::CorrelationData(_) => 0x09,
            Self::SubscriptionId(_) => 0x0B,
            Self::SessionExpiry(_) => 0x11,
            Self::AssignedClientId(_) => 0x12,
            Self::ServerKeepAlive(_) => 0x13,
            Self::AuthenticationMethod(_) => 0x15,
            Self::AuthenticationData(_) => 0x16,
            Self::RequestProblem(_) => 0x17,
            Self::WillDelay(_) => 0x18,
            Self::RequestResponse(_) => 0x19,
            Self::ResponseInformation(_) => 0x1A,
            Self::ServerReference(_) => 0x1C,
            Self::ReasonString(_) => 0x1F,
            Self::ReceiveMaximum(_) => 0x21,
            Self::TopicAliasMaximum(_) => 0x22,
            Self::TopicAlias(_) => 0x23,
            Self::MaximumQos(_) => 0x24,
            Self::RetainAvailable(_) => 0x25,
            Self::User(..) => 0x26,
            Self::MaximumPacketSize(_) => 0x27,
            Self::WildcardAvailable(_) => 0x28,
            Self::SubscriptionIdsAvailable(_) => 0x29,
            Self::SharedAvailable(_) => 0x2A,
        }
    }

    /// Creates a user property.
    pub fn user(name: &str, value: &str) -> Self {
        Self::User(name.to_owned(), value.to_owned())
    }

    /// Encodes the property with its identifier.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.id()];
        match self {
            Self::PayloadFormat(v)
            | Self::RequestProblem(v)
            | Self::RequestResponse(v)
            | Self::MaximumQos(v)
            | Self::RetainAvailable(v)
            | Self::WildcardAvailable(v)
            | Self::SubscriptionIdsAvailable(v)
            | Self::SharedAvailable(v) => out.push(*v),
            Self::ServerKeepAlive(v)
            | Self::ReceiveMaximum(v)
            | Self::TopicAliasMaximum(v)
            | Self::TopicAlias(v) => out.extend(v.to_be_bytes()),
            Self::MessageExpiry(v)
            | Self::SessionExpiry(v)
            | Self::WillDelay(v)
            | Self::MaximumPacketSize(v) => out.extend(v.to_be_bytes()),
            Self::SubscriptionId(v) => out.extend(variable_integer(*v)),
            Self::ContentType(v)
            | Self::ResponseTopic(v)
            | Self::AssignedClientId(v)
            | Self::AuthenticationMethod(v)
            | Self::ResponseInformation(v)
            | Self::ServerReference(v)
            | Self::ReasonString(v) => out.extend(string(v)),
            Self::CorrelationData(v) | Self::AuthenticationData(v) => out.extend(binary(v)),
            Self::User(name, value) => {
                out.extend(string(name));
                out.extend(string(value));
            }
        }
        out
    }

    /// Parses a property, and checks its value.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let id = reader.u8()?;
        let property = match id {
            0x01 => Self::PayloadFormat(reader.flag()?),
            0x02 => Self::MessageExpiry(reader.u32()?),
            0x03 => Self::ContentType(reader.string()?),
            0x08 => Self::ResponseTopic(reader.string()?),
            0x09 => Self::CorrelationData(reader.binary()?),
            0x0B => Self::SubscriptionId(reader.variable_integer()?),
            0x11 => Self::SessionExpiry(reader.u32()?),
            0x12 => Self::AssignedClientId(reader.string()?),
            0x13 => Self::ServerKeepAlive(reader.u16()?),
            0x15 => Self::AuthenticationMethod(reader.string()?),
            0x16 => Self::AuthenticationData(reader.binary()?),
            0x1A => Self::ResponseInformation(reader.string()?),
            0x1C => Self::ServerReference(reader.string()?),
            0x1F => Self::ReasonString(reader.string()?),
            0x21 => Self::ReceiveMaximum(reader.u16()?),
            0x22 => Self::TopicAliasMaximum(reader.u16()?),
            0x23 => Self::TopicAlias(reader.u16()?),
            0x24 => Self::MaximumQos(reader.flag()?),
            0x25 => Self::RetainAvailable(reader.flag()?),
            0x26 => Self::User(reader.string()?, reader.string()?),
            0x27 => Self::MaximumPacketSize(reader.u32()?),
            0x28 => Self::WildcardAvailable(reader.flag()?),
            0x29 => Self::SubscriptionIdsAvailable(reader.flag()?),
            0x2A => Self::SharedAvailable(reader.flag()?),
            other => malformed!("a server may not send property {other:#04x}"),
        };
        match property {
            Self::SubscriptionId(0)
            | Self::ReceiveMaximum(0)
            | Self::TopicAlias(0)
            | Self::MaximumPacketSize(0) => malformed!("{property:?} may not be zero"),
            _ => Ok(property),
        }
    }
}

/// Encodes a property field: its length, then the properties.
pub fn encode_properties(properties: &[Property]) -> Vec<u8> {
    let body: Vec<u8> = properties.iter().flat_map(Property::encode).collect();
    let mut out = variable_integer(body.len() as u32);
    out.extend(body);
    out
}

/// Parses the property field of a packet of type `kind` sent by a server. Checks that the packet may contain each
/// property, and contains it once (MQTT 5, 2.2.2.2).
pub(crate) fn read_properties(reader: &mut Reader<'_>, kind: u8) -> Result<Vec<Property>, Malformed> {
    let length = reader.variable_integer()? as usize;
    let mut field = reader.take(length)?;
    let mut properties: Vec<Property> = Vec::new();
    while !field.is_empty() {
        let property = Property::read(&mut field)?;
        let id = property.id();
        let allowed: &[u8] = match kind {
            2 => &[
                0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28,
                0x29, 0x2A,
            ],
            3 => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26],
            4..=7 | 9 | 11 => &[0x1F, 0x26],
            // Only clients may send a Session Expiry Interval (0x11) [MQTT-3.14.2-2].
            14 => &[0x1C, 0x1F, 0x26],
            15 => &[0x15, 0x16, 0x1F, 0x26],
            _ => malformed!("packet type {kind} has no properties"),
        };
        ensure!(allowed.contains(&id), "property {property:?} may not stand in packet type {kind}");
        let repeatable = id == 0x26 || id == 0x0B;
        ensure!(
            repeatable || properties.iter().all(|other| other.id() != id),
            "property {property:?} stands twice in packet type {kind}"
        );
        properties.push(property);
    }
    Ok(properties)
}
