//! Two million invalid packets, during which an honest client is always answered.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rantai_broker::{Config, Limits, QueueFull};
use rantai_testing::{BlockingStream, Place, Property, Publish, Version};

use crate::client::{Client, ConnectionError, STEP_TIMEOUT, clean};
use crate::process::{Target, serve_if_asked};
use crate::random::Random;
use crate::traffic::Script;

const ATTACKERS: u64 = 6;
/// Number of connections that each attacker leaves open, so that messages have receivers.
const LINGERING: usize = 16;
/// Maximum growth of memory: far more than the limits below allow, and far less than a leaked buffer per connection
/// would take.
const MEMORY: usize = 64 << 20;

fn config() -> Config {
    let limits = Limits {
        queue_messages: 200,
        queue_bytes: 256 << 10,
        queue_full: QueueFull::Drop,
        retained: 100,
        session_expiry: Duration::from_secs(2),
        ..Limits::default()
    };
    Config { limits, sys_interval: Duration::from_millis(500), ..Config::on_free_port() }
}

#[test]
fn hostile_traffic_does_not_affect_other_clients() {
    serve_if_asked(config);
    let seed = Random::seed_from("RANTAI_HOSTILE_SEED");
    let wanted = std::env::var("RANTAI_HOSTILE_PACKETS")
        .map_or(200_000, |text| text.parse().expect("RANTAI_HOSTILE_PACKETS is a number"));
    let target = Target::start("hostile::hostile_traffic_does_not_affect_other_clients");
    let place = target.place();
    let files = target.open_files();
    let memory = target.memory();

    let sent = AtomicUsize::new(0);
    let connections = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let honest: Vec<_> = [(Version::V5, Version::V3), (Version::V3, Version::V5)]
            .into_iter()
            .enumerate()
            .map(|(pair, versions)| {
                let over = &over;
                scope.spawn(move || {
                    let answered = round_trips(place, pair, versions, over);
                    over.store(true, Ordering::Relaxed);
                    answered
                })
            })
            .collect();
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|index| {
                let (sent, connections, over) = (&sent, &connections, &over);
                scope.spawn(move || {
                    let mut random = Random::new(seed ^ index << 56);
                    let mut open = VecDeque::new();
                    while sent.load(Ordering::Relaxed) < wanted && !over.load(Ordering::Relaxed) {
                        let script = Script::new(&mut random);
                        open.push_back((send(place, &script)?, script.polite));
                        sent.fetch_add(script.packets, Ordering::Relaxed);
                        connections.fetch_add(1, Ordering::Relaxed);
                        if open.len() > LINGERING {
                            open.pop_front().map_or(Ok(()), |(stream, polite)| leave(stream, polite))?;
                        }
                    }
                    open.into_iter().try_for_each(|(stream, polite)| leave(stream, polite))
                })
            })
            .collect();
        for attacker in attackers {
            let ended: Result<(), String> = attacker.join().expect("an attacker does not panic");
            ended.unwrap_or_else(|what| panic!("{what}"));
        }
        over.store(true, Ordering::Relaxed);
        for pair in honest {
            let answered = pair.join().expect("an honest client does not panic");
            let answered = answered.unwrap_or_else(|broken| panic!("an honest client was {broken}"));
            eprintln!("{answered} honest round trips");
            assert!(answered > 20, "only {answered} honest round trips in all that time");
        }
    });
    let (sent, connections) = (sent.into_inner(), connections.into_inner());
    eprintln!("{sent} packets in {connections} connections");
    assert!(sent >= wanted);

    target.await_open_files(files);
    round_trips(place, 9, (Version::V5, Version::V5), &AtomicBool::new(true))
        .unwrap_or_else(|broken| panic!("afterwards a client was {broken}"));
    if let (Some((before, _)), Some((_, most))) = (memory, target.memory()) {
        let grown = most.saturating_sub(before);
        eprintln!("memory grew by {} KiB at most", grown >> 10);
        assert!(grown < MEMORY, "memory grew by {grown} bytes");
    }
    target.stop();
}

/// Sends the whole script at once. The broker may end the connection before its end.
fn send(place: &Place, script: &Script) -> Result<BlockingStream, String> {
    let mut stream = place.open_blocking().map_err(|error| format!("nobody accepts any more: {error}"))?;
    let timeout = Some(STEP_TIMEOUT);
    stream.set_write_timeout(timeout).and(stream.set_read_timeout(timeout)).expect("a socket has timeouts");
    match stream.write_all(&script.bytes) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err("the broker neither reads a client nor closes it".into())
        }
        _ => Ok(stream),
    }
}

/// A polite client half-closes and reads until the end, which the broker must allow; others close at once.
fn leave(mut stream: BlockingStream, polite: bool) -> Result<(), String> {
    if !polite || stream.shutdown(Shutdown::Write).is_err() {
        return Ok(());
    }
    let deadline = Instant::now() + STEP_TIMEOUT;
    let mut scratch = vec![0; 64 << 10];
    loop {
        match stream.read(&mut scratch) {
            Ok(0) => return Ok(()),
            Ok(_) if Instant::now() < deadline => {}
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(());
            }
            _ => {
                return Err("the broker does not close a connection that its client has ended".into());
            }
        }
    }
}

/// Makes requests at QoS 1 and 2 until the end, at least one. Returns their number.
fn round_trips(
    place: &Place,
    pair: usize,
    versions: (Version, Version),
    over: &AtomicBool,
) -> Result<usize, ConnectionError> {
    let (request, reply) = (format!("honest/{pair}/request"), format!("honest/{pair}/reply"));
    let mut caller = Client::open(place, &clean(versions.0, &format!("the honest caller {pair}")))?;
    let mut server = Client::open(place, &clean(versions.1, &format!("the honest server {pair}")))?;
    caller.subscribe(&[&reply], 2)?;
    server.subscribe(&[&request], 2)?;
    let mut answered = 0;
    loop {
        let qos = 1 + (answered % 2) as u8;
        let content = format!("question {pair} {answered}").into_bytes();
        let reply_to = Property::ResponseTopic(reply.clone());
        let question = Publish::new(&request, &content).qos(qos).property(reply_to);
        caller.publish(question)?;
        while server.message()?.payload != content {}
        server.publish(Publish::new(&reply, &content).qos(qos))?;
        while caller.message()?.payload != content {}
        answered += 1;
        if over.load(Ordering::Relaxed) {
            caller.disconnect()?;
            server.disconnect()?;
            return Ok(answered);
        }
    }
}
