//! MQTT 5 packets, written and parsed by hand: the load generator must cost as little as possible, and must not share a
//! codec (and its bugs) with any broker under test.

use crate::failure::Failure;

/// Packet type of CONNACK (MQTT 5, 2.1.2).
pub const CONNACK: u8 = 2;
/// Packet type of PUBLISH.
pub const PUBLISH: u8 = 3;
/// Packet type of PUBACK.
pub const PUBACK: u8 = 4;
/// Packet type of SUBACK.
pub const SUBACK: u8 = 9;
/// Packet type of UNSUBACK.
pub const UNSUBACK: u8 = 11;
/// Packet type of PINGRESP.
pub const PINGRESP: u8 = 13;
/// Packet type of DISCONNECT.
pub const DISCONNECTED: u8 = 14;

/// PINGREQ packet.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT packet with the reason code for success.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;

/// Length of the correlation data in every request, in bytes.
pub const CORRELATION: usize = 16;

/// Framing of a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// MQTT: one type byte, then the remaining length as a variable byte integer.
    Mqtt,
    /// Framing of the relay: a four-byte little-endian length, followed by that number of bytes.
    Length,
}

impl Framing {
    /// Returns the lengths of the header and of the whole frame; `None` if the header is incomplete.
    pub fn measure(self, bytes: &[u8]) -> Option<(usize, usize)> {
        match self {
            Self::Mqtt => {
                let mut remaining = 0;
                for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
                    remaining |= usize::from(byte & 0x7F) << (7 * index);
                    if byte & 0x80 == 0 {
                        return Some((index + 2, index + 2 + remaining));
                    }
                }
                None
            }
            Self::Length => {
                let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
                Some((4, 4 + u32::from_le_bytes(length) as usize))
            }
        }
    }
}

/// Complete frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Framing of the stream.
    pub framing: Framing,
    /// Length of the header, in bytes.
    pub header: usize,
    /// Bytes of the whole frame.
    pub bytes: &'a [u8],
}

/// Fields of a request that a responder needs.
#[expect(missing_docs, reason = "the fields have the names of the standard")]
pub struct Request<'a> {
    pub response_topic: &'a [u8],
    pub correlation: &'a [u8],
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Returns the packet type; a frame of the relay counts as PUBLISH.
    pub fn kind(self) -> u8 {
        match self.framing {
            Framing::Mqtt => self.bytes[0] >> 4,
            Framing::Length => PUBLISH,
        }
    }

    fn qos(self) -> u8 {
        match self.framing {
            Framing::Mqtt => (self.bytes[0] >> 1) & 3,
            Framing::Length => 0,
        }
    }

    /// Returns the bytes after the header.
    pub fn body(self) -> &'a [u8] {
        &self.bytes[self.header..]
    }

    /// Returns the reason code of a CONNACK, PUBACK or DISCONNECT; a missing one means success.
    pub fn reason(self) -> u8 {
        let index = match self.kind() {
            CONNACK => 1,
            PUBACK => 2,
            _ => 0,
        };
        self.body().get(index).copied().unwrap_or(0)
    }

    /// Adds the PUBACK for this PUBLISH to `out`; does nothing at QoS 0.
    pub fn acknowledge(self, out: &mut Vec<u8>) {
        if self.qos() == 0 {
            return;
        }
        let body = self.body();
        let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        out.extend_from_slice(&[0x40, 2, body[at], body[at + 1]]);
    }

    /// Parses the response topic, correlation data and payload of a PUBLISH.
    pub fn request(self) -> Option<Request<'a>> {
        let body = self.body();
        if self.framing == Framing::Length {
            return Some(Request {
                response_topic: &[],
                correlation: body.get(..CORRELATION)?,
                payload: &body[CORRELATION..],
            });
        }
        let (_topic, mut rest) = split_string(body)?;
        if self.qos() > 0 {
            rest = rest.get(2..)?;
        }
        let (length, rest) = split_variable(rest)?;
        let (mut properties, payload) = rest.split_at_checked(length)?;
        let mut request = Request { response_topic: &[], correlation: &[], payload };
        while let Some((&identifier, rest)) = properties.split_first() {
            properties = match identifier {
                RESPONSE_TOPIC | CORRELATION_DATA => {
                    let (value, rest) = split_string(rest)?;
                    if identifier == RESPONSE_TOPIC {
                        request.response_topic = value;
                    } else {
                        request.correlation = value;
                    }
                    rest
                }
                // Payload format indicator, message expiry interval, content type, subscription identifier, topic alias,
                // user property.
                0x01 => rest.get(1..)?,
                0x02 => rest.get(4..)?,
                0x03 => split_string(rest)?.1,
                0x0B => split_variable(rest)?.1,
                0x23 => rest.get(2..)?,
                0x26 => split_string(split_string(rest)?.1)?.1,
                _ => return None,
            };
        }
        Some(request)
    }
}

fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(2)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([length[0], length[1]])))
}

fn split_variable(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

/// PUBLISH packet to write.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the fields have the names of the standard")]
pub struct Publish<'a> {
    pub topic: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub packet_id: u16,
    pub response_topic: &'a [u8],
    pub correlation: &'a [u8],
    pub payload: &'a [u8],
}

impl Publish<'_> {
    /// Adds the packet to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let string = |value: &[u8]| if value.is_empty() { 0 } else { 3 + value.len() };
        let properties = string(self.response_topic) + string(self.correlation);
        let packet_id = if self.qos > 0 { 2 } else { 0 };
        let remaining = 2 + self.topic.len() + packet_id + variable_length(properties) + properties;
        out.push(0x30 | (self.qos << 1) | u8::from(self.retain));
        push_variable(out, remaining + self.payload.len());
        push_string(out, self.topic);
        if self.qos > 0 {
            out.extend_from_slice(&self.packet_id.to_be_bytes());
        }
        push_variable(out, properties);
        for (identifier, value) in
            [(RESPONSE_TOPIC, self.response_topic), (CORRELATION_DATA, self.correlation)]
        {
            if !value.is_empty() {
                out.push(identifier);
                push_string(out, value);
            }
        }
        out.extend_from_slice(self.payload);
    }
}

/// Adds a frame of the relay that carries the same data as a request.
pub fn relay_frame(out: &mut Vec<u8>, correlation: &[u8], payload: &[u8]) {
    let length = (correlation.len() + payload.len()) as u32;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(correlation);
    out.extend_from_slice(payload);
}

/// Returns a CONNECT packet with clean start, the maximum keep-alive (rumqttd refuses a CONNECT without one) and a
/// session that ends with the connection.
pub fn connect(client_id: &str) -> Vec<u8> {
    let mut out = vec![0x10];
    push_variable(&mut out, 10 + 1 + 2 + client_id.len());
    out.extend_from_slice(b"\x00\x04MQTT\x05\x02\xFF\xFF\x00");
    push_string(&mut out, client_id.as_bytes());
    out
}

/// Returns a SUBSCRIBE packet for all filters with the same QoS.
pub fn subscribe(packet_id: u16, filters: &[impl AsRef<str>], qos: u8) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    body.push(0);
    for filter in filters {
        push_string(&mut body, filter.as_ref().as_bytes());
        body.push(qos);
    }
    let mut out = vec![0x82];
    push_variable(&mut out, body.len());
    out.extend_from_slice(&body);
    out
}

/// Checks whether a SUBACK granted all of `filters`.
pub fn granted(suback: &[u8], filters: usize) -> Result<(), Failure> {
    let refused = suback.iter().rev().take(filters).find(|code| **code > 2);
    refused.map_or(Ok(()), |code| Err(Failure::new(format!("SUBSCRIBE was refused with {code:#04x}"))))
}

fn push_string(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

fn variable_length(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

fn push_variable(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(0x80 | (value & 0x7F) as u8);
        value >>= 7;
    }
    out.push(value as u8);
}
