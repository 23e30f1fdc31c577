//! Handling of the broker's packets by a client.

use std::collections::btree_map::Entry;

use super::{Client, ConnectionStage, FilterChange, SHORT_EXPIRY_S, SentMessage};
use crate::simulation::link::Link;
use crate::simulation::record::{Arrival, Ended, Record};
use crate::simulation::wire::{Ack, Connack, Packet, Property, Publish, Suback, Version, ack};

/// Lowest reason code that is a refusal.
const FIRST_ERROR_CODE: u8 = 0x80;

impl Client {
    pub(super) fn handle(&mut self, packet: Packet, record: &mut Record) {
        let (name, version) = (self.profile.name, self.profile.version);
        let is_wide = self.link.as_ref().is_some_and(Link::is_wide);
        let drained_at = is_wide.then_some(self.drained_at);
        record.heard(name, &packet, drained_at);
        if self.stage == ConnectionStage::Leaving {
            // A leaving client answers nothing more, and ignores packets that it had not read when it sent DISCONNECT.
            if matches!(packet, Packet::Disconnect { .. }) {
                self.end(Ended::Said, record);
            }
            return;
        }
        match packet {
            Packet::Connack(connack) => self.connected(&connack, record),
            Packet::Publish(publish) => self.take(&publish, drained_at, record),
            Packet::Puback(ack) => self.acknowledged(&ack, record),
            Packet::Pubrec(ack) if ack.code >= FIRST_ERROR_CODE => self.acknowledged(&ack, record),
            Packet::Pubrec(rec) => {
                let sent = self.unacknowledged.iter_mut().find(|sent| sent.publish.id == rec.id);
                let sent = sent.unwrap_or_else(|| panic!("{name} got {rec:?} for nothing"));
                sent.released = true;
                record.accepted(name, sent.number);
                self.answer(ack(6, version, rec.id, 0), None);
            }
            Packet::Pubrel(rel) => {
                self.received.remove(&rel.id);
                self.answer(ack(7, version, rel.id, 0), Some(rel.id));
            }
            Packet::Pubcomp(comp) => drop(self.take_sent(comp.id)),
            Packet::Suback(suback) => self.subscribed(&suback, record),
            Packet::Unsuback(unsuback) => {
                let change = self.changes.remove(&unsuback.id).expect("UNSUBACK for an UNSUBSCRIBE");
                for &(filter, _) in &change.filters {
                    record.unsubscribed(name, filter, change.tick);
                }
            }
            Packet::Pingresp => {}
            Packet::Disconnect { code, .. } => {
                record.disconnected_by_broker(code);
                self.end(Ended::Closed, record);
            }
            other @ Packet::Auth { .. } => panic!("{name} got {other:?}"),
        }
    }

    fn connected(&mut self, connack: &Connack, record: &mut Record) {
        let name = self.profile.name;
        if connack.code != 0 {
            record.refused_connect(name, connack.code);
            return self.end(Ended::Closed, record);
        }
        self.stage = ConnectionStage::Ready;
        self.resumed = connack.session_present;
        self.is_persistent = self.profile.session_expiry >= SHORT_EXPIRY_S && !self.has_clean_v3_session();
        record.connected(name, self.resumed);
        if connack
            .properties
            .iter()
            .any(|property| matches!(property, Property::User(key, _) if key == "messages-dropped"))
        {
            record.reach("CONNACK says how many messages were dropped");
        }
        self.begin(record);
    }

    /// Continues after CONNACK: subscribes in a new session, otherwise completes what the last connection left open.
    fn begin(&mut self, record: &mut Record) {
        let (name, version) = (self.profile.name, self.profile.version);
        let mut filters = self.profile.filters.to_vec();
        if self.resumed {
            for sent in &mut self.unacknowledged {
                if sent.released {
                    record.reach("PUBREL sent again");
                    self.output.extend(ack(6, version, sent.publish.id, 0));
                    continue;
                }
                sent.publish.dup = true;
                record.sent_again(name, sent.number, &sent.publish);
                self.output.extend(sent.publish.encode(version));
            }
            // A SUBSCRIBE or UNSUBSCRIBE that was not answered may not have arrived.
            filters.retain(|(filter, _)| !record.is_granted(name, filter));
        } else {
            self.forget_session(record);
        }
        if !filters.is_empty() {
            self.subscribe(&filters, record);
        }
    }

    fn take(&mut self, publish: &Publish, drained_at: Option<u64>, record: &mut Record) {
        let (name, version) = (self.profile.name, self.profile.version);
        let mut is_new = true;
        if publish.qos > 0 {
            assert!(
                self.in_flight.insert(publish.id),
                "{name} got {publish:?} before it has acknowledged that id"
            );
            let (count, window) = (self.in_flight.len(), usize::from(self.profile.window));
            assert!(count <= window, "{name} has {count} messages in flight and takes {window}");
            record.reach_if(count == window, "a window of messages in flight is full");
        }
        if publish.qos == 2 {
            match self.received.entry(publish.id) {
                Entry::Vacant(entry) => drop(entry.insert(publish.payload.clone())),
                Entry::Occupied(entry) => {
                    assert_eq!(*entry.get(), publish.payload, "{name} got another message under an id");
                    record.reach("QoS 2 message sent again is known");
                    is_new = false;
                }
            }
        }
        if is_new {
            record.delivered(&self.profile, &Arrival { publish, drained_at });
        }
        if publish.qos > 0 {
            let done = (publish.qos == 1).then_some(publish.id);
            self.answer(ack(publish.qos + 3, version, publish.id, 0), done);
        }
    }

    /// Handles PUBACK, or a PUBREC with an error code.
    fn acknowledged(&mut self, ack: &Ack, record: &mut Record) {
        let (name, sent) = (self.profile.name, self.take_sent(ack.id));
        if ack.code < FIRST_ERROR_CODE {
            record.accepted(name, sent.number);
        } else {
            record.refused(name, sent.number, ack.code);
        }
    }

    fn take_sent(&mut self, id: u16) -> SentMessage {
        let index = self.unacknowledged.iter().position(|sent| sent.publish.id == id);
        let index =
            index.unwrap_or_else(|| panic!("{} got an answer for {id}, which is free", self.profile.name));
        self.unacknowledged.remove(index).expect("its index")
    }

    fn subscribed(&mut self, suback: &Suback, record: &mut Record) {
        let name = self.profile.name;
        let FilterChange { filters, tick } = self.changes.remove(&suback.id).expect("SUBACK for a SUBSCRIBE");
        assert_eq!(suback.codes.len(), filters.len(), "{name}: {suback:?}");
        let refusal = if self.profile.version == Version::V5 { 0x97 } else { FIRST_ERROR_CODE };
        for ((filter, qos), code) in filters.into_iter().zip(&suback.codes) {
            assert!(*code == qos || *code == refusal, "{name}: {suback:?} for {filter}");
            record.granted(name, filter, tick, *code == qos);
        }
    }
}
