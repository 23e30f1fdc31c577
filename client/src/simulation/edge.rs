//! Checks what MQTT 5 and the documentation of the session promise about its bytes, directly where the session writes
//! and reads them: the simulated network, which loses and delays bytes, lies behind this.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rantai_testing::{Packet, Property, Version, length_of_first, read_packet};

use super::link::Link;
use super::packet::{self, FromClient, publish_size};
use super::wishes::Snapshot;
use super::world::{Due, World};
use crate::session::{Message, QoS};

/// Time within which the client must have left a connection that has ended, in milliseconds.
const LEAVING_MS: u64 = 50;
/// Time that a session waits for a CONNACK at each of several places, minus the maximum duration of the connection
/// setup, in milliseconds.
const HANDSHAKE_MS: u64 = 2_700;

/// Parameters agreed on by a CONNACK.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreed {
    /// Number of this connection among those that were accepted.
    pub(super) connection: u64,
    pub(super) is_resumed: bool,
    pub(super) window: usize,
    pub(super) max_packet: usize,
    pub(super) keep_alive_ms: u64,
}

/// State of one connection, derived from its packets.
#[derive(Debug)]
pub(super) struct Edge {
    writing: Vec<u8>,
    reading: Vec<u8>,
    connect: Option<packet::Connect>,
    pub(super) agreed: Option<Agreed>,
    /// Publishes without PUBACK, by packet id.
    pub(super) publishing: BTreeMap<u16, usize>,
    /// Filters by packet id, and whether they were sent because the connection is new.
    pub(super) subscribing: BTreeMap<u16, (Vec<String>, bool)>,
    unsubscribing: BTreeSet<u16>,
    /// Messages that the session has read and not passed to the application.
    pub(super) unread: VecDeque<rantai_testing::Publish>,
    /// Packet ids of messages that were passed to the application and not acknowledged.
    pub(super) unacknowledged: VecDeque<u16>,
    /// Last publish of each publisher at each QoS.
    order: BTreeMap<(u32, u8), u64>,
    snapshot: Snapshot,
    /// Filters of the SUBSCRIBEs before any other packet than UNSUBSCRIBE; `None` after there was one.
    first_filters: Option<BTreeMap<String, u8>>,
    /// Whether the last read packet ends the connection.
    pub(super) is_over: bool,
    farewell: bool,
    last_write: u64,
    last_read: u64,
    /// Whether the last write had to wait.
    pub(super) is_blocked: bool,
}

impl Edge {
    pub(super) fn new(now: u64) -> Self {
        Self {
            writing: Vec::new(),
            reading: Vec::new(),
            connect: None,
            agreed: None,
            publishing: BTreeMap::new(),
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeSet::new(),
            unread: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            order: BTreeMap::new(),
            snapshot: Snapshot::default(),
            first_filters: None,
            is_over: false,
            farewell: false,
            last_write: now,
            last_read: now,
            is_blocked: false,
        }
    }

    fn is_taken(&self, id: u16) -> bool {
        self.publishing.contains_key(&id)
            || self.subscribing.contains_key(&id)
            || self.unsubscribing.contains(&id)
    }

    /// Returns whether nothing is pending.
    pub(super) fn is_quiet(&self) -> bool {
        self.publishing.is_empty()
            && self.subscribing.is_empty()
            && self.unsubscribing.is_empty()
            && self.unread.is_empty()
            && self.unacknowledged.is_empty()
    }
}

impl World {
    /// Checks bytes that the session has written.
    pub(super) fn edge_writes(&mut self, link: &mut Link, bytes: &[u8]) {
        link.edge.last_write = self.now();
        link.edge.is_blocked = false;
        link.edge.writing.extend(bytes);
        loop {
            let taken = packet::take(&mut link.edge.writing);
            let checked = match taken {
                Ok(None) => return,
                Ok(Some(bytes)) => packet::read(&bytes)
                    .and_then(|packet| self.edge_checks_written(link, packet, bytes.len())),
                Err(error) => Err(error),
            };
            if let Err(error) = checked {
                let number = link.number;
                return self.violate(format!("{number}: the client wrote what it may not: {error}"));
            }
        }
    }

