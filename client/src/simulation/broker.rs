//! Broker that keeps one MQTT 5 session, as far as a client can observe it: accepts publishes, grants subscriptions and
//! sends messages to them. Shares no code with the session under test.

use std::collections::{BTreeMap, VecDeque};

use rantai_testing::{Property, Publish, Version};

use super::link::{Direction, Link};
use super::packet::{self, Connect, FromClient};
use super::world::{Due, World};

/// Maximum number of messages queued for a client that is offline.
const MAX_QUEUE: usize = 40;
/// Reason codes of PUBACK that refuse a publish.
const REFUSALS: [u8; 9] = [0x10, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const SUBSCRIBE_REFUSALS: [u8; 5] = [0x80, 0x83, 0x87, 0x8F, 0x97];

/// State of the session that survives a connection.
#[derive(Debug, Default)]
pub(super) struct BrokerSession {
    expiry: u32,
    /// Filters with their Subscription Options.
    pub(super) filters: BTreeMap<String, u8>,
    /// Messages queued for the client.
    queue: VecDeque<Publish>,
    /// Messages without PUBACK, which are sent again when the session is resumed.
    in_flight: VecDeque<Publish>,
    last_id: u16,
}

#[derive(Debug)]
pub(super) struct Broker {
    pub(super) is_up: bool,
    pub(super) session: Option<BrokerSession>,
    /// Number of the session's current connection.
    pub(super) current: Option<u64>,
    messages: u64,
}

impl Broker {
    pub(super) fn new() -> Self {
        Self { is_up: true, session: None, current: None, messages: 0 }
    }

    /// Returns whether nothing is pending.
    pub(super) fn is_quiet(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.queue.is_empty() && session.in_flight.is_empty())
    }
}

/// Broker's side of one connection.
#[derive(Debug)]
pub(super) struct Served {
    reading: Vec<u8>,
    /// Whether CONNACK was sent.
    pub(super) is_accepted: bool,
    /// Time without a packet after which the connection is closed, in milliseconds; 0 for no limit.
    patience_ms: u64,
    last_read: u64,
    max_packet: usize,
    /// Publishes to acknowledge, with reason code and Reason String.
    acks: VecDeque<(u16, u8, &'static str)>,
}

impl Served {
    pub(super) fn new(now: u64) -> Self {
        Self {
            reading: Vec::new(),
            is_accepted: false,
            patience_ms: 0,
            last_read: now,
            max_packet: usize::MAX,
            acks: VecDeque::new(),
        }
    }
}

impl World {
    pub(super) fn send(&mut self, link: &mut Link, bytes: &[u8]) {
        self.transmit(link, Direction::ToClient, bytes);
    }

    /// Closes a connection from the broker's side, after the bytes that it has sent.
    pub(super) fn hang_up(&mut self, link: &mut Link) {
        self.broker_loses(link);
        link.is_closing = true;
        link.close_when_empty();
    }

    /// Handles that the broker has lost a connection.
    pub(super) fn broker_loses(&mut self, link: &mut Link) {
        link.served = None;
        let broker = &mut self.brokers[link.broker];
        if broker.current == Some(link.number) {
            broker.current = None;
            if broker.session.as_ref().is_some_and(|session| session.expiry == 0) {
                broker.session = None;
            }
        }
    }

    /// Handles bytes that have arrived at the broker.
    pub(super) fn broker_reads(&mut self, link: &mut Link, bytes: &[u8]) {
        let now = self.now();
        if let Some(served) = &mut link.served {
            served.last_read = now;
            served.reading.extend(bytes);
        }
        while let Some(served) = &mut link.served {
            // The edge has checked the content already.
            let Ok(Some(bytes)) = packet::take(&mut served.reading) else { return };
            let Ok(packet) = packet::read(&bytes) else { return };
            self.event("packet read by the broker");
            self.broker_takes(link, packet);
        }
    }

    fn broker_takes(&mut self, link: &mut Link, packet: FromClient) {
        let Some(served) = &mut link.served else { return };
        match packet {
            FromClient::Connect(connect) => self.greet(link, &connect),
            FromClient::Publish(publish) => {
                let found = self.record.find(&publish).and_then(|which| {
                    self.record.arrived(link.broker, which)?;
                    Ok(which)
                });
                if let Err(error) = found {
                    return self.violate(error);
                }
                if publish.qos > 0 {
                    let (refused, longest) = (self.chances.refused_publish, self.chances.ack_ms);
                    let code = if self.chance(refused) { self.pick(&REFUSALS) } else { 0 };
                    let why = if self.random.u8(..4) == 0 { "because" } else { "" };
                    if let Some(served) = &mut link.served {
                        served.acks.push_back((publish.id, code, why));
                    }
                    self.schedule_in(longest, Due::Puback(link.number));
                }
            }
            FromClient::Puback { id, .. } => {
                if let Some(session) = &mut self.brokers[link.broker].session {
                    session.in_flight.retain(|message| message.id != id);
                }
            }
            FromClient::Subscribe { id, filters } => self.grant(link, id, &filters),
            FromClient::Unsubscribe { id, filters } => self.end_filters(link, id, &filters),
            FromClient::Pingreq => self.send(link, &[0xD0, 0]),
            FromClient::Disconnect { .. } => {
                served.reading.clear();
                self.hang_up(link);
            }
        }
    }

