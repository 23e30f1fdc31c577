//! Attacks by floods of valid and invalid packets.

use std::io;

use rantai_load::packet::PINGREQ;
use rantai_testing::{Property, Publish, Version, ack, subscribe};

use super::attacker::Attacker;
use super::feed::{Feed, feed, feed_while};
use super::packets::{publish_with, read_silently};
use crate::wire::Wire;

/// Number of bytes per write of a flood.
const WRITE_BYTES: usize = 16 << 10;
/// Rate of a flood of small packets, in bytes per second.
const FLOOD_BYTES_PER_S: usize = 8 << 20;

/// Sends packets one after another, and reads no answers.
fn flood_unread(
    attacker: &Attacker,
    bytes_per_second: usize,
    packet: impl Fn(u16) -> Vec<u8>,
) -> io::Result<()> {
    let mut wire = attacker.greet(attacker.open_narrow()?, &attacker.hello())?;
    let mut rate = attacker.rate(bytes_per_second);
    let (mut id, mut chunk) = (0_u16, Vec::new());
    while rate.take(WRITE_BYTES) {
        chunk.clear();
        while chunk.len() < WRITE_BYTES {
            id = id.checked_add(1).unwrap_or(1);
            chunk.extend(packet(id));
        }
        while !attacker.push(&mut wire, &chunk)? && !attacker.is_over() {}
    }
    Ok(())
}

pub(crate) fn pubrel_unread(attacker: &Attacker) -> io::Result<()> {
    flood_unread(attacker, FLOOD_BYTES_PER_S, |id| ack(6, Version::V5, id, 0))
}

pub(crate) fn pingreq_unread(attacker: &Attacker) -> io::Result<()> {
    flood_unread(attacker, FLOOD_BYTES_PER_S, |_| PINGREQ.to_vec())
}

pub(crate) fn subscribe_unread(attacker: &Attacker) -> io::Result<()> {
    flood_unread(attacker, FLOOD_BYTES_PER_S / 4, |id| subscribe(Version::V5, id, &[("abuse/again", 1)]))
}

pub(crate) fn publish_unread(attacker: &Attacker) -> io::Result<()> {
    flood_unread(attacker, FLOOD_BYTES_PER_S / 4, |id| {
        Publish::new("abuse/unread", "x").qos(1).id(id).encode(Version::V5)
    })
}

pub(crate) fn publish_storm_qos0(attacker: &Attacker) -> io::Result<()> {
    feed(attacker, 30_000, |_| Publish::new("abuse/storm", &[b'x'; 200]))
}

pub(crate) fn publish_storm_qos1(attacker: &Attacker) -> io::Result<()> {
    feed(attacker, 20_000, |_| Publish::new("abuse/storm", &[b'x'; 200]).qos(1))
}

pub(crate) fn large_packets(attacker: &Attacker) -> io::Result<()> {
    let payload = vec![b'x'; 1_900_000];
    feed(attacker, 100, |_| Publish::new("abuse/large", &payload))
}

pub(crate) fn fan_out(attacker: &Attacker) -> io::Result<()> {
    let mut readers: Vec<Wire> = Vec::new();
    for _ in 0..attacker.scaled(1_000) {
        let mut reader = attacker.connect(&attacker.hello())?;
        attacker.subscribe(&mut reader, &[("abuse/fan", 0)])?;
        readers.push(reader);
    }
    feed_while(
        attacker,
        20,
        |_| Publish::new("abuse/fan", &[b'x'; 100]),
        || readers.iter_mut().try_for_each(read_silently),
    )
}

pub(crate) fn qos2_unreleased(attacker: &Attacker) -> io::Result<()> {
    let mut wire = attacker.connect(&attacker.hello())?;
    let mut rate = attacker.rate(2_000);
    for id in 1..=u16::MAX {
        if !rate.take(1) {
            break;
        }
        attacker
            .push(&mut wire, &Publish::new("abuse/twice", &[b'x'; 100]).qos(2).id(id).encode(Version::V5))?;
        read_silently(&mut wire)?;
    }
    Ok(())
}

pub(crate) fn alias_churn(attacker: &Attacker) -> io::Result<()> {
    let long = "x".repeat(60_000);
    feed(attacker, 200, |number| {
        let alias = Property::TopicAlias((number % 10) as u16 + 1);
        Publish::new(&format!("abuse/alias/{number}/{long}"), "x").property(alias)
    })
}

pub(crate) fn user_properties(attacker: &Attacker) -> io::Result<()> {
    let mut absent = attacker.connect(&attacker.persistent())?;
    attacker.subscribe(&mut absent, &[("abuse/properties", 1)])?;
    drop(absent);
    // User property with an empty name and an empty value.
    let properties = [0x26, 0, 0, 0, 0].repeat(attacker.scaled(390_000));
    let mut feed = Feed::open(attacker)?;
    let mut rate = attacker.rate(8);
    while rate.take(1) {
        feed.add_raw(|id| publish_with("abuse/properties", id, &properties, &[]));
        feed.send()?;
    }
    Ok(())
}

pub(crate) fn random_bytes(attacker: &Attacker) -> io::Result<()> {
    let mut rate = attacker.rate(300);
    while rate.take(1) {
        let mut wire = attacker.open()?;
        if attacker.random().is_multiple_of(2) {
            wire = attacker.greet(wire, &attacker.hello())?;
        }
        let bytes: Vec<u8> = (0..64).flat_map(|_| attacker.random().to_le_bytes()).collect();
        // The broker may close the connection before it has read everything.
        let _ = attacker.push(&mut wire, &bytes);
    }
    Ok(())
}
