//! Attacks by connections and sessions: many, short, unfinished, taken over from each other, or abandoned.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use rantai_testing::{Connect, Property, Publish, Version, Will, disconnect};

use super::attacker::Attacker;
use super::feed::{Feed, feed};
use super::packets::{read_silently, unfinished_publish};
use crate::wire::{Wire, wait};

/// Length of a packet that is never finished.
const UNFINISHED: u32 = 2_000_000;

pub(crate) fn connect_storm(attacker: &Attacker) -> io::Result<()> {
    let mut rate = attacker.rate(1_000);
    while rate.take(1) {
        let mut wire = attacker.connect(&attacker.hello())?;
        wire.out().extend(disconnect(Version::V5, 0, &[]));
        wire.flush()?;
    }
    Ok(())
}

pub(crate) fn reset_storm(attacker: &Attacker) -> io::Result<()> {
    let mut rate = attacker.rate(500);
    while rate.take(1) {
        let mut wire = attacker.connect(&attacker.hello())?;
        attacker.subscribe(&mut wire, &[("abuse/reset/#", 1)])?;
        wire.reset()?;
    }
    Ok(())
}

pub(crate) fn wrong_passwords(attacker: &Attacker) -> io::Result<()> {
    guess(attacker, 2_000, Attacker::hello)
}

pub(crate) fn wrong_passwords_long_ids(attacker: &Attacker) -> io::Result<()> {
    guess(attacker, 500, |attacker| {
        let id = format!("{}\n\u{1b}[31m{}", attacker.number(), "x".repeat(65_000));
        attacker.hello().id(&id)
    })
}

/// Guesses passwords, each on a connection of its own, with up to 200 unanswered attempts.
fn guess(attacker: &Attacker, per_second: usize, hello: impl Fn(&Attacker) -> Connect) -> io::Result<()> {
    let mut rate = attacker.rate(per_second);
    let mut open: VecDeque<Wire> = VecDeque::new();
    while rate.take(1) {
        let mut wire = attacker.open()?;
        let password = format!("{:x}", attacker.random());
        wire.out().extend(hello(attacker).password(&password).encode());
        // The broker decides whether to refuse, delay or disconnect it.
        let _ = wire.flush();
        open.push_back(wire);
        if open.len() > 200 {
            open.pop_front();
        }
    }
    Ok(())
}

pub(crate) fn long_client_ids(attacker: &Attacker) -> io::Result<()> {
    let mut rate = attacker.rate(200);
    let mut open = Vec::new();
    while rate.take(1) {
        let id = format!("{}{}", attacker.number(), "x".repeat(65_000));
        open.push(attacker.connect(&attacker.hello().id(&id))?);
    }
    Ok(())
}

pub(crate) fn half_open_connects(attacker: &Attacker) -> io::Result<()> {
    let hello = attacker.hello().encode();
    hold(attacker, 2_000, |attacker| {
        let mut wire = attacker.open()?;
        attacker.push(&mut wire, &hello[..hello.len() / 2])?;
        Ok(wire)
    })
}

pub(crate) fn idle_connections(attacker: &Attacker) -> io::Result<()> {
    hold(attacker, 4_000, |attacker| attacker.connect(&attacker.hello()))
}

/// Opens `most` connections and keeps them open; opens new ones if the broker closes or refuses some.
fn hold(attacker: &Attacker, most: usize, open: impl Fn(&Attacker) -> io::Result<Wire>) -> io::Result<()> {
    let mut rate = attacker.rate(1_000);
    let mut held = vec![open(attacker)?];
    while rate.take(1) {
        if held.len() < attacker.scaled(most) {
            held.extend(open(attacker));
        }
    }
    Ok(())
}

