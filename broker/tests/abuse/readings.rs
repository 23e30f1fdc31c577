//! Checks of the state that the broker reports.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rantai_testing::{Connect, Packet, Socket, Version, pingreq, subscribe};

use crate::honest::{PASSWORD, USER};

/// Topics of `$SYS`, and their values when the only client left is the one that reads them.
const NOTHING_LEFT: [(&str, &str); 3] = [
    ("$SYS/broker/clients/total", "1"),
    ("$SYS/broker/subscriptions/count", "3"),
    ("$SYS/broker/retained messages/count", "0"),
];

/// Waits until the broker has no session, subscription or retained message of other clients. Also checks that it
/// answers a ping.
pub(crate) fn await_readings(broker: SocketAddr, wait: Duration) {
    let deadline = Instant::now() + wait;
    let mut socket = Socket::open(broker, Version::V5).expect("the broker takes connections");
    let connect = Connect::new(Version::V5).user(USER).password(PASSWORD);
    socket.send(&connect.encode()).expect("the broker reads");
    socket.send(&subscribe(Version::V5, 1, &NOTHING_LEFT.map(|(topic, _)| (topic, 0)))).expect("it reads");
    socket.send(&pingreq()).expect("it reads");
    let (mut readings, mut answered) = (HashMap::new(), false);
    let is_clear = |readings: &HashMap<String, String>| {
        NOTHING_LEFT.iter().all(|(topic, value)| readings.get(*topic).is_some_and(|reading| reading == value))
    };
    while !answered || !is_clear(&readings) {
        let left = deadline.saturating_duration_since(Instant::now());
        match socket.receive(left).expect("the broker keeps the connection") {
            Some(Packet::Publish(message)) => {
                readings.insert(message.topic.clone(), message.text().to_owned());
            }
            Some(Packet::Pingresp) => answered = true,
            Some(_) => {}
            None => panic!("ping answered: {answered}; still kept: {readings:?}"),
        }
        assert!(Instant::now() < deadline, "ping answered: {answered}; still kept: {readings:?}");
    }
}
