//! Attacks by subscriptions that are expensive to keep, to match or to remove.

use std::io;

use rantai_load::packet::{SUBACK, UNSUBACK};
use rantai_testing::{Publish, Version, subscribe, unsubscribe};

use super::attacker::Attacker;
use super::feed::feed_while;
use super::packets::read_silently;
use super::rate::Rate;
use crate::wire::Wire;

/// Number of filters in one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 500;

/// Subscribes to filters as fast as the rate allows, waiting for each answer. Returns whether all were sent.
fn subscribe_each(
    attacker: &Attacker,
    wire: &mut Wire,
    rate: &mut Rate<'_>,
    filters: impl Iterator<Item = String>,
) -> io::Result<bool> {
    let filters: Vec<String> = filters.collect();
    for some in filters.chunks(FILTERS_PER_PACKET) {
        if !rate.take(some.len()) {
            return Ok(false);
        }
        let some: Vec<_> = some.iter().map(|filter| (filter.as_str(), 1)).collect();
        attacker.subscribe(wire, &some)?;
    }
    Ok(true)
}

/// Several clients with filters of their own connect, subscribe, and disconnect all at once.
fn connect_subscribe_and_disconnect(
    attacker: &Attacker,
    clients: usize,
    filters: usize,
    filter: impl Fn(usize) -> String,
) -> io::Result<()> {
    let mut rate = attacker.rate(40_000);
    let filters = attacker.scaled(filters);
    while !attacker.is_over() {
        let mut wires = Vec::new();
        for client in 0..clients {
            let mut wire = attacker.connect(&attacker.hello())?;
            let numbers = client * filters..(client + 1) * filters;
            if !subscribe_each(attacker, &mut wire, &mut rate, numbers.map(&filter))? {
                return Ok(());
            }
            wires.push(wire);
        }
    }
    Ok(())
}

pub(crate) fn share_groups(attacker: &Attacker) -> io::Result<()> {
    connect_subscribe_and_disconnect(attacker, 4, 10_000, |number| {
        format!("$share/group{number}/abuse/shared")
    })
}

pub(crate) fn deep_filters(attacker: &Attacker) -> io::Result<()> {
    // 127 levels; no other filter shares more than the first one.
    let levels = "/l".repeat(125);
    connect_subscribe_and_disconnect(attacker, 1, 10_000, |number| format!("abuse/{number}{levels}"))
}

pub(crate) fn many_filters(attacker: &Attacker) -> io::Result<()> {
    connect_subscribe_and_disconnect(attacker, 1, 10_000, |number| format!("abuse/{number}/+"))
}

pub(crate) fn overlapping_filters(attacker: &Attacker) -> io::Result<()> {
    // Each level is that of the topic or `+`, so that all of these filters match.
    let filter = |number: usize| {
        let levels = (0..10).map(|level| if number >> level & 1 == 0 { "+" } else { "o" });
        levels.collect::<Vec<_>>().join("/")
    };
    let mut reader = attacker.connect(&attacker.hello())?;
    let mut rate = attacker.rate(20_000);
    let filters = (0..attacker.scaled(1_024)).map(filter);
    if !subscribe_each(attacker, &mut reader, &mut rate, filters)? {
        return Ok(());
    }
    let topic = ["o"; 10].join("/");
    feed_while(attacker, 2_000, |_| Publish::new(&topic, &[b'x'; 100]), || read_silently(&mut reader))
}

/// Subscribes and unsubscribes repeatedly, waiting for the answer to each packet.
fn subscribe_and_unsubscribe(attacker: &Attacker, filters: &[String]) -> io::Result<()> {
    let mut wire = attacker.connect(&attacker.hello())?;
    let mut rate = attacker.rate(20_000);
    let names: Vec<&str> = filters.iter().map(String::as_str).collect();
    let options: Vec<_> = names.iter().map(|name| (*name, 1)).collect();
    while rate.take(filters.len()) {
        attacker.request(&mut wire, &subscribe(Version::V5, 1, &options), SUBACK)?;
        attacker.request(&mut wire, &unsubscribe(Version::V5, 2, &names), UNSUBACK)?;
    }
    Ok(())
}

pub(crate) fn subscription_churn(attacker: &Attacker) -> io::Result<()> {
    let filters: Vec<_> = (0..100).map(|number| format!("abuse/churn/{number}")).collect();
    subscribe_and_unsubscribe(attacker, &filters)
}

pub(crate) fn wildcard_churn(attacker: &Attacker) -> io::Result<()> {
    let filters: Vec<_> =
        (1..100).map(|levels| format!("{}#", "+/".repeat(levels))).chain(["#".to_owned()]).collect();
    subscribe_and_unsubscribe(attacker, &filters)
}

pub(crate) fn own_values_churn(attacker: &Attacker) -> io::Result<()> {
    subscribe_and_unsubscribe(attacker, &["$SYS/#".to_owned(), "$SYS/+/+/+".to_owned()])
}
