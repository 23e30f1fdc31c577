//! A blocking MQTT client of hand-written bytes: no library's mistake can be shared with the broker.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as hung. No test measures time otherwise.
pub(crate) const HUNG: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

/// Why a connection is of no more use.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The other side closed or reset it, or it could not be opened.
    Closed(String),
    /// CONNACK, SUBACK or an acknowledgement with this reason.
    Refused(u8),
    /// DISCONNECT with this reason.
    Disconnected(u8),
    /// The broker sent what the standard does not allow.
    Malformed(String),
    /// Nothing came in time.
    Hung(&'static str),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(cause) => write!(f, "cut off: {cause}"),
            Self::Refused(reason) => write!(f, "refused with {reason:#04x}"),
            Self::Disconnected(reason) => write!(f, "disconnected with {reason:#04x}"),
            Self::Malformed(what) => write!(f, "the broker sent {what}"),
            Self::Hung(waiting_for) => write!(f, "hung waiting for {waiting_for}"),
        }
    }
}

impl Broken {
    /// Whether the connection merely ended, as it does when the broker is killed.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

/// A CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) clean: bool,
    /// Session expiry in seconds; MQTT 5 only.
    pub(crate) expiry: u32,
    /// MQTT 5 only.
    pub(crate) receive_maximum: Option<u16>,
}

impl Connect {
    /// With a session that ends with its connection.
    pub(crate) fn clean(version: Version, client_id: impl Into<String>) -> Self {
        Self { version, client_id: client_id.into(), clean: true, expiry: 0, receive_maximum: None }
    }

    /// With a session that outlives its connections.
    pub(crate) fn persistent(version: Version, client_id: impl Into<String>) -> Self {
        Self { clean: false, expiry: 3_600, ..Self::clean(version, client_id) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T'];
        body.push(if self.version == Version::V5 { 5 } else { 4 });
        body.push(if self.clean { 2 } else { 0 });
        body.extend([0, 0]);
        if self.version == Version::V5 {
            let mut properties = Vec::new();
            if self.expiry > 0 {
                properties.push(0x11);
                properties.extend(self.expiry.to_be_bytes());
            }
            if let Some(maximum) = self.receive_maximum {
                properties.push(0x21);
                properties.extend(maximum.to_be_bytes());
            }
            put_length(&mut body, properties.len());
            body.extend(properties);
        }
        put_text(&mut body, &self.client_id);
        frame(0x10, &body)
    }
}

/// A PUBLISH, sent or received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) duplicate: bool,
    /// Not encoded at QoS 0.
    pub(crate) packet_id: u16,
    /// MQTT 5 only.
    pub(crate) response_topic: Option<String>,
    /// MQTT 5 only.
    pub(crate) correlation: Option<Vec<u8>>,
}

impl Publish {
    pub(crate) fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>, qos: u8) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos, ..Self::default() }
    }

    pub(crate) fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, &self.topic);
        if self.qos > 0 {
            body.extend(self.packet_id.to_be_bytes());
        }
        if version == Version::V5 {
            let mut properties = Vec::new();
            if let Some(topic) = &self.response_topic {
                properties.push(0x08);
                put_text(&mut properties, topic);
            }
            if let Some(data) = &self.correlation {
                properties.push(0x09);
                put_bytes(&mut properties, data);
            }
            put_length(&mut body, properties.len());
            body.extend(properties);
        }
        body.extend(&self.payload);
        let flags = u8::from(self.duplicate) << 3 | self.qos << 1 | u8::from(self.retain);
        frame(0x30 | flags, &body)
    }
}

/// The four answers that carry nothing but a packet id and a reason, by their first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Answer {
    Puback = 0x40,
    Pubrec = 0x50,
    Pubrel = 0x62,
    Pubcomp = 0x70,
}

impl Answer {
    pub(crate) fn encode(self, packet_id: u16) -> Vec<u8> {
        frame(self as u8, &packet_id.to_be_bytes())
    }
}

