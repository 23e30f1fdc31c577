//! Client connection of a test. Every wait has a time limit.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use rantai_testing::{
    Ack, Connack, Connect, Origin, Packet, Place, Property, Publish, Stream, Suback, Version, ack,
    disconnect, length_of_first, pingreq, read_packet, subscribe_with, unsubscribe,
};

use super::{is_external, unique_topic};

/// Time limit of each wait. Far longer than a broker needs, so that a slow machine fails no test.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Client of the broker under test.
pub(crate) struct Client {
    stream: Stream,
    read: Vec<u8>,
    version: Version,
    /// Messages that arrived while the client waited for an acknowledgement.
    stash: VecDeque<Publish>,
    /// Client id in CONNECT, or the assigned one.
    pub(crate) id: String,
    /// Answer to CONNECT.
    pub(crate) connack: Option<Connack>,
    aliases: HashMap<u16, String>,
    alias_maximum: u16,
    packet_maximum: usize,
    last_id: u16,
}

impl Client {
    /// Opens a connection, after the handshakes of its transport, without sending CONNECT.
    pub(crate) async fn open(place: impl Into<Place>, version: Version) -> Self {
        Self::open_by(place.into(), Origin::default(), version).await
    }

    /// Opens a connection from another address of this machine, such as 127.0.0.2.
    pub(crate) async fn open_from(from: IpAddr, place: impl Into<Place>, version: Version) -> Self {
        Self::open_by(place.into(), Origin { from: Some(from), ..Origin::default() }, version).await
    }

    /// Opens a connection with a small receive buffer.
    pub(crate) async fn open_narrow(place: impl Into<Place>, version: Version) -> Self {
        let origin = Origin { receive_buffer: Some(4 << 10), ..Origin::default() };
        Self::open_by(place.into(), origin, version).await
    }

    async fn open_by(place: Place, origin: Origin, version: Version) -> Self {
        let stream = timeout(ANSWER_TIMEOUT, place.open_from(origin))
            .await
            .unwrap_or_else(|_| panic!("{place} takes no connection within {ANSWER_TIMEOUT:?}"))
            .unwrap_or_else(|error| panic!("cannot connect to {place}: {error}"));
        Self {
            stream,
            read: Vec::new(),
            version,
            stash: VecDeque::new(),
            id: String::new(),
            connack: None,
            aliases: HashMap::new(),
            alias_maximum: 0,
            packet_maximum: usize::MAX,
            last_id: 0,
        }
    }

    /// Enables Nagle's algorithm, as most MQTT libraries leave it.
    pub(crate) fn leave_nagle_on(&self) {
        self.stream.leave_nagle_on().expect("it is connected");
    }

    /// Returns the version of the protocol.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Sends CONNECT and returns the CONNACK, which must be the first packet.
    pub(crate) async fn present(&mut self, connect: Connect) -> Connack {
        for property in &connect.properties {
            match property {
                Property::TopicAliasMaximum(maximum) => self.alias_maximum = *maximum,
                Property::MaximumPacketSize(maximum) => self.packet_maximum = *maximum as usize,
                _ => {}
            }
        }
        self.send(&connect.encode()).await;
        let connack = match self.next().await {
            Packet::Connack(connack) => connack,
            other => panic!("the first packet is not CONNACK but {other:?}"),
        };
        self.id = connect.id;
        for property in &connack.properties {
            if let Property::AssignedClientId(id) = property {
                self.id.clone_from(id);
            }
        }
        self.connack = Some(connack.clone());
        connack
    }

