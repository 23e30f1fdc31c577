//! Attempts of each client to read and to write each topic, on mosquitto and on the table.

use std::collections::BTreeMap;
use std::time::Duration;

use rantai_access::{Action, Table, Who};
use rantai_testing::{Connect, Packet, Publish, Socket, Version, subscribe};

use crate::peer::{Mosquitto, PASSWORD};

pub(crate) const CLIENTS: [Who<'_>; 5] = [
    Who { user: Some("ada"), client_id: "c1" },
    Who { user: Some("bob"), client_id: "ada" },
    Who { user: Some("bob"), client_id: "b" },
    Who { user: None, client_id: "x" },
    Who { user: Some("ada"), client_id: "c/1" },
];

pub(crate) const TOPICS: [&str; 19] = [
    "a", "b", "x", "a/b", "a/x", "b/x", "b/c1", "c1/x", "ada/x", "ada/c1", "bob/ada", "bob/b", "xada/c1",
    "x/c1", "a/ada", "%u/x", "sp ace", "$own/ada", "$own/x",
];

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Result of each attempt: a sentence that describes the attempt, and whether it was allowed.
pub(crate) type Answers = BTreeMap<String, bool>;

pub(crate) fn on_table(table: &Table) -> Answers {
    let mut answers = Answers::new();
    for who in CLIENTS {
        for topic in TOPICS {
            let allowed = |action| table.decide(&who, action).is_allowed();
            answers.insert(format!("{who:?} reads {topic}"), allowed(Action::Deliver(topic)));
            answers.insert(format!("{who:?} writes {topic}"), allowed(Action::Publish(topic)));
        }
    }
    answers
}

pub(crate) fn on_mosquitto(mosquitto: &Mosquitto) -> Answers {
    let mut answers = Answers::new();
    let mut admin = connect(mosquitto, &Who { user: Some("admin"), client_id: "admin" });
    for who in CLIENTS {
        let mut client = connect(mosquitto, &who);
        let filters: Vec<_> = TOPICS.iter().chain(&["end"]).map(|topic| (*topic, 0)).collect();
        client.send(&subscribe(Version::V5, 1, &filters)).expect("sent");
        assert!(matches!(receive(&mut client), Packet::Suback(_)));
        for topic in TOPICS.iter().chain(&["end"]) {
            admin.send(&Publish::new(topic, "x").encode(Version::V5)).expect("sent");
        }
        let mut heard = Vec::new();
        loop {
            match receive(&mut client) {
                Packet::Publish(message) if message.text() == "x" => match message.topic.as_str() {
                    "end" => break,
                    topic => heard.push(topic.to_owned()),
                },
                other => panic!("{other:?}"),
            }
        }
        // The attempts to write use a second connection without subscriptions, which receives none of what it
        // publishes.
        drop(client);
        let mut client = connect(mosquitto, &who);
        for (id, topic) in (1..).zip(TOPICS) {
            answers.insert(format!("{who:?} reads {topic}"), heard.iter().any(|heard| heard == topic));
            client.send(&Publish::new(topic, "y").qos(1).id(id).encode(Version::V5)).expect("sent");
            let Packet::Puback(ack) = receive(&mut client) else { panic!("no PUBACK of {topic}") };
            answers.insert(format!("{who:?} writes {topic}"), ack.code != 0x87);
        }
    }
    answers
}

fn connect(mosquitto: &Mosquitto, who: &Who<'_>) -> Socket {
    let mut socket = Socket::open(mosquitto.address, Version::V5).expect("a connection");
    let mut connect = Connect::new(Version::V5).id(who.client_id);
    if let Some(user) = who.user {
        connect = connect.user(user).password(PASSWORD);
    }
    socket.send(&connect.encode()).expect("sent");
    let Packet::Connack(connack) = receive(&mut socket) else { panic!("no CONNACK") };
    assert_eq!(connack.code, 0, "{who:?}");
    socket
}

fn receive(socket: &mut Socket) -> Packet {
    socket.receive(ANSWER_TIMEOUT).expect("a connection").expect("an answer")
}
