//! Packets of a client, parsed strictly, and those of a server, encoded by hand: does not use any codec of the session.

use rantai_testing::{Property, encode_properties, frame, length_of_first};

/// Packet of a client.
#[derive(Debug)]
pub(super) enum FromClient {
    Connect(Connect),
    Publish(Publish),
    Puback {
        id: u16,
        code: u8,
    },
    /// SUBSCRIBE: filters with their Subscription Options.
    Subscribe {
        id: u16,
        filters: Vec<(String, u8)>,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    Pingreq,
    Disconnect {
        code: u8,
    },
}

#[derive(Debug)]
pub(super) struct Connect {
    pub(super) client_id: String,
    pub(super) is_clean_start: bool,
    pub(super) keep_alive: u16,
    pub(super) session_expiry: u32,
    pub(super) max_packet: u32,
}

#[derive(Debug)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u8,
    pub(super) is_retained: bool,
    pub(super) is_repeated: bool,
    /// Packet id; 0 at QoS 0.
    pub(super) id: u16,
}

/// Removes and returns the first packet, if it has arrived completely.
pub(super) fn take(bytes: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    let Some(length) = length_of_first(bytes).map_err(|error| error.to_string())? else { return Ok(None) };
    Ok((bytes.len() >= length).then(|| bytes.drain(..length).collect()))
}

/// Returns the size of a PUBLISH without properties, in bytes.
pub(super) fn publish_size(topic: usize, payload: usize, qos: u8) -> usize {
    let length = 2 + topic + if qos > 0 { 2 } else { 0 } + 1 + payload;
    1 + rantai_testing::variable_integer(length as u32).len() + length
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let Some((head, rest)) = self.0.split_at_checked(length) else {
            return Err(format!("a field of {length} bytes, {} are left", self.0.len()));
        };
        self.0 = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn long(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.short()?.into();
        String::from_utf8(self.take(length)?.to_vec()).map_err(|error| error.to_string())
    }

    fn packet_id(&mut self) -> Result<u16, String> {
        match self.short()? {
            0 => Err("packet id 0".to_owned()),
            id => Ok(id),
        }
    }

    /// Reads the property field; its length takes one byte in all packets of the simulation.
    fn properties(&mut self) -> Result<Fields<'a>, String> {
        let length = self.byte()?;
        if length > 127 {
            return Err("more properties than the simulation sends".to_owned());
        }
        self.take(length.into()).map(Fields)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Parses one whole packet.
pub(super) fn read(bytes: &[u8]) -> Result<FromClient, String> {
    let header = bytes.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 2;
    let mut fields = Fields(&bytes[header..]);
    let packet = match bytes[0] {
        0x10 => FromClient::Connect(connect(&mut fields)?),
        first @ 0x30..=0x3F => FromClient::Publish(publish(first, &mut fields)?),
        0x40 => {
            let id = fields.packet_id()?;
            FromClient::Puback { id, code: if fields.is_empty() { 0 } else { fields.byte()? } }
        }
        0x82 => {
            let id = fields.packet_id()?;
            if !fields.properties()?.is_empty() {
                return Err("SUBSCRIBE has properties".to_owned());
            }
            let mut filters = Vec::new();
            while !fields.is_empty() {
                filters.push((fields.text()?, fields.byte()?));
            }
            FromClient::Subscribe { id, filters }
        }
        0xA2 => {
            let id = fields.packet_id()?;
            if !fields.properties()?.is_empty() {
                return Err("UNSUBSCRIBE has properties".to_owned());
            }
            let mut filters = Vec::new();
            while !fields.is_empty() {
                filters.push(fields.text()?);
            }
            FromClient::Unsubscribe { id, filters }
        }
        0xC0 => FromClient::Pingreq,
        0xE0 => FromClient::Disconnect { code: if fields.is_empty() { 0 } else { fields.byte()? } },
        first => return Err(format!("a client never sends {first:#04x}")),
    };
    if !fields.is_empty() {
        return Err(format!("{} bytes are left over behind {packet:?}", fields.0.len()));
    }
    let is_empty = match &packet {
        FromClient::Subscribe { filters, .. } => filters.is_empty(),
        FromClient::Unsubscribe { filters, .. } => filters.is_empty(),
        _ => false,
    };
    if is_empty { Err(format!("{packet:?} has no filters")) } else { Ok(packet) }
}

fn connect(fields: &mut Fields<'_>) -> Result<Connect, String> {
    let (name, level, flags) = (fields.text()?, fields.byte()?, fields.byte()?);
    if name != "MQTT" || level != 5 || flags & !2 != 0 {
        return Err(format!("CONNECT of {name} {level} with flags {flags:#04x}"));
    }
    let keep_alive = fields.short()?;
    let mut properties = fields.properties()?;
    let (mut session_expiry, mut max_packet) = (0, u32::MAX);
    while !properties.is_empty() {
        match properties.byte()? {
            0x11 => session_expiry = properties.long()?,
            0x27 => max_packet = properties.long()?,
            other => return Err(format!("property {other:#04x} in CONNECT")),
        }
    }
    let client_id = fields.text()?;
    Ok(Connect { client_id, is_clean_start: flags & 2 != 0, keep_alive, session_expiry, max_packet })
}

fn publish(first: u8, fields: &mut Fields<'_>) -> Result<Publish, String> {
    let (is_repeated, qos, is_retained) = (first & 8 != 0, first >> 1 & 3, first & 1 != 0);
    if qos > 1 || (qos == 0 && is_repeated) {
        return Err(format!("PUBLISH with {first:#04x}"));
    }
    let topic = fields.text()?;
    let id = if qos > 0 { fields.packet_id()? } else { 0 };
    if !fields.properties()?.is_empty() {
        return Err("PUBLISH has properties that nobody gave it".to_owned());
    }
    let payload = fields.take(fields.0.len())?.to_vec();
    Ok(Publish { topic, payload, qos, is_retained, is_repeated, id })
}

pub(super) fn connack(is_session_present: bool, code: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![u8::from(is_session_present), code];
    body.extend(encode_properties(properties));
    frame(0x20, &body)
}

/// Encodes a PUBACK, in the shortest form if it has no Reason String.
pub(super) fn puback(id: u16, code: u8, reason: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if code != 0 || !reason.is_empty() {
        body.push(code);
    }
    if !reason.is_empty() {
        body.extend(encode_properties(&[Property::ReasonString(reason.to_owned())]));
    }
    frame(0x40, &body)
}

/// Encodes a SUBACK (0x90) or UNSUBACK (0xB0).
pub(super) fn suback(first: u8, id: u16, codes: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.push(0);
    body.extend(codes);
    frame(first, &body)
}

/// Encodes a DISCONNECT with its property length, or without, as is allowed (MQTT 5, 3.14.2.2.1).
pub(super) fn disconnect(code: u8, is_short: bool) -> Vec<u8> {
    match (code, is_short) {
        (0, true) => vec![0xE0, 0],
        (_, true) => vec![0xE0, 1, code],
        _ => vec![0xE0, 2, code, 0],
    }
}