    fn edge_checks_written(
        &mut self,
        link: &mut Link,
        packet: FromClient,
        size: usize,
    ) -> Result<(), String> {
        let number = link.number;
        if link.edge.farewell {
            return Err(format!("{packet:?} behind DISCONNECT"));
        }
        let packet = match packet {
            FromClient::Connect(connect) => {
                self.note(format_args!("{number}: < CONNECT"));
                if link.edge.connect.is_some() {
                    return Err("a second CONNECT".to_owned());
                }
                self.record.check_connect(&connect)?;
                link.edge.connect = Some(connect);
                return Ok(());
            }
            other => other,
        };
        let Some(agreed) = link.edge.agreed else { return Err(format!("{packet:?} before CONNACK")) };
        if size > agreed.max_packet {
            return Err(format!("{size} bytes, the broker takes {}", agreed.max_packet));
        }
        if !matches!(packet, FromClient::Subscribe { .. } | FromClient::Unsubscribe { .. }) {
            self.edge_ends_first_filters(link)?;
        }
        match packet {
            FromClient::Connect(_) => unreachable!("handled above"),
            FromClient::Publish(publish) => self.edge_checks_publish(link, agreed, &publish, size)?,
            FromClient::Puback { id, code } => {
                self.event("message acknowledged");
                self.note(format_args!("{number}: < PUBACK {id}"));
                let expected = link.edge.unacknowledged.pop_front();
                if (expected != Some(id) || code != 0) && !link.edge.is_over {
                    return Err(format!("PUBACK {id} with {code:#04x}, handed on is {expected:?}"));
                }
            }
            FromClient::Subscribe { id, filters } => {
                self.note(format_args!("{number}: < SUBSCRIBE {id} {filters:?}"));
                if link.edge.is_taken(id) {
                    return Err(format!("SUBSCRIBE by packet id {id}, which is in use"));
                }
                for (topic, _) in &filters {
                    self.record.wishes.check_subscribe(topic, &link.edge.snapshot)?;
                }
                let is_again = link.edge.first_filters.is_some()
                    && filters.iter().all(|(topic, _)| {
                        link.edge.snapshot.has(topic)
                            && !self.record.wishes.is_asked_since(topic, &link.edge.snapshot)
                    });
                if is_again {
                    self.event("filters subscribed again");
                    if filters.len() == 64 {
                        self.reach("as many filters subscribed again as one SUBSCRIBE takes");
                    }
                }
                if let Some(first) = &mut link.edge.first_filters {
                    for (topic, options) in &filters {
                        // If the application is quick, the second one is its own.
                        first.entry(topic.clone()).or_insert(*options);
                    }
                }
                let topics = filters.into_iter().map(|(topic, _)| topic).collect();
                link.edge.subscribing.insert(id, (topics, is_again));
            }
            FromClient::Unsubscribe { id, filters } => {
                self.note(format_args!("{number}: < UNSUBSCRIBE {id} {filters:?}"));
                if link.edge.is_taken(id) {
                    return Err(format!("UNSUBSCRIBE by packet id {id}, which is in use"));
                }
                link.edge.unsubscribing.insert(id);
            }
            FromClient::Pingreq => {
                self.event("PINGREQ");
                self.note(format_args!("{number}: < PINGREQ"));
            }
            FromClient::Disconnect { code } => {
                self.event("DISCONNECT of the client");
                self.note(format_args!("{number}: < DISCONNECT {code}"));
                link.edge.farewell = true;
                self.record.check_farewell(code)?;
            }
        }
        Ok(())
    }

    fn edge_checks_publish(
        &mut self,
        link: &mut Link,
        agreed: Agreed,
        publish: &packet::Publish,
        size: usize,
    ) -> Result<(), String> {
        let (number, id) = (link.number, publish.id);
        let which = self.record.find(publish)?;
        let repeated = if publish.is_repeated { " again" } else { "" };
        self.note(format_args!("{number}: < PUBLISH {which} by {id}{repeated}, {size} bytes"));
        self.event(if publish.qos > 0 { "publish written at QoS 1" } else { "publish written at QoS 0" });
        if size == agreed.max_packet {
            self.reach("publish as large as the broker takes");
        }
        let published = &self.record.publishes[which];
        if size != publish_size(published.topic.len(), published.payload, publish.qos) {
            return Err(format!("publish {which} has {size} bytes"));
        }
        let key = (published.lane, publish.qos);
        let place = published.place;
        if let Some(last) = link.edge.order.insert(key, place)
            && last >= place
        {
            return Err(format!("publish {which} of {key:?} comes as {place} behind {last}"));
        }
        if publish.qos == 0 {
            return self.record.written(which, agreed, publish).map(|_| ());
        }
        if link.edge.is_taken(id) {
            return Err(format!("publish {which} by packet id {id}, which is in use"));
        }
        link.edge.publishing.insert(id, which);
        let count = link.edge.publishing.len();
        if count > agreed.window {
            return Err(format!("{count} publishes in flight, the broker takes {}", agreed.window));
        }
        if count == agreed.window {
            self.reach("Receive Maximum reached");
        }
        let state = self.record.written(which, agreed, publish)?;
        self.reach(state);
        Ok(())
    }