pub(crate) fn trickle_writers(attacker: &Attacker) -> io::Result<()> {
    let mut wires = Vec::new();
    for _ in 0..attacker.scaled(500) {
        let mut wire = attacker.connect(&attacker.hello().keep_alive(1))?;
        attacker.push(&mut wire, &unfinished_publish("abuse/trickle", UNFINISHED))?;
        wires.push(wire);
    }
    let mut rate = attacker.rate(1);
    while rate.take(1) {
        for wire in &mut wires {
            // Fails if the broker has closed the connection.
            let _ = attacker.push(wire, b"x");
        }
    }
    Ok(())
}

pub(crate) fn cut_packets(attacker: &Attacker) -> io::Result<()> {
    let mut bytes = unfinished_publish("abuse/cut", UNFINISHED);
    bytes.resize(100_000, b'x');
    let mut rate = attacker.rate(100);
    while rate.take(1) {
        let mut wire = attacker.connect(&attacker.hello())?;
        attacker.push(&mut wire, &bytes)?;
    }
    Ok(())
}

pub(crate) fn will_storm(attacker: &Attacker) -> io::Result<()> {
    let mut reader = attacker.connect(&attacker.hello())?;
    attacker.subscribe(&mut reader, &[("abuse/will/#", 0)])?;
    let mut rate = attacker.rate(500);
    while rate.take(1) {
        let will = Will::new("abuse/will/gone", &[b'x'; 10_000]).qos(1);
        attacker.connect(&attacker.hello().will(will))?.reset()?;
        read_silently(&mut reader)?;
    }
    Ok(())
}

pub(crate) fn delayed_wills(attacker: &Attacker) -> io::Result<()> {
    let mut rate = attacker.rate(500);
    while rate.take(1) {
        let will = Will::new("abuse/will/later", &[b'x'; 10_000]).qos(1);
        let will = will.property(Property::WillDelay(attacker.seconds_left()));
        attacker.connect(&attacker.persistent().will(will))?.reset()?;
    }
    Ok(())
}

pub(crate) fn session_storm(attacker: &Attacker) -> io::Result<()> {
    let mut rate = attacker.rate(500);
    while rate.take(1) {
        let mut wire = attacker.connect(&attacker.persistent())?;
        let filter = format!("abuse/session/{}", attacker.number());
        attacker.subscribe(&mut wire, &[(&filter, 1)])?;
    }
    Ok(())
}

pub(crate) fn absent_sessions(attacker: &Attacker) -> io::Result<()> {
    for _ in 0..attacker.scaled(200) {
        let mut wire = attacker.connect(&attacker.persistent())?;
        attacker.subscribe(&mut wire, &[("abuse/absent", 1)])?;
    }
    feed(attacker, 200, |_| Publish::new("abuse/absent", &[b'x'; 1_000]).qos(1))
}

pub(crate) fn takeover_war(attacker: &Attacker) -> io::Result<()> {
    let hello = attacker.persistent().id("abuse-contested");
    let mut rate = attacker.rate(1_000);
    let mut wires = VecDeque::new();
    while rate.take(1) {
        wires.push_back(attacker.connect(&hello)?);
        if wires.len() > 4 {
            wires.pop_front();
        }
    }
    Ok(())
}

pub(crate) fn resumption_storm(attacker: &Attacker) -> io::Result<()> {
    let hello = attacker.persistent().id("abuse-resumed");
    let mut reader = attacker.connect(&hello)?;
    attacker.subscribe(&mut reader, &[("abuse/resumed", 1)])?;
    drop(reader);
    let mut feed = Feed::open(attacker)?;
    for _ in 0..attacker.scaled(5_000) {
        feed.add(Publish::new("abuse/resumed", &[b'x'; 100]).qos(1));
        if attacker.is_over() {
            return Ok(());
        }
        feed.send()?;
    }
    // Each time, all messages in flight are sent again, and none is acknowledged.
    let mut rate = attacker.rate(50);
    while rate.take(1) {
        let mut wire = attacker.connect(&hello)?;
        let leave = Instant::now() + Duration::from_millis(5);
        wait(&[&wire], leave)?;
        read_silently(&mut wire)?;
    }
    Ok(())
}
