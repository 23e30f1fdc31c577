//! Attacks by retained messages: many, large, or read with filters that match few of many. All expire after the
//! attack.

use std::io;
use std::time::Duration;

use rantai_testing::{Property, Publish, Version, subscribe};

use super::attacker::Attacker;
use super::feed::{Feed, feed};
use super::packets::read_silently;

/// Number of topics that are searched by reads, with several levels each.
const SEARCHED_TOPICS: usize = 20_000;
/// Number of topics that are set and cleared repeatedly.
const CHURNED_TOPICS: u64 = 1_000;

fn retained(attacker: &Attacker, topic: &str, payload: &[u8]) -> Publish {
    let expiry = Property::MessageExpiry(attacker.seconds_left());
    Publish::new(topic, payload).qos(1).retain().property(expiry)
}

pub(crate) fn retained_count(attacker: &Attacker) -> io::Result<()> {
    feed(attacker, 10_000, |_| retained(attacker, &format!("abuse/kept/{}", attacker.number()), b"x"))
}

pub(crate) fn retained_bytes(attacker: &Attacker) -> io::Result<()> {
    let payload = vec![b'x'; 1_900_000];
    feed(attacker, 10, |_| retained(attacker, &format!("abuse/kept/{}", attacker.number()), &payload))
}

pub(crate) fn retained_churn(attacker: &Attacker) -> io::Result<()> {
    feed(attacker, 10_000, |number| {
        let topic = format!("abuse/churned/{}", number % CHURNED_TOPICS);
        let payload: &[u8] = if (number / CHURNED_TOPICS).is_multiple_of(2) { b"set" } else { b"" };
        retained(attacker, &topic, payload)
    })
}

/// Creates the topics that the reads search, as fast as they are acknowledged: this is not part of the attack.
fn keep(attacker: &Attacker) -> io::Result<()> {
    let mut feed = Feed::open(attacker)?;
    for number in 0..attacker.scaled(SEARCHED_TOPICS) {
        let topic = format!("abuse/{}/{}/{}/x/n{number}", number % 7, number % 11, number % 13);
        feed.add(retained(attacker, &topic, b"x"));
        if number % 100 == 99 {
            feed.send()?;
        }
        if attacker.is_over() {
            break;
        }
    }
    feed.send()
}

/// Reads the topics repeatedly, with SUBSCRIBE packets of these filters, without waiting for the messages. With
/// `takes`, the client reads what it receives.
fn read(attacker: &Attacker, per_second: usize, filters: &[String], takes: bool) -> io::Result<()> {
    keep(attacker)?;
    let options: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    let packet = subscribe(Version::V5, 1, &options);
    let mut rate = attacker.rate(per_second);
    while !attacker.is_over() {
        let mut wire = attacker.greet(attacker.open_narrow()?, &attacker.hello())?;
        // Four packets on each connection.
        for _ in 0..4 {
            if !rate.take(1) {
                return Ok(());
            }
            attacker.push(&mut wire, &packet)?;
            if takes {
                read_silently(&mut wire)?;
            }
        }
        attacker.sleep(Duration::from_millis(100));
    }
    Ok(())
}

pub(crate) fn retained_search(attacker: &Attacker) -> io::Result<()> {
    let filters: Vec<_> = (0..attacker.scaled(1_000)).map(|number| format!("+/+/+/+/+/n{number}")).collect();
    read(attacker, 4, &filters, true)
}

pub(crate) fn retained_read_unread(attacker: &Attacker) -> io::Result<()> {
    read(attacker, 20, &["#".to_owned()], false)
}