    /// Writes bytes unchanged. Does not fail if the broker has closed the connection: a client that sends invalid
    /// bytes may be disconnected before their end.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(ANSWER_TIMEOUT, sent)
            .await
            .unwrap_or_else(|_| panic!("the broker read nothing for {ANSWER_TIMEOUT:?}"))
            .ok();
    }

    /// Returns the next packet. Panics at the end of the connection.
    pub(crate) async fn next(&mut self) -> Packet {
        self.next_or_end()
            .await
            .unwrap_or_else(|| panic!("the broker closed the connection of {:?}", self.id))
    }

    /// Returns the next packet; `None` at the end of the connection.
    pub(crate) async fn next_or_end(&mut self) -> Option<Packet> {
        let packet = self.next_or_end_cut().await;
        assert!(packet.is_some() || self.read.is_empty(), "the connection ended inside a packet");
        packet
    }

    /// Same as [`next_or_end`](Self::next_or_end), for a connection that may end inside a packet.
    pub(crate) async fn next_or_end_cut(&mut self) -> Option<Packet> {
        loop {
            if let Some(length) = length_of_first(&self.read).unwrap_or_else(|wrong| panic!("{wrong}"))
                && self.read.len() >= length
            {
                assert!(
                    length <= self.packet_maximum,
                    "a packet of {length} bytes is over the Maximum Packet Size of {}",
                    self.packet_maximum
                );
                let bytes: Vec<u8> = self.read.drain(..length).collect();
                let packet = read_packet(self.version, &bytes).unwrap_or_else(|wrong| panic!("{wrong}"));
                return Some(self.resolve_alias(packet));
            }
            let read =
                timeout(ANSWER_TIMEOUT, self.stream.read_buf(&mut self.read)).await.unwrap_or_else(|_| {
                    panic!("{:?} got nothing from the broker within {ANSWER_TIMEOUT:?}", self.id)
                });
            // A reset is an end, too: it occurs when the broker closes with unread bytes.
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    /// Replaces a Topic Alias with its topic (MQTT 5, 3.3.2.3.4).
    fn resolve_alias(&mut self, packet: Packet) -> Packet {
        let Packet::Publish(mut publish) = packet else {
            return packet;
        };
        let alias = publish.properties.iter().find_map(|property| match property {
            Property::TopicAlias(alias) => Some(*alias),
            _ => None,
        });
        if let Some(alias) = alias {
            assert!(
                alias <= self.alias_maximum,
                "topic alias {alias} is over the maximum of {}",
                self.alias_maximum
            );
            if publish.topic.is_empty() {
                let topic = self.aliases.get(&alias);
                let topic = topic.unwrap_or_else(|| panic!("topic alias {alias} stands for nothing"));
                publish.topic.clone_from(topic);
            } else {
                self.aliases.insert(alias, publish.topic.clone());
            }
        }
        Packet::Publish(publish)
    }

    /// Returns a packet identifier that this client has not used yet.
    pub(crate) fn fresh_id(&mut self) -> u16 {
        self.last_id += 1;
        self.last_id
    }

    /// Returns the next packet that is not a message. Messages before it are kept for [`message`](Self::message).
    pub(crate) async fn reply(&mut self) -> Packet {
        loop {
            match self.next().await {
                Packet::Publish(publish) => self.stash.push_back(publish),
                other => return other,
            }
        }
    }

    /// Returns the next message, without acknowledging it.
    pub(crate) async fn delivery(&mut self) -> Publish {
        if let Some(publish) = self.stash.pop_front() {
            return publish;
        }
        match self.next().await {
            Packet::Publish(publish) => publish,
            other => panic!("{:?} awaits a message and gets {other:?}", self.id),
        }
    }

    /// Returns the next message, and acknowledges it as its QoS requires.
    pub(crate) async fn message(&mut self) -> Publish {
        let publish = self.delivery().await;
        self.acknowledge(&publish).await;
        publish
    }

    /// Acknowledges a message, until the exchange of its QoS is complete.
    pub(crate) async fn acknowledge(&mut self, publish: &Publish) {
        match publish.qos {
            0 => {}
            1 => self.send(&ack(4, self.version, publish.id, 0)).await,
            _ => {
                self.send(&ack(5, self.version, publish.id, 0)).await;
                self.release(publish.id).await;
            }
        }
    }

    /// Waits for PUBREL and sends PUBCOMP.
    pub(crate) async fn release(&mut self, id: u16) {
        match self.reply().await {
            Packet::Pubrel(pubrel) => assert_eq!(pubrel.id, id, "PUBREL is of another message"),
            other => panic!("{:?} awaits PUBREL and gets {other:?}", self.id),
        }
        self.send(&ack(7, self.version, id, 0)).await;
    }

    /// Publishes and waits until the exchange is complete. Returns the reason code; 0 at QoS 0.
    pub(crate) async fn publish(&mut self, publish: Publish) -> u8 {
        let mut publish = publish;
        if publish.qos > 0 && publish.id == 0 {
            publish.id = self.fresh_id();
        }
        self.send(&publish.encode(self.version)).await;
        match publish.qos {
            0 => 0,
            1 => self.puback(publish.id).await,
            _ => {
                let code = self.pubrec(publish.id).await;
                if code < 0x80 {
                    self.send(&ack(6, self.version, publish.id, 0)).await;
                    self.pubcomp(publish.id).await;
                }
                code
            }
        }
    }

    /// Waits for the PUBACK of `id`, and returns its reason code.
    pub(crate) async fn puback(&mut self, id: u16) -> u8 {
        match self.reply().await {
            Packet::Puback(ack) => same_id("PUBACK", id, &ack),
            other => panic!("{:?} awaits PUBACK and gets {other:?}", self.id),
        }
    }

    /// Waits for the PUBREC of `id`, and returns its reason code.
    pub(crate) async fn pubrec(&mut self, id: u16) -> u8 {
        match self.reply().await {
            Packet::Pubrec(ack) => same_id("PUBREC", id, &ack),
            other => panic!("{:?} awaits PUBREC and gets {other:?}", self.id),
        }
    }

    /// Waits for the PUBCOMP of `id`, and returns its reason code.
    pub(crate) async fn pubcomp(&mut self, id: u16) -> u8 {
        match self.reply().await {
            Packet::Pubcomp(ack) => same_id("PUBCOMP", id, &ack),
            other => panic!("{:?} awaits PUBCOMP and gets {other:?}", self.id),
        }
    }

    /// Subscribes to one filter. Panics if it is refused.
    pub(crate) async fn subscribe(&mut self, filter: &str, options: u8) {
        let codes = self.subscribe_all(&[(filter, options)], &[]).await;
        assert_eq!(codes, [options & 3], "the QoS granted for {filter}");
    }

    /// Subscribes to one filter with a Subscription Identifier.
    pub(crate) async fn subscribe_as(&mut self, filter: &str, options: u8, id: u32) {
        let properties = [Property::SubscriptionId(id)];
        let codes = self.subscribe_all(&[(filter, options)], &properties).await;
        assert_eq!(codes, [options & 3], "the QoS granted for {filter}");
    }

    /// Subscribes, and returns the codes of SUBACK.
    pub(crate) async fn subscribe_all(&mut self, filters: &[(&str, u8)], properties: &[Property]) -> Vec<u8> {
        let id = self.fresh_id();
        self.send(&subscribe_with(self.version, id, filters, properties)).await;
        self.suback(id).await
    }

    /// Waits for the SUBACK of `id`, and returns its codes.
    pub(crate) async fn suback(&mut self, id: u16) -> Vec<u8> {
        match self.reply().await {
            Packet::Suback(suback) => {
                assert_eq!(suback.id, id, "SUBACK is of another SUBSCRIBE");
                suback.codes
            }
            other => panic!("{:?} awaits SUBACK and gets {other:?}", self.id),
        }
    }

    /// Unsubscribes, and returns the codes of UNSUBACK; none in 3.1.1.
    pub(crate) async fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let id = self.fresh_id();
        self.send(&unsubscribe(self.version, id, filters)).await;
        match self.reply().await {
            Packet::Unsuback(unsuback) => {
                assert_eq!(unsuback.id, id, "UNSUBACK is of another UNSUBSCRIBE");
                unsuback.codes
            }
            other => panic!("{:?} awaits UNSUBACK and gets {other:?}", self.id),
        }
    }

    /// Asserts that the broker has sent nothing more: the next packet answers a PINGREQ.
    pub(crate) async fn assert_silent(&mut self) {
        assert!(self.stash.is_empty(), "unexpected: {:?}", self.stash);
        self.send(&pingreq()).await;
        match self.next().await {
            Packet::Pingresp => {}
            other => panic!("{:?} should get nothing and gets {other:?}", self.id),
        }
    }

    /// Asserts that no message of `publisher` is in transit to this client: a message sent after all of them arrives
    /// first.
    pub(crate) async fn assert_silent_after(&mut self, publisher: &mut Client) {
        let marker = unique_topic("marker");
        self.subscribe(&marker, 0).await;
        publisher.publish(Publish::new(&marker, "marker")).await;
        let message = self.delivery().await;
        assert_eq!(message.topic, marker, "unexpected: {message:?}");
        self.unsubscribe(&[&marker]).await;
    }

    /// Sends DISCONNECT, and waits until the broker has closed the connection.
    pub(crate) async fn disconnect(mut self) {
        self.send(&disconnect(self.version, 0, &[])).await;
        self.assert_ended().await;
    }

    /// Ends the connection without DISCONNECT, like a network failure, and waits until the broker has noticed and
    /// closed its side.
    pub(crate) async fn cut(mut self) {
        self.stream.shutdown().await.ok();
        while self.next_or_end().await.is_some() {}
    }

    /// Asserts that the broker closes the connection without another packet.
    pub(crate) async fn assert_ended(&mut self) {
        assert!(self.stash.is_empty(), "unexpected: {:?}", self.stash);
        if let Some(packet) = self.next_or_end().await {
            panic!("the broker should close and sends {packet:?}");
        }
    }

    /// Asserts that the broker ends the connection: in MQTT 5 with DISCONNECT and one of these codes, in 3.1.1 without
    /// a packet. The standard lets the server choose the code (4.13), so another broker may send another one, or none.
    pub(crate) async fn assert_refused(&mut self, codes: &[u8]) {
        if self.version == Version::V5 {
            match self.next_or_end().await {
                Some(Packet::Disconnect { code, .. }) => assert_reason(code, codes),
                Some(other) => panic!("the broker should disconnect and sends {other:?}"),
                None if is_external() => return,
                None => panic!("the broker closes without DISCONNECT {codes:02x?}"),
            }
        }
        self.assert_ended().await;
    }

    /// Asserts that the broker treats these bytes as a malformed packet or a protocol error; brokers differ in the
    /// choice between the two.
    pub(crate) async fn assert_invalid(&mut self, bytes: &[u8]) {
        self.send(bytes).await;
        self.assert_refused(&[0x81, 0x82]).await;
    }

    /// Asserts that the broker refuses these bytes in place of a CONNECT: in MQTT 5 with CONNACK and one of these
    /// codes, in 3.1.1 without a packet [MQTT-3.1.4-1].
    pub(crate) async fn assert_connect_refused(&mut self, bytes: &[u8], codes: &[u8]) {
        self.send(bytes).await;
        if self.version == Version::V5 {
            match self.next_or_end().await {
                Some(Packet::Connack(Connack { code, .. })) => assert_reason(code, codes),
                Some(other) => panic!("the broker should refuse and sends {other:?}"),
                None if is_external() => return,
                None => panic!("the broker closes without CONNACK {codes:02x?}"),
            }
        }
        self.assert_ended().await;
    }
}

fn assert_reason(code: u8, codes: &[u8]) {
    let chosen = if is_external() { code >= 0x80 } else { codes.contains(&code) };
    assert!(chosen, "the reason is {code:#04x}, not one of {codes:02x?}");
}

fn same_id(name: &str, id: u16, ack: &Ack) -> u8 {
    assert_eq!(ack.id, id, "{name} is of another packet");
    ack.code
}