    /// Checks bytes that the session reads.
    pub(super) fn edge_reads(&mut self, link: &mut Link, bytes: &[u8]) {
        link.edge.last_read = self.now();
        link.edge.reading.extend(bytes);
        while !link.edge.is_over {
            let limit = self.record.max_packet as usize;
            let is_over = match length_of_first(&link.edge.reading) {
                Ok(None) => return,
                Ok(Some(length)) if length > limit => true,
                Ok(Some(length)) if length > link.edge.reading.len() => return,
                Ok(Some(length)) => {
                    let bytes: Vec<u8> = link.edge.reading.drain(..length).collect();
                    match read_packet(Version::V5, &bytes) {
                        Ok(packet) => self.edge_takes(link, packet),
                        Err(_) => true,
                    }
                }
                Err(_) => true,
            };
            if is_over {
                self.reach("connection ended by a packet");
                self.edge_is_over(link);
            }
        }
    }

    /// Handles a last packet that ends the connection, for either side.
    fn edge_is_over(&mut self, link: &mut Link) {
        link.edge.is_over = true;
        self.schedule(self.now() + LEAVING_MS, Due::Left(link.number));
    }

    /// Handles a packet that the session has read. Returns whether it ends the connection.
    fn edge_takes(&mut self, link: &mut Link, packet: Packet) -> bool {
        let number = link.number;
        self.event("packet read by the client");
        if link.edge.agreed.is_none() {
            let Packet::Connack(connack) = packet else { return true };
            if connack.code != 0 {
                self.note(format_args!("{number}: > CONNACK {:#04x}", connack.code));
                return true;
            }
            self.edge_agrees(link, connack.session_present, &connack.properties);
            return false;
        }
        match packet {
            Packet::Publish(publish) if publish.qos < 2 => {
                self.note(format_args!("{number}: > PUBLISH {} by {}", publish.topic, publish.id));
                link.edge.unread.push_back(publish);
            }
            Packet::Puback(ack) => {
                self.note(format_args!("{number}: > PUBACK {} {:#04x}", ack.id, ack.code));
                match link.edge.publishing.remove(&ack.id) {
                    Some(which) => self.record.acknowledged(which, ack.code, &ack.properties),
                    None => self.reach("PUBACK that nobody waits for"),
                }
            }
            Packet::Suback(ack) => {
                self.note(format_args!("{number}: > SUBACK {} {:?}", ack.id, ack.codes));
                if let Some((topics, true)) = link.edge.subscribing.remove(&ack.id) {
                    let refused = topics.iter().zip(ack.codes).filter(|(_, code)| *code >= 0x80);
                    for (topic, _) in refused {
                        self.reach("filter refused that was subscribed again");
                        self.record.wishes.refuse_again(topic);
                    }
                }
            }
            Packet::Unsuback(ack) => {
                link.edge.unsubscribing.remove(&ack.id);
            }
            Packet::Pingresp => {}
            Packet::Disconnect { code, .. } => {
                self.note(format_args!("{number}: > DISCONNECT {code:#04x}"));
                if code == 0x8E {
                    self.reach("session taken over");
                    self.record.is_taken_over = true;
                }
                return true;
            }
            _ => return true,
        }
        false
    }

    fn edge_agrees(&mut self, link: &mut Link, is_resumed: bool, properties: &[Property]) {
        let asked = link.edge.connect.as_ref().map_or(0, |connect| connect.keep_alive);
        let (mut window, mut max_packet, mut keep_alive) = (65_535, usize::MAX, asked);
        for property in properties {
            match property {
                Property::ReceiveMaximum(value) => window = (*value).into(),
                Property::MaximumPacketSize(value) => max_packet = *value as usize,
                Property::ServerKeepAlive(value) => keep_alive = *value,
                _ => {}
            }
        }
        // The session sends PINGREQs even if the broker disables the keep-alive.
        let keep_alive_ms = if keep_alive == 0 { 60_000 } else { u64::from(keep_alive) * 1_000 };
        let connection = self.record.begin_connection(max_packet);
        let agreed = Agreed { connection, is_resumed, window, max_packet, keep_alive_ms };
        self.note(format_args!("{}: > CONNACK {agreed:?}", link.number));
        self.reach(if is_resumed { "connected with the session" } else { "connected without a session" });
        link.edge.agreed = Some(agreed);
        link.edge.snapshot = self.record.wishes.snapshot();
        link.edge.first_filters = Some(BTreeMap::new());
        self.schedule(self.now() + keep_alive_ms, Due::Silence(link.number));
    }

