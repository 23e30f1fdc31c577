//! File descriptors: those of clients that have disconnected or half-closed are released, and new clients get one.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rantai_broker::{Config, Cost, Limits, Record, User};
use rantai_testing::{
    BlockingStream, Connect, Place, Property, Publish, Version, keep_to_tcp, pingreq, subscribe,
};

use crate::client::{Client, clean};
use crate::process::{Target, serve_if_asked};

/// Limit of the broker's descriptors, of which it needs about twenty itself.
const DESCRIPTORS: usize = 64;
/// Number of bytes sent by a client that reads no answers: more than all buffers in between.
const UNREAD: usize = 32 << 20;

/// Once, sockets without a CONNECT used all descriptors until their timeout, and no other client was accepted.
#[test]
fn new_clients_connect_while_handshakes_use_every_descriptor() {
    let _tcp = keep_to_tcp("its sockets say nothing at all, not even of TLS or WebSocket");
    serve_if_asked(|| {
        let limits = Limits { connect_timeout: Duration::from_mins(10), ..Limits::default() };
        Config { limits, ..Config::on_free_port() }
    });
    let name = "descriptors::new_clients_connect_while_handshakes_use_every_descriptor";
    let target = Target::start_with_descriptors(name, DESCRIPTORS);
    let mut held = Vec::new();
    let mut honest = Vec::new();
    for number in 0..8 {
        // Fewer than the system's accept backlog.
        held.extend(
            (0..DESCRIPTORS).map(|_| TcpStream::connect(target.place().address()).expect("a backlog")),
        );
        let id = format!("honest-{number}");
        honest.push(Client::open(target.place(), &clean(Version::V5, &id)).expect("let in"));
    }
    for client in &mut honest {
        client.subscribe(&["t"], 0).expect("connected all the while");
    }
    drop((held, honest));
    target.stop();
}

fn config() -> Config {
    let limits = Limits {
        slow_reader: Duration::from_secs(1),
        queue_messages: 1,
        publish_wait: Duration::from_millis(200),
        guess_delay: Duration::from_millis(200),
        ..Limits::default()
    };
    let users = vec![User::new("ada", Some(Record::new(b"right", Cost::LOWEST).expect("hashed")))];
    Config { limits, users, anonymous: true, ..Config::on_free_port() }
}

/// Returns a connection on which the client has sent `bytes` and has ended its writing direction.
fn ended_by_half(place: &Place, bytes: &[u8]) -> BlockingStream {
    let mut stream = place.open_blocking().expect("the broker listens");
    stream.write_all(bytes).expect("the broker reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    stream
}

/// Returns a connection on which the client has sent PINGREQ until the broker stopped reading, and does not read the
/// answers.
fn ended_unread(place: &Place) -> BlockingStream {
    let mut stream = place.open_blocking().expect("the broker listens");
    stream.write_all(&clean(Version::V5, "unread").encode()).expect("the broker reads");
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let pings = pingreq().repeat(32 << 10);
    let mut sent = 0;
    while sent < UNREAD {
        match stream.write(&pings) {
            Ok(count) => sent += count,
            // The broker has stopped reading, or has ended the connection.
            Err(_) => break,
        }
    }
    assert!(sent < UNREAD, "the broker reads it to its end");
    let _ = stream.shutdown(Shutdown::Write);
    stream
}

/// Once, a connection that waited for its client to read answers, for a full queue, or for the turn of its password,
/// did not notice that the client had ended.
#[test]
fn half_closed_connections_release_their_descriptors() {
    serve_if_asked(config);
    let target = Target::start("descriptors::half_closed_connections_release_their_descriptors");
    let place = target.place();
    let files = target.open_files();
    let connect = |id: &str| Connect::new(Version::V5).id(id);
    let mut ended = vec![ended_unread(place)];

    // A full queue, whose reader acknowledges nothing.
    let reader = connect("reader").property(Property::ReceiveMaximum(1)).encode();
    let mut reading = place.open_blocking().expect("the broker listens");
    reading
        .write_all(&[reader, subscribe(Version::V5, 1, &[("full", 1)])].concat())
        .expect("the broker reads");
    let mut honest = Client::open(place, &clean(Version::V5, "honest")).expect("let in");
    honest.subscribe(&["other"], 1).expect("granted");
    for number in 0..3 {
        let messages = (1..=5).map(|id| Publish::new("full", "x").qos(1).id(id).encode(Version::V5));
        let connect = connect(&format!("publisher-{number}")).encode();
        ended.push(ended_by_half(place, &[vec![connect], messages.collect()].concat().concat()));
    }

    // Before CONNECT, within it, after it, and with a password that waits for its turn.
    let greeting = connect("greeted").encode();
    ended.push(ended_by_half(place, &[]));
    ended.push(ended_by_half(place, &greeting[..greeting.len() / 2]));
    ended.push(ended_by_half(place, &greeting));
    for number in 0..30 {
        let guess = connect(&format!("guess-{number}")).user("ada").password("wrong");
        ended.push(ended_by_half(place, &guess.encode()));
    }
    reading.shutdown(Shutdown::Write).expect("it is open");
    drop(honest);
    target.await_open_files(files);
    drop((ended, reading));
    target.stop();
}