/// What a broker may send.
#[derive(Debug)]
pub(crate) enum Packet {
    Connack { session_present: bool, reason: u8 },
    Publish(Publish),
    Answer(Answer, u16, u8),
    Suback(u16, Vec<u8>),
    Unsuback,
    Pingresp,
    Disconnect(u8),
}

/// One connection: frames out, packets in, no state of a session.
pub(crate) struct Link {
    stream: TcpStream,
    version: Version,
    unread: Vec<u8>,
}

impl Link {
    /// Connects and returns whether the broker had a session. Fails on any reason but success.
    pub(crate) fn open(address: SocketAddr, connect: &Connect) -> Result<(Self, bool), Broken> {
        let stream = TcpStream::connect(address).map_err(|error| closed(&error))?;
        stream.set_nodelay(true).map_err(|error| closed(&error))?;
        stream.set_write_timeout(Some(HUNG)).map_err(|error| closed(&error))?;
        let mut link = Self { stream, version: connect.version, unread: Vec::new() };
        link.send(&connect.encode())?;
        match link.receive_before(Instant::now() + HUNG, "CONNACK")? {
            Packet::Connack { session_present, reason: 0 } => Ok((link, session_present)),
            Packet::Connack { reason, .. } => Err(Broken::Refused(reason)),
            other => Err(Broken::Malformed(format!("{other:?} before CONNACK"))),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(bytes).map_err(|error| closed(&error))
    }

    /// The next packet, or `None` if none is complete within `wait`. A DISCONNECT is a packet like any other.
    pub(crate) fn receive(&mut self, wait: Duration) -> Result<Option<Packet>, Broken> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(packet) = self.take_packet()? {
                return Ok(Some(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_micros(100));
            self.stream.set_read_timeout(Some(left)).map_err(|error| closed(&error))?;
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Broken::Closed("end of stream".into())),
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(closed(&error)),
            }
        }
    }

    /// As [`receive`](Self::receive), but running out of time is an error.
    pub(crate) fn receive_before(
        &mut self,
        deadline: Instant,
        waiting_for: &'static str,
    ) -> Result<Packet, Broken> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.receive(left)?.ok_or(Broken::Hung(waiting_for))
    }

    /// DISCONNECT with success, then closes.
    pub(crate) fn disconnect(mut self) -> Result<(), Broken> {
        self.send(&frame(0xE0, &[]))
    }

    fn take_packet(&mut self) -> Result<Option<Packet>, Broken> {
        let Some((header, length)) = frame_length(&self.unread)? else {
            return Ok(None);
        };
        if self.unread.len() < header + length {
            return Ok(None);
        }
        let bytes: Vec<u8> = self.unread.drain(..header + length).collect();
        decode(self.version, bytes[0], &bytes[header..])
            .map(Some)
            .ok_or_else(|| Broken::Malformed(format!("the malformed packet {bytes:02x?}")))
    }
}

/// A [`Link`] that keeps the manners of QoS 1 and 2 for as long as it lasts: for clients without a session to resume.
pub(crate) struct Client {
    link: Link,
    last_id: u16,
    inbox: VecDeque<Publish>,
    received: HashMap<u16, Publish>,
}

impl Client {
    pub(crate) fn open(address: SocketAddr, connect: &Connect) -> Result<Self, Broken> {
        let (link, _) = Link::open(address, connect)?;
        Ok(Self { link, last_id: 0, inbox: VecDeque::new(), received: HashMap::new() })
    }

    /// Subscribes; every filter must be granted exactly `qos`.
    pub(crate) fn subscribe(&mut self, filters: &[&str], qos: u8) -> Result<(), Broken> {
        let id = self.fresh_id();
        self.link.send(&subscribe(self.link.version, id, filters, qos))?;
        let deadline = Instant::now() + HUNG;
        loop {
            match self.receive(deadline, "SUBACK")? {
                Packet::Suback(acknowledged, reasons) if acknowledged == id => {
                    let refused = reasons.iter().find(|&&reason| reason != qos);
                    return refused.map_or(Ok(()), |&reason| Err(Broken::Refused(reason)));
                }
                Packet::Suback(..) => {
                    return Err(Broken::Malformed("SUBACK for another packet id".into()));
                }
                _ => {}
            }
        }
    }

