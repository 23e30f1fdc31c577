//! A blocking MQTT client that says why it is of no more use.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use rantai_testing::{
    Connack, Connect, Packet, Place, Publish, Socket, SocketError, Version, ack, frame, subscribe,
};

/// How long anything may take before it counts as hung. No test measures time otherwise.
pub(crate) const HUNG: Duration = Duration::from_secs(30);

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

impl From<SocketError> for Broken {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Malformed(what) => Self::Malformed(what.to_string()),
            SocketError::Closed(cause) => Self::Closed(cause.to_string()),
            other => Self::Closed(other.to_string()),
        }
    }
}

/// CONNECT for a session that ends with its connection.
pub(crate) fn clean(version: Version, client_id: &str) -> Connect {
    Connect::new(version).id(client_id)
}

/// A connection past its CONNACK, without any state of a session.
struct Link(Socket);

impl Link {
    /// Connects. Fails on any reason but success.
    fn open(place: &Place, connect: &Connect) -> Result<Self, Broken> {
        let socket = Socket::at(place, connect.version);
        let mut link = Self(socket.map_err(|cause| Broken::Closed(cause.to_string()))?);
        link.0.send(&connect.encode())?;
        match link.receive_before(Instant::now() + HUNG, "CONNACK")? {
            Packet::Connack(Connack { code: 0, .. }) => Ok(link),
            Packet::Connack(Connack { code, .. }) => Err(Broken::Refused(code)),
            other => Err(Broken::Malformed(format!("{other:?} before CONNACK"))),
        }
    }

    fn acknowledge(&mut self, kind: u8, id: u16) -> Result<(), Broken> {
        Ok(self.0.send(&ack(kind, self.0.version(), id, 0))?)
    }

    /// The next packet; a DISCONNECT is one like any other, and running out of time is an error.
    fn receive_before(&mut self, deadline: Instant, waiting_for: &'static str) -> Result<Packet, Broken> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.0.receive(left)?.ok_or(Broken::Hung(waiting_for))
    }
}

/// A [`Link`] that keeps the manners of QoS 1 and 2 for as long as it lasts: for clients without a session to resume.
pub(crate) struct Client {
    link: Link,
    last_id: u16,
    inbox: VecDeque<Publish>,
    received: HashSet<u16>,
}

impl Client {
    pub(crate) fn open(place: &Place, connect: &Connect) -> Result<Self, Broken> {
        let link = Link::open(place, connect)?;
        Ok(Self { link, last_id: 0, inbox: VecDeque::new(), received: HashSet::new() })
    }

    /// Subscribes; every filter must be granted exactly `qos`.
    pub(crate) fn subscribe(&mut self, filters: &[&str], qos: u8) -> Result<(), Broken> {
        let id = self.fresh_id();
        let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (*filter, qos)).collect();
        self.link.0.send(&subscribe(self.link.0.version(), id, &filters))?;
        let deadline = Instant::now() + HUNG;
        loop {
            match self.receive(deadline, "SUBACK")? {
                Packet::Suback(suback) if suback.id == id => {
                    let refused = suback.codes.iter().find(|&&code| code != qos);
                    return refused.map_or(Ok(()), |&code| Err(Broken::Refused(code)));
                }
                Packet::Suback(_) => {
                    return Err(Broken::Malformed("SUBACK for another packet id".into()));
                }
                _ => {}
            }
        }
    }

    /// Publishes and waits until the broker has acknowledged it as far as its QoS goes; returns the first reason.
    pub(crate) fn publish(&mut self, mut message: Publish) -> Result<u8, Broken> {
        message.id = if message.qos > 0 { self.fresh_id() } else { 0 };
        self.link.0.send(&message.encode(self.link.0.version()))?;
        let reason = match message.qos {
            0 => return Ok(0),
            1 => self.acknowledged(4, message.id)?,
            _ => self.acknowledged(5, message.id)?,
        };
        if reason >= 0x80 {
            return Err(Broken::Refused(reason));
        }
        if message.qos == 2 {
            self.link.acknowledge(6, message.id)?;
            self.acknowledged(7, message.id)?;
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
            && let Some(packet) = self.link.0.receive(wait)?
        {
            self.take(packet)?;
        }
        Ok(self.inbox.pop_front())
    }

    /// DISCONNECT with success, then closes.
    pub(crate) fn disconnect(mut self) -> Result<(), Broken> {
        Ok(self.link.0.send(&frame(0xE0, &[]))?)
    }

    fn fresh_id(&mut self) -> u16 {
        self.last_id = self.last_id % u16::MAX + 1;
        self.last_id
    }

    /// Waits for the acknowledgement of a kind (PUBACK 4, PUBREC 5, PUBCOMP 7), and returns its reason.
    fn acknowledged(&mut self, kind: u8, id: u16) -> Result<u8, Broken> {
        let deadline = Instant::now() + HUNG;
        loop {
            let (came, ack) = match self.receive(deadline, "an acknowledgement")? {
                Packet::Puback(ack) => (4, ack),
                Packet::Pubrec(ack) => (5, ack),
                Packet::Pubcomp(ack) => (7, ack),
                _ => continue,
            };
            if came == kind && ack.id == id {
                return Ok(ack.code);
            }
            return Err(Broken::Malformed(format!(
                "packet type {came}, {ack:?}, instead of {kind} for {id}"
            )));
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
                // With QoS 2 a packet id that is held is the same message again (4.3.3).
                if message.qos < 2 || self.received.insert(message.id) {
                    self.inbox.push_back(message.clone());
                }
                match message.qos {
                    0 => {}
                    1 => self.link.acknowledge(4, message.id)?,
                    _ => self.link.acknowledge(5, message.id)?,
                }
            }
            Packet::Pubrel(pubrel) => {
                self.received.remove(&pubrel.id);
                self.link.acknowledge(7, pubrel.id)?;
            }
            Packet::Disconnect { code, .. } => return Err(Broken::Disconnected(*code)),
            _ => {}
        }
        Ok(packet)
    }
}