    fn greet(&mut self, link: &mut Link, connect: &Connect) {
        let number = link.number;
        if !self.is_calm && self.chance(self.chances.refused_connect) {
            match self.random.u8(..5) {
                0 => {
                    self.event("CONNECT unanswered");
                    return;
                }
                1 => self.event("connection closed instead of CONNACK"),
                2 => {
                    self.event("DISCONNECT instead of CONNACK");
                    self.send(link, &packet::disconnect(0x89, false));
                }
                3 => {
                    self.event("another packet instead of CONNACK");
                    self.send(link, &[0xD0, 0]);
                }
                _ => {
                    self.event("CONNACK refuses");
                    let code = self.pick(&[0x80, 0x83, 0x85, 0x86, 0x87, 0x88, 0x89, 0x97, 0x9F]);
                    self.send(link, &packet::connack(false, code, &[]));
                }
            }
            return self.hang_up(link);
        }
        if let Some(old) = self.brokers[link.broker].current.take() {
            self.reach("own connection taken over");
            self.with_link(old, |world, old| {
                world.send(old, &packet::disconnect(0x8E, false));
                world.hang_up(old);
            });
        }
        let forgotten = self.chances.forgotten_session;
        let is_forgotten = !self.is_calm && self.chance(forgotten);
        let broker = &mut self.brokers[link.broker];
        broker.current = Some(number);
        if connect.is_clean_start || is_forgotten {
            broker.session = None;
        }
        let is_present = broker.session.is_some();
        let session = broker.session.get_or_insert_default();
        session.expiry = connect.session_expiry;
        let mut properties = Vec::new();
        let window = self.pick(self.chances.windows);
        if window > 0 {
            properties.push(Property::ReceiveMaximum(window));
        }
        let max_packet = self.pick(self.chances.packet_sizes);
        if max_packet > 0 {
            properties.push(Property::MaximumPacketSize(max_packet));
        }
        let server_keep_alive = self.pick(self.chances.keep_alives);
        if let Some(seconds) = server_keep_alive {
            self.reach("Server Keep Alive");
            properties.push(Property::ServerKeepAlive(seconds));
        }
        if self.random.bool() {
            properties.push(Property::TopicAliasMaximum(10));
        }
        let keep_alive = server_keep_alive.unwrap_or(connect.keep_alive);
        let patience_ms = u64::from(keep_alive) * 1_500;
        if let Some(served) = &mut link.served {
            served.is_accepted = true;
            served.patience_ms = patience_ms;
            served.max_packet = connect.max_packet as usize;
        }
        if patience_ms > 0 {
            self.schedule(self.now() + patience_ms, Due::KeepAlive(number));
        }
        self.event("CONNACK accepts");
        self.send(link, &packet::connack(is_present, 0, &properties));
        let at_once = self.chances.disconnect_at_once;
        if !self.is_calm && self.chance(at_once) {
            self.event("DISCONNECT right behind CONNACK");
            let code = self.pick(&[0x89, 0x8B, 0x8E]);
            let is_short = self.random.bool();
            self.send(link, &packet::disconnect(code, is_short));
            return self.hang_up(link);
        }
        let repeated: Vec<Publish> = self.brokers[link.broker]
            .session
            .iter()
            .flat_map(|session| &session.in_flight)
            .cloned()
            .collect();
        for message in repeated {
            self.reach("message sent again");
            self.send(link, &message.dup().encode(Version::V5));
        }
        self.send_queued(link);
    }

    fn grant(&mut self, link: &mut Link, id: u16, filters: &[(String, u8)]) {
        let refused = self.chances.refused_subscribe;
        let mut codes = Vec::new();
        let mut retained = Vec::new();
        for (filter, options) in filters {
            if self.chance(refused) {
                codes.push(self.pick(&SUBSCRIBE_REFUSALS));
                continue;
            }
            codes.push(options & 3);
            if options >> 4 == 0 && self.random.u8(..3) == 0 {
                retained.push((filter.clone(), options & 3));
            }
            if let Some(session) = &mut self.brokers[link.broker].session {
                session.filters.insert(filter.clone(), *options);
            }
        }
        self.send(link, &packet::suback(0x90, id, &codes));
        for (filter, qos) in retained {
            self.reach("retained message sent");
            self.send_message(link.broker, Some(&mut *link), &filter, qos, true);
        }
    }

