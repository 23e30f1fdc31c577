//! Connection of a user: its packets, and their acknowledgements.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rantai_testing::{Connack, Connect, Packet, Publish, Socket, Version, ack, subscribe};

use crate::site::{Site, name, password};

/// Time limit of each answer of the broker.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connection that queues messages while it waits for another packet.
pub(crate) struct Link {
    socket: Socket,
    next_id: u16,
    /// Messages that arrived while it waited for another packet.
    pub(crate) received: VecDeque<Publish>,
}

/// Creates the CONNECT of a user.
pub(crate) fn connect(user: usize, client_id: &str) -> Connect {
    Connect::new(Version::V5).id(client_id).user(&name(user)).password(&password(user))
}

impl Link {
    /// Connects; returns the CONNACK too.
    pub(crate) fn open(site: &Site, connect: &Connect) -> (Self, Connack) {
        let mut socket = Socket::at(&site.place, Version::V5).expect("the broker listens");
        socket.send(&connect.encode()).expect("CONNECT is sent");
        let packet = socket.receive(PATIENCE).expect("an answer to CONNECT").expect("CONNACK in time");
        let Packet::Connack(connack) = packet else { panic!("{packet:?} is no CONNACK") };
        (Self { socket, next_id: 0, received: VecDeque::new() }, connack)
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id % 60_000 + 1;
        self.next_id
    }

    /// Subscribes to a filter; returns its reason code.
    pub(crate) fn subscribe(&mut self, filter: &str) -> u8 {
        let id = self.id();
        self.socket.send(&subscribe(Version::V5, id, &[(filter, 1)])).expect("SUBSCRIBE is sent");
        self.wait(|packet| match packet {
            Packet::Suback(suback) if suback.id == id => Some(suback.codes[0]),
            _ => None,
        })
    }

    /// Publishes a message at QoS 1; returns its reason code.
    pub(crate) fn publish(&mut self, message: Publish) -> u8 {
        let id = self.id();
        self.socket.send(&message.qos(1).id(id).encode(Version::V5)).expect("PUBLISH is sent");
        self.wait(|packet| match packet {
            Packet::Puback(puback) if puback.id == id => Some(puback.code),
            _ => None,
        })
    }

    fn wait<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let packet = self.receive(deadline - Instant::now()).expect("an answer in time");
            if let Some(found) = wanted(&packet) {
                return found;
            }
            self.keep(packet);
        }
    }

    fn receive(&mut self, wait: Duration) -> Option<Packet> {
        let packet = self.socket.receive(wait).expect("the connection lives");
        if let Some(Packet::Publish(message)) = &packet
            && message.qos == 1
        {
            self.socket.send(&ack(4, Version::V5, message.id, 0)).expect("PUBACK is sent");
        }
        packet
    }

    fn keep(&mut self, packet: Packet) {
        match packet {
            Packet::Publish(message) => self.received.push_back(message),
            other => panic!("{other:?} was not expected"),
        }
    }

    /// Returns the next message, if one arrives within this time.
    pub(crate) fn message(&mut self, wait: Duration) -> Option<Publish> {
        if self.received.is_empty()
            && let Some(packet) = self.receive(wait)
        {
            self.keep(packet);
        }
        self.received.pop_front()
    }
}