    /// Checks that all due filters were subscribed by the first packets of a connection.
    fn edge_ends_first_filters(&mut self, link: &mut Link) -> Result<(), String> {
        let Some(first) = link.edge.first_filters.take() else { return Ok(()) };
        self.reach("subscriptions compared after a connect");
        link.edge.snapshot.check(&first)
    }

    /// Checks a message that the session has passed to the application.
    pub(super) fn handed_on(&mut self, message: &Message) {
        let checked = self.with_newest(|world, link| {
            if link.edge.is_over && link.edge.unread.is_empty() {
                return Err("a message behind the end of its connection".to_owned());
            }
            let Some(publish) = link.edge.unread.pop_front() else {
                return Err(format!("nobody has sent a message on {}", message.topic));
            };
            let qos = u8::from(message.qos != QoS::AtMostOnce);
            let is_same = *publish.topic == *message.topic
                && publish.payload == message.payload
                && publish.qos == qos
                && publish.retain == message.retain;
            if !is_same {
                return Err(format!("{publish:?} is handed on as {message:?}"));
            }
            world.event(if qos == 0 { "message handed on at QoS 0" } else { "message handed on at QoS 1" });
            if publish.dup {
                world.reach("message handed on that was repeated");
            }
            if qos == 1 {
                link.edge.unacknowledged.push_back(publish.id);
            }
            Ok(())
        });
        let closed = || Err("a message is handed on after its connection was closed".to_owned());
        self.check(checked.unwrap_or_else(closed));
    }

    /// Checks that the session keeps the connection alive, and leaves one on which nothing arrives.
    pub(super) fn edge_checks_silence(&mut self, link: &mut Link) {
        let (Some(agreed), false) = (link.edge.agreed, link.is_dropped) else { return };
        if self.record.ending.is_some() {
            // The session waits for the end with the same timer.
            return;
        }
        let (now, number) = (self.now(), link.number);
        // The timer counts quarters of the keep-alive, in whole milliseconds.
        let silent = now - link.edge.last_write;
        if silent > agreed.keep_alive_ms + 10 && !link.edge.is_blocked && !link.is_disturbed {
            self.violate(format!("{number}: nothing was sent for {silent} ms, keep-alive {agreed:?}"));
        }
        let deaf = now - link.edge.last_read;
        if deaf > agreed.keep_alive_ms * 5 / 2 {
            self.violate(format!("{number}: nothing came for {deaf} ms, keep-alive {agreed:?}"));
        }
        self.schedule(now + agreed.keep_alive_ms / 4, Due::Silence(number));
    }

    /// Checks that the session had a reason to close the connection.
    pub(super) fn edge_dropped(&mut self, link: &mut Link) {
        let edge = &link.edge;
        let silent = self.now() - edge.last_read;
        let is_dead = edge.agreed.is_some_and(|agreed| silent >= agreed.keep_alive_ms);
        let is_slow = edge.agreed.is_none() && self.now() - link.opened_at >= HANDSHAKE_MS;
        if edge.agreed.is_some() && is_dead && link.end.is_none() {
            self.reach("silent connection left");
        }
        if is_slow {
            self.reach("handshake given up");
        }
        let is_known = link.end.is_some()
            || edge.is_over
            || edge.farewell
            || is_dead
            || is_slow
            || self.record.ending.is_some()
            || self.record.is_taken_over;
        if edge.agreed.is_some() {
            self.left_ids = edge.publishing.keys().copied().collect();
        }
        if !is_known {
            self.violate(format!("{}: the client closes a connection that is in order", link.number));
        }
        // Counts even if the session closed the connection for another reason: it may not have read that far.
        if edge.agreed.is_some() && edge.reading.len() + edge.writing.len() > 0 {
            self.reach("connection lost within a packet");
        }
    }
}