    fn end_filters(&mut self, link: &mut Link, id: u16, filters: &[String]) {
        let mut codes = Vec::new();
        for filter in filters {
            let session = self.brokers[link.broker].session.as_mut();
            let ended = session.and_then(|session| session.filters.remove(filter));
            codes.push(if ended.is_some() { 0 } else { 0x11 });
        }
        self.send(link, &packet::suback(0xB0, id, &codes));
    }

    /// Acknowledges the next publish, or any one if the order is free.
    pub(super) fn acknowledge(&mut self, link: &mut Link) {
        let Some(served) = &mut link.served else { return };
        if served.acks.is_empty() {
            return;
        }
        let index = if self.chances.is_ack_order_free { self.random.usize(..served.acks.len()) } else { 0 };
        if index > 0 {
            self.reach("PUBACK out of order");
        }
        let Some(served) = &mut link.served else { return };
        let Some((id, code, why)) = served.acks.remove(index) else { return };
        self.send(link, &packet::puback(id, code, why));
        if self.random.u8(..50) == 0 {
            // A packet id far from any in use.
            self.send(link, &packet::puback(60_000, 0, ""));
        }
    }

    pub(super) fn broker_checks_keep_alive(&mut self, link: &mut Link) {
        let Some(served) = &link.served else { return };
        let over = served.last_read + served.patience_ms;
        if self.now() < over {
            return self.schedule(over, Due::KeepAlive(link.number));
        }
        self.event("connection closed by the broker's keep-alive");
        self.send(link, &packet::disconnect(0x8D, false));
        self.hang_up(link);
    }

    /// Sends one message for a filter, or adds it to the session's queue without a connection.
    fn send_message(&mut self, broker: usize, link: Option<&mut Link>, topic: &str, qos: u8, retain: bool) {
        let is_large = self.chance(self.chances.large);
        let size = if is_large { self.random.usize(..70_000) } else { self.random.usize(..40) };
        let broker = &mut self.brokers[broker];
        let Some(session) = &mut broker.session else { return };
        broker.messages += 1;
        let mut payload = broker.messages.to_string().into_bytes();
        payload.resize(payload.len() + size, b'.');
        let mut message = Publish::new(topic, &payload).qos(qos);
        message.retain = retain;
        if qos > 0 {
            session.queue.push_back(message);
            if session.queue.len() > MAX_QUEUE {
                session.queue.pop_front();
            }
            if let Some(link) = link {
                self.send_queued(link);
            }
        } else if let Some(link) = link {
            let bytes = message.encode(Version::V5);
            if link.served.as_ref().is_some_and(|served| bytes.len() <= served.max_packet) {
                self.send(link, &bytes);
            }
        }
    }

    /// Sends the messages that the session has queued.
    fn send_queued(&mut self, link: &mut Link) {
        let Some(max_packet) = link.served.as_ref().map(|served| served.max_packet) else { return };
        while let Some(session) = &mut self.brokers[link.broker].session
            && let Some(message) = session.queue.pop_front()
        {
            session.last_id = session.last_id % 50_000 + 1;
            let message = message.id(session.last_id);
            let bytes = message.encode(Version::V5);
            // A message above the client's Maximum Packet Size is discarded (MQTT 5, 3.1.2.11.4).
            if bytes.len() <= max_packet {
                session.in_flight.push_back(message);
                self.send(link, &bytes);
            }
        }
    }

    /// Sends some messages to the filters of the session.
    pub(super) fn send_messages(&mut self) {
        let which = self.random.usize(..2);
        let filters: Vec<(String, u8)> = match &self.brokers[which].session {
            Some(session) => {
                session.filters.iter().map(|(filter, options)| (filter.clone(), *options)).collect()
            }
            None => return,
        };
        if filters.is_empty() {
            return;
        }
        for _ in 0..self.pick(&[1, 1, 1, 3, 20]) {
            self.event("message of the broker");
            let (filter, options) = filters[self.random.usize(..filters.len())].clone();
            let qos = self.random.u8(..2).min(options & 3);
            match self.brokers[which].current {
                Some(number) => {
                    self.with_link(number, |world, link| {
                        world.send_message(which, Some(link), &filter, qos, false);
                    });
                }
                None => self.send_message(which, None, &filter, qos, false),
            }
        }
    }
}
