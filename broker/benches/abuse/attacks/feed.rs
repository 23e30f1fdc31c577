//! Publisher of an attacker that respects the broker's limits: only its messages are harmful.

use std::io;
use std::time::Duration;

use rantai_testing::{Publish, Version};

use super::attacker::Attacker;
use super::packets::read_all;
use crate::wire::Wire;

/// Maximum number of unacknowledged messages, below the Receive Maximum that the broker grants.
const WINDOW: usize = 900;
/// Maximum number of writes per second. Messages that are due in between are sent together.
const WRITES_PER_S: usize = 500;

/// Publisher after its CONNACK.
#[derive(Debug)]
pub(crate) struct Feed<'a> {
    attacker: &'a Attacker,
    wire: Wire,
    batch: Vec<u8>,
    open: usize,
    packet_id: u16,
}

impl<'a> Feed<'a> {
    pub(crate) fn open(attacker: &'a Attacker) -> io::Result<Self> {
        let wire = attacker.connect(&attacker.hello())?;
        Ok(Self { attacker, wire, batch: Vec::new(), open: 0, packet_id: 0 })
    }

    /// Adds a message to the next write.
    pub(crate) fn add(&mut self, message: Publish) {
        let packet_id = self.next_packet_id(message.qos);
        self.batch.extend(message.id(packet_id).encode(Version::V5));
    }

    /// Adds an encoded message at QoS 1.
    pub(crate) fn add_raw(&mut self, message: impl FnOnce(u16) -> Vec<u8>) {
        let packet_id = self.next_packet_id(1);
        self.batch.extend(message(packet_id));
    }

    fn next_packet_id(&mut self, qos: u8) -> u16 {
        if qos == 0 {
            return 0;
        }
        self.open += 1;
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.packet_id
    }

    /// Sends all added messages, and waits until the broker has accepted them and most are acknowledged.
    pub(crate) fn send(&mut self) -> io::Result<()> {
        while !self.attacker.push(&mut self.wire, &self.batch)? {
            self.read()?;
            if self.attacker.is_over() {
                return Ok(());
            }
        }
        self.batch.clear();
        loop {
            self.read()?;
            if self.attacker.is_over() || (self.open <= WINDOW && self.wire.unsent() == 0) {
                return Ok(());
            }
            self.attacker.sleep(Duration::from_millis(1));
        }
    }

    fn read(&mut self) -> io::Result<()> {
        self.open = self.open.saturating_sub(read_all(&mut self.wire)?);
        Ok(())
    }
}

/// Publishes `message(number)` a number of times per second until the attack is over.
pub(crate) fn feed(
    attacker: &Attacker,
    per_second: usize,
    message: impl Fn(u64) -> Publish,
) -> io::Result<()> {
    feed_while(attacker, per_second, message, || Ok(()))
}

/// Same as [`feed`]. After each write, `meanwhile` runs the attacker's other clients.
pub(crate) fn feed_while(
    attacker: &Attacker,
    per_second: usize,
    message: impl Fn(u64) -> Publish,
    mut meanwhile: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let mut feed = Feed::open(attacker)?;
    let mut rate = attacker.rate(per_second);
    let batch = attacker.scaled(per_second.div_ceil(WRITES_PER_S));
    let mut number = 0;
    while rate.take(batch) {
        for _ in 0..batch {
            feed.add(message(number));
            number += 1;
        }
        feed.send()?;
        meanwhile()?;
    }
    Ok(())
}
