//! `rantai doctor` leaves no traces, changes nothing that it did not create, and does not disturb another examination.

use std::thread;

use rantai_testing::{Connect, Packet, Publish, Socket, Version, pingreq};
use rustix::process::Signal;

use super::doctor::{broker_of, doctor, examine, next, retained, socket};
use super::process::Server;

#[test]
fn interrupted_doctor_leaves_no_traces() {
    let (_broker, url) = broker_of("");
    for (messages, signal) in [(0, Signal::TERM), (1, Signal::INT), (25, Signal::TERM), (120, Signal::TERM)] {
        let mut watching = socket(&url, None);
        let mut doctor = Server::spawn(&mut doctor(&url, &[]));
        let mut seen = 0;
        while seen < messages {
            // Ignores entry and state of the broker's own object.
            if let Packet::Publish(message) = next(&mut watching)
                && !["rantai/name/broker/", "rantai/node/node-"]
                    .iter()
                    .any(|own| message.topic.starts_with(own))
            {
                seen += 1;
            }
        }
        drop(watching);
        doctor.signal(signal);
        // Before its handlers are installed, a signal ends the process at once.
        if messages > 0 {
            assert_eq!(doctor.exit_code(), 130, "{:?}", doctor.said());
        } else {
            drop(doctor);
        }
        assert_eq!(retained(&url, None), [], "after {messages} messages");
    }
}

#[test]
fn the_session_that_waits_for_a_message_ends_with_the_examination() {
    let (_broker, url) = broker_of("");
    let mut watching = socket(&url, None);
    let mut doctor = Server::spawn(&mut doctor(&url, &[]));
    // The message for the session is sent while its client is disconnected.
    let topic = loop {
        if let Packet::Publish(message) = next(&mut watching)
            && message.payload == b"missed"
        {
            break message.topic;
        }
    };
    doctor.signal(Signal::TERM);
    assert_eq!(doctor.exit_code(), 130, "{:?}", doctor.said());
    let client = topic.split('/').find(|level| level.starts_with("doctor-") && !topic.starts_with(*level));
    let client = client.expect("the id of a client");
    let address = url.trim_start_matches("mqtt://").parse().expect("an address");
    let mut again = Socket::open(address, Version::V5).expect("connected");
    again.send(&Connect::new(Version::V5).id(client).resume().encode()).expect("sent");
    match next(&mut again) {
        Packet::Connack(connack) => assert!(!connack.session_present, "{client}: {connack:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn doctor_does_not_touch_objects_named_doctor() {
    let (_broker, url) = broker_of("");
    let names = ["doctor", "doctor-1", "doctor-abcdefgh-1", "doctor-forged"];
    let topics = names.iter().flat_map(|name| {
        ["doctor", "rantai/name", "rantai/node", "rantai/call", "rantai/reply"]
            .map(|root| format!("{root}/{name}/doctor-2"))
    });
    let topics: Vec<String> = topics.chain(names.map(ToOwned::to_owned)).collect();
    let mut socket = socket(&url, None);
    for (id, topic) in (1..).zip(&topics) {
        let message = Publish::new(topic, "theirs").qos(1).retain().id(id);
        socket.send(&message.encode(Version::V5)).expect("sent");
    }
    // Each message arrives at this client as well.
    let mut came = 0;
    let mut acknowledged = 0;
    while came < topics.len() || acknowledged < topics.len() {
        match next(&mut socket) {
            Packet::Publish(message) if !topics.contains(&message.topic) => {}
            Packet::Publish(_) => came += 1,
            _ => acknowledged += 1,
        }
    }
    let before = retained(&url, None);
    assert_eq!(before.len(), topics.len(), "{before:#?}");
    let examined = examine(&url, &["--load=300"]);
    assert_eq!(examined.code, 2, "{examined:#?}");
    socket.send(&pingreq()).expect("sent");
    loop {
        match next(&mut socket) {
            Packet::Publish(message) => assert!(!topics.contains(&message.topic), "{message:?}"),
            Packet::Pingresp => break,
            other => panic!("{other:?}"),
        }
    }
    let sorted = |mut messages: Vec<Publish>| {
        messages.sort_by(|one, other| one.topic.cmp(&other.topic));
        messages
    };
    assert_eq!(sorted(retained(&url, None)), sorted(before));
}

#[test]
fn concurrent_examinations_have_the_same_findings() {
    let (_broker, url) = broker_of("");
    let alone = examine(&url, &[]);
    thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| examine(&url, &["--load=500"])));
        for examined in both.map(|one| one.join().expect("examined")) {
            for (id, state) in alone.states("") {
                assert_eq!(examined.state(id), state, "{id}: {examined:#?}");
            }
        }
    });
    assert_eq!(retained(&url, None), []);
}
