//! Blocking MQTT client that reports why its connection has ended.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use rantai_testing::{
    Connack, Connect, Packet, Place, Publish, Socket, SocketError, Version, ack, frame, subscribe,
};

/// Maximum time of any step. No test measures time otherwise.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Reason why a connection cannot be used any more.
#[derive(Debug)]
pub(crate) enum ConnectionError {
    /// The other side closed or reset it, or it could not be opened.
    Closed(String),
    /// CONNACK, SUBACK or an acknowledgement with this error code.
    Refused(u8),
    /// DISCONNECT with this reason code.
    Disconnected(u8),
    /// The broker sent something that the standard forbids.
    Malformed(String),
    /// Nothing arrived in time; with what was waited for.
    Hung(&'static str),
}

impl fmt::Display for ConnectionError {
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

impl ConnectionError {
    /// Returns whether the connection was only closed, as when the broker is killed.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl From<SocketError> for ConnectionError {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Malformed(what) => Self::Malformed(what.to_string()),
            SocketError::Closed(cause) => Self::Closed(cause.to_string()),
            other => Self::Closed(other.to_string()),
        }
    }
}

/// Returns a CONNECT with a session that ends with its connection.
pub(crate) fn clean(version: Version, client_id: &str) -> Connect {
    Connect::new(version).id(client_id)
}

/// Connection after its CONNACK, without session state.
struct Link(Socket);

impl Link {
    /// Connects. Fails if the CONNACK has an error code.
    fn open(place: &Place, connect: &Connect) -> Result<Self, ConnectionError> {
        let socket = Socket::at(place, connect.version);
        let mut link = Self(socket.map_err(|cause| ConnectionError::Closed(cause.to_string()))?);
        link.0.send(&connect.encode())?;
        match link.receive_before(Instant::now() + STEP_TIMEOUT, "CONNACK")? {
            Packet::Connack(Connack { code: 0, .. }) => Ok(link),
            Packet::Connack(Connack { code, .. }) => Err(ConnectionError::Refused(code)),
            other => Err(ConnectionError::Malformed(format!("{other:?} before CONNACK"))),
        }
    }

    fn acknowledge(&mut self, kind: u8, id: u16) -> Result<(), ConnectionError> {
        Ok(self.0.send(&ack(kind, self.0.version(), id, 0))?)
    }

    /// Returns the next packet, including DISCONNECT. Fails at the deadline.
    fn receive_before(
        &mut self,
        deadline: Instant,
        waiting_for: &'static str,
    ) -> Result<Packet, ConnectionError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.0.receive(left)?.ok_or(ConnectionError::Hung(waiting_for))
    }
}

/// [`Link`] with the state of QoS 1 and 2 for the time of the connection, for clients that do not resume a session.
pub(crate) struct Client {
    link: Link,
    last_id: u16,
    inbox: VecDeque<Publish>,
    received: HashSet<u16>,
}

impl Client {
    pub(crate) fn open(place: &Place, connect: &Connect) -> Result<Self, ConnectionError> {
        let link = Link::open(place, connect)?;
        Ok(Self { link, last_id: 0, inbox: VecDeque::new(), received: HashSet::new() })
    }

    /// Subscribes. Fails unless every filter is granted exactly `qos`.
    pub(crate) fn subscribe(&mut self, filters: &[&str], qos: u8) -> Result<(), ConnectionError> {
        let id = self.fresh_id();
        let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (*filter, qos)).collect();
        self.link.0.send(&subscribe(self.link.0.version(), id, &filters))?;
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            match self.receive(deadline, "SUBACK")? {
                Packet::Suback(suback) if suback.id == id => {
                    let refused = suback.codes.iter().find(|&&code| code != qos);
                    return refused.map_or(Ok(()), |&code| Err(ConnectionError::Refused(code)));
                }
                Packet::Suback(_) => {
                    return Err(ConnectionError::Malformed("SUBACK for another packet id".into()));
                }
                _ => {}
            }
        }
    }

    /// Publishes and waits for all acknowledgements. Returns the first reason code.
    pub(crate) fn publish(&mut self, mut message: Publish) -> Result<u8, ConnectionError> {
        message.id = if message.qos > 0 { self.fresh_id() } else { 0 };
        self.link.0.send(&message.encode(self.link.0.version()))?;
        let reason = match message.qos {
            0 => return Ok(0),
            1 => self.acknowledged(4, message.id)?,
            _ => self.acknowledged(5, message.id)?,
        };
        if reason >= 0x80 {
            return Err(ConnectionError::Refused(reason));
        }
        if message.qos == 2 {
            self.link.acknowledge(6, message.id)?;
            self.acknowledged(7, message.id)?;
        }
        Ok(reason)
    }

    /// Returns the next message.
    pub(crate) fn message(&mut self) -> Result<Publish, ConnectionError> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(message);
            }
            self.receive(deadline, "a message")?;
        }
    }

    /// Returns the next message, if one arrives within `wait`.
    pub(crate) fn message_within(&mut self, wait: Duration) -> Result<Option<Publish>, ConnectionError> {
        if self.inbox.is_empty()
            && let Some(packet) = self.link.0.receive(wait)?
        {
            self.take(packet)?;
        }
        Ok(self.inbox.pop_front())
    }

    /// Sends DISCONNECT with reason code 0, then closes the connection.
    pub(crate) fn disconnect(mut self) -> Result<(), ConnectionError> {
        Ok(self.link.0.send(&frame(0xE0, &[]))?)
    }

    fn fresh_id(&mut self) -> u16 {
        self.last_id = self.last_id % u16::MAX + 1;
        self.last_id
    }

    /// Waits for the acknowledgement of a kind (PUBACK 4, PUBREC 5, PUBCOMP 7). Returns its reason code.
    fn acknowledged(&mut self, kind: u8, id: u16) -> Result<u8, ConnectionError> {
        let deadline = Instant::now() + STEP_TIMEOUT;
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
            return Err(ConnectionError::Malformed(format!(
                "packet type {came}, {ack:?}, instead of {kind} for {id}"
            )));
        }
    }

    fn receive(&mut self, deadline: Instant, waiting_for: &'static str) -> Result<Packet, ConnectionError> {
        let packet = self.link.receive_before(deadline, waiting_for)?;
        self.take(packet)
    }

    /// Answers packets that need an answer, and adds messages to the inbox.
    fn take(&mut self, packet: Packet) -> Result<Packet, ConnectionError> {
        match &packet {
            Packet::Publish(message) => {
                // At QoS 2, a packet id that is not released is the same message again (4.3.3).
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
            Packet::Disconnect { code, .. } => return Err(ConnectionError::Disconnected(*code)),
            _ => {}
        }
        Ok(packet)
    }
}
