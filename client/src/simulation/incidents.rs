//! Incidents: what the network and the brokers do to the session.

use rantai_testing::{Publish, Version};

use super::chances::Incident;
use super::link::{Direction, End, Link};
use super::packet;
use super::world::{Due, World};

/// Maximum time for a broker to notice that a connection is cut, in milliseconds.
const NOTICE_MS: u64 = 3_000;
/// Maximum duration of a stall, in milliseconds.
const STALL_MS: u64 = 8_000;

impl World {
    /// Performs one of the seed's disturbances, mostly on the newest connection.
    pub(super) fn incident(&mut self) {
        if self.chances.incidents.is_empty() {
            return;
        }
        let index = self.random.usize(..self.chances.incidents.len());
        let incident = self.chances.incidents[index];
        let newest = self.newest;
        self.incidents += 1;
        match incident {
            Incident::Forget => {
                let which = self.random.usize(..2);
                if self.brokers[which].current.is_none() && self.brokers[which].session.take().is_some() {
                    self.event("session forgotten");
                    self.note(format_args!("broker {which} forgets the session"));
                }
            }
            Incident::Restart => {
                let which = self.random.usize(..2);
                self.event("broker restarted");
                self.note(format_args!("broker {which} is restarted"));
                for number in self.links_to(which) {
                    self.with_link(number, |world, link| {
                        world.cut(link);
                        world.broker_loses(link);
                    });
                }
                self.brokers[which].session = None;
            }
            Incident::Outage => {
                let which = self.random.usize(..2);
                let broker = &mut self.brokers[which];
                broker.is_up = !broker.is_up;
                let is_up = broker.is_up;
                self.event("broker unreachable or back");
                self.note(format_args!("broker {which} is up: {is_up}"));
            }
            _ => {
                self.with_link(newest, |world, link| {
                    if link.is_dropped || link.end.is_some() {
                        return;
                    }
                    world.note(format_args!("{newest}: {incident:?}"));
                    world.disturb(link, incident);
                });
            }
        }
    }

    fn disturb(&mut self, link: &mut Link, incident: Incident) {
        match incident {
            Incident::Cut => {
                self.event("cut");
                self.cut(link);
            }
            Incident::HalfOpen | Incident::LostToBroker | Incident::LostToClient => {
                self.event("half-open");
                link.is_disturbed = true;
                if incident != Incident::LostToClient {
                    link.to_broker.lose(0);
                    // The publisher does not wait for room any more.
                    if let Some(writer) = link.writer.take() {
                        writer.wake();
                    }
                }
                if incident != Incident::LostToBroker {
                    link.to_client.lose(0);
                }
            }
            Incident::Stall => {
                self.event("stall");
                link.is_disturbed = true;
                let until = self.now() + self.random.u64(..STALL_MS);
                let direction = self.pick(&[Direction::ToBroker, Direction::ToClient]);
                link.pipe(direction).stalled_until = until;
            }
            Incident::HangUp => {
                self.event("closed by the broker");
                let code = self.pick(&[None, Some(0), Some(0x89), Some(0x8B), Some(0x97), Some(0x98)]);
                self.end_by_broker(link, code);
            }
            Incident::Takeover => {
                // Rare, because it ends the session.
                if self.random.u8(..4) == 0 {
                    self.end_by_broker(link, Some(0x8E));
                }
            }
            Incident::Violation => {
                self.event("packet that no broker may send");
                self.send_violation(link);
            }
            Incident::Forget | Incident::Restart | Incident::Outage => {}
        }
    }

    /// Cuts a connection; bytes in transit arrive up to any position.
    fn cut(&mut self, link: &mut Link) {
        if link.served.is_none() && link.end.is_some() {
            return;
        }
        if link.to_broker.bytes + link.to_client.bytes > 0 {
            self.reach("bytes lost in a cut");
        }
        let kept = self.random.usize(..=link.to_client.bytes);
        let bytes = link.to_client.lose(kept);
        link.deliver(&bytes);
        let kept = self.random.usize(..=link.to_broker.bytes);
        let bytes = link.to_broker.lose(kept);
        self.broker_reads(link, &bytes);
        let end = self.pick(&[End::Closed, End::Reset]);
        link.end(end);
        if link.served.is_some() {
            self.schedule_in(NOTICE_MS, Due::Noticed(link.number));
        }
    }

    /// Ends a connection from the broker's side.
    fn end_by_broker(&mut self, link: &mut Link, farewell: Option<u8>) {
        if !link.served.as_ref().is_some_and(|served| served.is_accepted) {
            return;
        }
        if let Some(code) = farewell {
            let is_short = self.random.bool();
            self.reach(if is_short { "DISCONNECT without properties" } else { "DISCONNECT with properties" });
            self.send(link, &packet::disconnect(code, is_short));
        }
        self.hang_up(link);
    }

    /// Sends something that violates MQTT.
    fn send_violation(&mut self, link: &mut Link) {
        let Some(served) = &link.served else { return };
        if !served.is_accepted {
            return;
        }
        let topic = "s/0";
        let bytes = match self.random.u8(..7) {
            0 => Publish::new(topic, "x").qos(2).id(7).encode(Version::V5),
            1 => vec![0x36, 8, 0, 3, b's', b'/', b'0', 0, 7, 0],
            2 => packet::connack(true, 0, &[]),
            3 => vec![0xC0, 0],
            4 => vec![0x30, 0x80, 0x80, 0x80, 0x80, 1],
            5 => vec![0x30, 6, 0, 2, 0xC3, 0x28, 0, b'x'],
            _ => {
                let size = self.record.max_packet as usize;
                rantai_testing::frame(0x30, &vec![0; size])
            }
        };
        self.send(link, &bytes);
    }
}