    /// Publishes and waits until the broker has acknowledged it as far as its QoS goes; returns the first reason.
    pub(crate) fn publish(&mut self, mut message: Publish) -> Result<u8, Broken> {
        message.packet_id = if message.qos > 0 { self.fresh_id() } else { 0 };
        self.link.send(&message.encode(self.link.version))?;
        let first = match message.qos {
            0 => return Ok(0),
            1 => Answer::Puback,
            _ => Answer::Pubrec,
        };
        let reason = self.await_answer(first, message.packet_id)?;
        if reason >= 0x80 {
            return Err(Broken::Refused(reason));
        }
        if message.qos == 2 {
            self.link.send(&Answer::Pubrel.encode(message.packet_id))?;
            self.await_answer(Answer::Pubcomp, message.packet_id)?;
        }
        Ok(reason)
    }

    /// The next message, whatever it is.
    pub(crate) fn message(&mut self) -> Result<Publish, Broken> {
        let deadline = Instant::now() + HUNG;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(message);
            }
            self.receive(deadline, "a message")?;
        }
    }

    /// The next message within `wait`, if any.
    pub(crate) fn message_within(&mut self, wait: Duration) -> Result<Option<Publish>, Broken> {
        if self.inbox.is_empty()
            && let Some(packet) = self.link.receive(wait)?
        {
            self.take(packet)?;
        }
        Ok(self.inbox.pop_front())
    }

    pub(crate) fn disconnect(self) -> Result<(), Broken> {
        self.link.disconnect()
    }

    fn fresh_id(&mut self) -> u16 {
        self.last_id = self.last_id % u16::MAX + 1;
        self.last_id
    }

    fn await_answer(&mut self, answer: Answer, id: u16) -> Result<u8, Broken> {
        let deadline = Instant::now() + HUNG;
        loop {
            match self.receive(deadline, "an acknowledgement")? {
                Packet::Answer(Answer::Pubrel, ..) => {}
                Packet::Answer(kind, packet_id, reason) if kind == answer && packet_id == id => {
                    return Ok(reason);
                }
                other @ Packet::Answer(..) => {
                    return Err(Broken::Malformed(format!("{other:?} instead of {answer:?} for {id}")));
                }
                _ => {}
            }
        }
    }

    fn receive(&mut self, deadline: Instant, waiting_for: &'static str) -> Result<Packet, Broken> {
        let packet = self.link.receive_before(deadline, waiting_for)?;
        self.take(packet)
    }

    /// Answers what asks for an answer; publishes go to the inbox.
    fn take(&mut self, packet: Packet) -> Result<Packet, Broken> {
        match &packet {
            Packet::Publish(message) => {
                let id = message.packet_id;
                match message.qos {
                    0 => self.inbox.push_back(message.clone()),
                    1 => {
                        self.inbox.push_back(message.clone());
                        self.link.send(&Answer::Puback.encode(id))?;
                    }
                    _ => {
                        if self.received.insert(id, message.clone()).is_none() {
                            self.inbox.push_back(message.clone());
                        }
                        self.link.send(&Answer::Pubrec.encode(id))?;
                    }
                }
            }
            Packet::Answer(Answer::Pubrel, id, _) => {
                self.received.remove(id);
                self.link.send(&Answer::Pubcomp.encode(*id))?;
            }
            Packet::Disconnect(reason) => return Err(Broken::Disconnected(*reason)),
            _ => {}
        }
        Ok(packet)
    }
}

/// A SUBSCRIBE of all `filters` at `qos`.
pub(crate) fn subscribe(version: Version, packet_id: u16, filters: &[&str], qos: u8) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        put_text(&mut body, filter);
        body.push(qos);
    }
    frame(0x82, &body)
}

/// Fixed header and body.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_length(&mut bytes, body.len());
    bytes.extend(body);
    bytes
}

/// A variable byte integer.
pub(crate) fn put_length(bytes: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

pub(crate) fn put_bytes(bytes: &mut Vec<u8>, data: &[u8]) {
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
}

pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_bytes(bytes, text.as_bytes());
}

