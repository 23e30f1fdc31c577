//! Attacks by readers that are absent, slow, or never acknowledge, so that their messages accumulate.

use std::io;
use std::time::{Duration, Instant};

use rantai_testing::{Property, Publish};

use super::attacker::Attacker;
use super::feed::{feed, feed_while};
use super::packets::{read_all, read_silently};
use crate::wire::Wire;

/// Filter of all topics, as used by recorders and consoles.
const ALL: &str = "#";
const TOPIC: &str = "abuse/stream";

fn small(_: u64) -> Publish {
    Publish::new(TOPIC, &[b'x'; 100]).qos(1)
}

/// Creates a persistent subscriber of all topics, and disconnects it.
fn forget_subscriber(attacker: &Attacker) -> io::Result<()> {
    let mut wire = attacker.connect(&attacker.persistent())?;
    attacker.subscribe(&mut wire, &[(ALL, 1)])
}

pub(crate) fn forgotten_subscriber(attacker: &Attacker) -> io::Result<()> {
    forget_subscriber(attacker)?;
    feed(attacker, 20_000, small)
}

pub(crate) fn forgotten_subscriber_large(attacker: &Attacker) -> io::Result<()> {
    forget_subscriber(attacker)?;
    let payload = vec![b'x'; 1_900_000];
    feed(attacker, 20, |_| Publish::new(TOPIC, &payload).qos(1))
}

pub(crate) fn expiring_messages(attacker: &Attacker) -> io::Result<()> {
    forget_subscriber(attacker)?;
    feed(attacker, 10_000, |number| small(number).property(Property::MessageExpiry(1)))
}

/// Returns a connected subscriber of all topics with the smallest possible receive buffer.
fn narrow_reader(attacker: &Attacker, receive_maximum: u16, qos: u8) -> io::Result<Wire> {
    let hello = attacker.hello().property(Property::ReceiveMaximum(receive_maximum));
    let mut wire = attacker.greet(attacker.open_narrow()?, &hello)?;
    attacker.subscribe(&mut wire, &[(ALL, qos)])?;
    Ok(wire)
}

pub(crate) fn never_reads(attacker: &Attacker) -> io::Result<()> {
    let _reader = narrow_reader(attacker, u16::MAX, 1)?;
    feed(attacker, 10_000, small)
}

pub(crate) fn never_reads_qos0(attacker: &Attacker) -> io::Result<()> {
    let _reader = narrow_reader(attacker, u16::MAX, 0)?;
    feed(attacker, 10_000, |_| Publish::new(TOPIC, &[b'x'; 1_000]))
}

pub(crate) fn never_acknowledges(attacker: &Attacker) -> io::Result<()> {
    let mut reader = narrow_reader(attacker, 1, 1)?;
    feed_while(attacker, 20_000, small, || read_silently(&mut reader))
}

pub(crate) fn trickle_reader(attacker: &Attacker) -> io::Result<()> {
    let mut reader = narrow_reader(attacker, u16::MAX, 1)?;
    let mut next = Instant::now();
    feed_while(attacker, 10_000, small, || {
        if Instant::now() >= next {
            next += Duration::from_secs(1);
            reader.fill(1)?;
        }
        Ok(())
    })
}

pub(crate) fn slow_onlooker(attacker: &Attacker) -> io::Result<()> {
    let mut reader = narrow_reader(attacker, 100, 1)?;
    let mut next = Instant::now();
    feed_while(attacker, 5_000, small, || {
        // A hundred messages per tenth of a second: it never catches up, and never stops reading.
        if Instant::now() >= next {
            next += Duration::from_millis(100);
            read_all(&mut reader)?;
        }
        Ok(())
    })
}

fn request(number: u64) -> Publish {
    Publish::new("abuse/call/work", &number.to_string())
        .qos(1)
        .property(Property::ResponseTopic("abuse/reply".to_owned()))
}

pub(crate) fn group_member_never_acknowledges(attacker: &Attacker) -> io::Result<()> {
    let filters = [("$share/abuse/abuse/call/#", 1), ("$share/abuse/honest/none/#", 1)];
    let mut greedy = attacker.connect(&attacker.hello())?;
    attacker.subscribe(&mut greedy, &filters)?;
    let mut willing = attacker.connect(&attacker.hello())?;
    attacker.subscribe(&mut willing, &filters)?;
    feed_while(attacker, 2_000, request, || {
        read_all(&mut willing)?;
        read_silently(&mut greedy)
    })
}

pub(crate) fn absent_group(attacker: &Attacker) -> io::Result<()> {
    for _ in 0..4 {
        let mut member = attacker.connect(&attacker.persistent())?;
        attacker.subscribe(&mut member, &[("$share/abuse/#", 1)])?;
    }
    feed(attacker, 10_000, request)
}