fn closed(error: &std::io::Error) -> Broken {
    Broken::Closed(error.to_string())
}

/// Bytes of the fixed header and of the body, once the header is there.
fn frame_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((index + 2, length)));
        }
    }
    if bytes.len() >= 5 { Err(Broken::Malformed("an endless remaining length".into())) } else { Ok(None) }
}

/// What a frame says, or `None` if a server may not say so.
fn decode(version: Version, first: u8, body: &[u8]) -> Option<Packet> {
    let v5 = version == Version::V5;
    let mut reader = Reader(body);
    let packet = match first {
        0x20 => {
            let flags = reader.byte()?;
            let reason = reader.byte()?;
            if v5 {
                reader.properties()?;
            }
            (flags <= 1).then_some(Packet::Connack { session_present: flags == 1, reason })?
        }
        0x30..=0x3F => {
            let mut message = Publish {
                qos: first >> 1 & 3,
                retain: first & 1 == 1,
                duplicate: first & 8 == 8,
                topic: reader.text()?,
                ..Publish::default()
            };
            if message.qos > 0 {
                message.packet_id = reader.packet_id()?;
            }
            if v5 {
                for (property, value) in reader.properties()? {
                    match property {
                        0x08 => message.response_topic = Some(String::from_utf8(value).ok()?),
                        0x09 => message.correlation = Some(value),
                        _ => {}
                    }
                }
            }
            message.payload = std::mem::take(&mut reader.0).to_vec();
            let legal = message.qos < 3
                && (message.qos > 0 || !message.duplicate)
                && !message.topic.is_empty()
                && !message.topic.contains(['+', '#', '\0']);
            legal.then_some(Packet::Publish(message))?
        }
        0x40 | 0x50 | 0x62 | 0x70 => {
            let kind = match first {
                0x40 => Answer::Puback,
                0x50 => Answer::Pubrec,
                0x62 => Answer::Pubrel,
                _ => Answer::Pubcomp,
            };
            let id = reader.packet_id()?;
            let reason = if v5 && !reader.0.is_empty() { reader.byte()? } else { 0 };
            if v5 && !reader.0.is_empty() {
                reader.properties()?;
            }
            Packet::Answer(kind, id, reason)
        }
        0x90 => {
            let id = reader.packet_id()?;
            if v5 {
                reader.properties()?;
            }
            Packet::Suback(id, std::mem::take(&mut reader.0).to_vec())
        }
        0xB0 => {
            reader.packet_id()?;
            if v5 {
                reader.properties()?;
                reader.0 = &[];
            }
            Packet::Unsuback
        }
        0xD0 => Packet::Pingresp,
        0xE0 if v5 => {
            let reason = if reader.0.is_empty() { 0 } else { reader.byte()? };
            if !reader.0.is_empty() {
                reader.properties()?;
            }
            Packet::Disconnect(reason)
        }
        _ => return None,
    };
    reader.0.is_empty().then_some(packet)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn packet_id(&mut self) -> Option<u16> {
        self.number().filter(|&id| id > 0)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.number()?;
        self.take(length.into())
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for index in 0..4 {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return Some(length);
            }
        }
        None
    }

    /// Property ids with their raw values (MQTT 5, 2.2.2.2).
    fn properties(&mut self) -> Option<Vec<(u8, Vec<u8>)>> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        let mut reader = Reader(&bytes);
        let mut properties = Vec::new();
        while !reader.0.is_empty() {
            let id = reader.byte()?;
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => reader.take(1)?,
                0x13 | 0x21 | 0x22 | 0x23 => reader.take(2)?,
                0x02 | 0x11 | 0x18 | 0x27 => reader.take(4)?,
                0x0B => reader.length()?.to_be_bytes().to_vec(),
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => reader.bytes()?,
                0x26 => {
                    let mut pair = reader.bytes()?;
                    pair.extend(reader.bytes()?);
                    pair
                }
                _ => return None,
            };
            properties.push((id, value));
        }
        Some(properties)
    }
}
