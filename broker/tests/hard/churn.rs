//! Thousands of clients that live for one request, while others flood, disconnect and take sessions over.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rantai_broker::Config;
use rantai_testing::{Connect, Place, Property, Publish, Version};

use crate::client::{Client, ConnectionError, STEP_TIMEOUT, clean};
use crate::process::{Target, serve_if_asked};
use crate::random::Random;

/// Number of requests in each of the two parts.
const REQUESTS: usize = 2_000;
const AT_A_TIME: usize = 200;
const MEMORY: usize = 64 << 20;
/// Reason code for a session that was taken over (MQTT 5, 3.14.2.1).
const TAKEN_OVER: u8 = 0x8E;

fn config() -> Config {
    Config { sys_interval: Duration::from_millis(200), ..Config::on_free_port() }
}

#[test]
fn short_lived_clients_are_never_cut_off() {
    serve_if_asked(config);
    let seed = Random::seed_from("RANTAI_CHURN_SEED");
    let target = Target::start("churn::short_lived_clients_are_never_cut_off");
    let place = target.place();
    let mut watcher = Client::open(place, &clean(Version::V5, "watcher")).expect("the watcher connects");
    watcher.subscribe(&["$SYS/broker/clients/total"], 0).expect("the watcher subscribes");
    let mut responder = Client::open(place, &clean(Version::V5, "responder")).expect("it connects");
    responder.subscribe(&["$share/workers/churn/request"], 2).expect("the responder subscribes");
    await_clients(&mut watcher, 2);
    let files = target.open_files();
    let memory = target.memory();

    let over = AtomicBool::new(false);
    let others_over = AtomicBool::new(false);
    let next = &AtomicUsize::new(REQUESTS);
    let answered = std::thread::scope(|scope| {
        let responder = scope.spawn(|| respond(responder, &over));
        let ending = EndOnDrop(&[&over, &others_over]);

        let start = Instant::now();
        for number in 0..REQUESTS {
            request(place, number).unwrap_or_else(|broken| panic!("client {number} was {broken}"));
        }
        eprintln!("{REQUESTS} one-request clients in sequence: {:?}", start.elapsed());

        let mut others = Vec::new();
        for index in 0..2 {
            let over = &others_over;
            others.push(scope.spawn(move || flood(place, index, over)));
        }
        for index in 0..4 {
            let over = &others_over;
            let mut random = Random::new(seed ^ index);
            others.push(scope.spawn(move || leave_again_and_again(place, index, &mut random, over)));
            let mut random = Random::new(seed ^ index << 8);
            others.push(scope.spawn(move || take_over(place, &mut random, over)));
        }
        let start = Instant::now();
        let clients: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= 2 * REQUESTS {
                            return Ok(());
                        }
                        request(place, number).map_err(|broken| format!("client {number} was {broken}"))?;
                    }
                })
            })
            .collect();
        let cut_off: Vec<String> =
            clients.into_iter().filter_map(|client| client.join().expect("no client panics").err()).collect();
        assert!(cut_off.is_empty(), "{} clients failed: {cut_off:#?}", cut_off.len());
        eprintln!("{REQUESTS} of them, {AT_A_TIME} at a time: {:?}", start.elapsed());
        others_over.store(true, Ordering::Relaxed);
        let mut rounds = 0;
        for other in others {
            rounds += other.join().expect("nobody panics").unwrap_or_else(|what| panic!("{what}"));
        }
        eprintln!("meanwhile the others did {rounds} rounds");
        assert!(rounds > 100, "the others did only {rounds} rounds");

        drop(ending);
        responder.join().expect("the responder does not panic").unwrap_or_else(|what| panic!("{what}"))
    });
    assert_eq!(answered, 2 * REQUESTS, "requests that reached the responder, each of them once");

    for id in 0..CONTESTED_IDS {
        let last = Client::open(place, &clean(Version::V5, &taken(id)));
        last.and_then(Client::disconnect).expect("an id that is taken over connects once more");
    }
    // The responder has also disconnected at the end.
    await_clients(&mut watcher, 1);
    target.await_open_files(files.map(|files| files - 1));
    if let (Some((before, _)), Some((now, _))) = (memory, target.memory()) {
        let grown = now.saturating_sub(before);
        eprintln!("memory grew by {} KiB", grown >> 10);
        assert!(grown < MEMORY, "memory grew by {grown} bytes");
    }
    watcher.disconnect().expect("the watcher is still connected");
    target.stop();
}

/// Ends the loops of all other threads when the test ends, so that a failed assertion does not leave it hanging.
struct EndOnDrop<'a>(&'a [&'a AtomicBool]);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|over| over.store(true, Ordering::Relaxed));
    }
}

/// Waits until the broker reports exactly this number of clients, connected or absent.
fn await_clients(watcher: &mut Client, expected: usize) {
    let deadline = Instant::now() + STEP_TIMEOUT;
    loop {
        let message = watcher.message().expect("$SYS/broker/clients/total is published");
        let total = String::from_utf8(message.payload).expect("a number");
        if total.trim() == expected.to_string() {
            return;
        }
        assert!(Instant::now() < deadline, "the broker counts {total} clients, there are {expected}");
    }
}

/// Complete life of a client: connect, subscribe to its own reply topic, send a request, receive the reply,
/// disconnect.
fn request(place: &Place, number: usize) -> Result<(), ConnectionError> {
    let version = if number.is_multiple_of(2) { Version::V5 } else { Version::V3 };
    let qos = (number / 2 % 3) as u8;
    let reply_topic = format!("churn/reply/{number}");
    let mut client = Client::open(place, &clean(version, &format!("one-request-{number}")))?;
    client.subscribe(&[&reply_topic], qos)?;
    let correlation = number.to_be_bytes();
    let question = Publish::new("churn/request", &format!("{reply_topic}\n{number}"))
        .qos(qos)
        .property(Property::ResponseTopic(reply_topic.clone()))
        .property(Property::CorrelationData(correlation.to_vec()));
    let reason = client.publish(question)?;
    if reason != 0 {
        return Err(ConnectionError::Refused(reason));
    }
    let answer = client.message()?;
    let right = answer.topic == reply_topic
        && answer.payload == format!("answer {number}").into_bytes()
        && answer.qos == qos
        && (version == Version::V3 || answer.correlation() == Some(&correlation[..]));
    if !right {
        return Err(ConnectionError::Malformed(format!("{answer:?} as the answer to {number}")));
    }
    client.disconnect()
}

/// Replies until the end. Returns the number of different requests.
fn respond(mut responder: Client, over: &AtomicBool) -> Result<usize, String> {
    let mut answered = HashSet::new();
    while !over.load(Ordering::Relaxed) {
        let message = responder.message_within(Duration::from_millis(20));
        let Some(question) = message.map_err(|broken| format!("the responder was {broken}"))? else {
            continue;
        };
        let (asked, correlation) = (question.response_topic(), question.correlation());
        let text = std::str::from_utf8(&question.payload).map_err(|_| "a crossed request")?;
        let (topic, number) = text.split_once('\n').ok_or("a crossed request")?;
        if asked.is_some_and(|property| property != topic) {
            return Err(format!("a crossed request: {asked:?} with {topic}"));
        }
        if !answered.insert(number.to_owned()) {
            return Err(format!("request {number} came twice"));
        }
        let mut answer = Publish::new(topic, &format!("answer {number}")).qos(question.qos);
        if let Some(data) = correlation {
            answer = answer.property(Property::CorrelationData(data.to_vec()));
        }
        responder.publish(answer).map_err(|broken| format!("the responder was {broken}"))?;
    }
    responder.disconnect().map_err(|broken| format!("the responder was {broken}"))?;
    Ok(answered.len())
}

/// Publishes until the end. Returns the number of messages.
fn flood(place: &Place, index: usize, over: &AtomicBool) -> Result<usize, String> {
    let cut = |broken| format!("the flooding client {index} was {broken}");
    let version = if index == 0 { Version::V5 } else { Version::V3 };
    let mut client = Client::open(place, &clean(version, &format!("flood-{index}"))).map_err(cut)?;
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        let message = Publish::new(&format!("noise/{}", sent % 7), &[b'.'; 1_000]).qos((sent % 3) as u8);
        client.publish(message).map_err(cut)?;
        sent += 1;
    }
    client.disconnect().map_err(cut)?;
    Ok(sent)
}

const NOISY: &[&[&str]] =
    &[&["noise/#"], &["noise/#", "churn/#"], &["$share/others/noise/#"], &["noise/+", "#"]];

/// Subscribes to the floods, reads a little and disconnects, with or without DISCONNECT, repeatedly. Returns the
/// number of rounds.
fn leave_again_and_again(
    place: &Place,
    index: u64,
    random: &mut Random,
    over: &AtomicBool,
) -> Result<usize, String> {
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        let version = random.pick(&[Version::V3, Version::V5]);
        let connect = clean(version, &format!("leaves-{index}-{round}"));
        listen(place, &connect, random, over).map_err(|broken| format!("a listener was {broken}"))?;
        round += 1;
    }
    Ok(round)
}

/// Number of client ids that several clients use at the same time.
const CONTESTED_IDS: usize = 4;

fn taken(id: usize) -> String {
    format!("taken-{id}")
}

/// Connects with client ids that others use at that moment, with persistent and other sessions. Returns the number of
/// connections.
fn take_over(place: &Place, random: &mut Random, over: &AtomicBool) -> Result<usize, String> {
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        let version = random.pick(&[Version::V3, Version::V5]);
        let id = taken(random.below(CONTESTED_IDS));
        let connect = if random.percent(50) { clean(version, &id) } else { clean(version, &id).persistent() };
        match listen(place, &connect, random, over) {
            Err(broken)
                if !broken.is_cut() && !matches!(broken, ConnectionError::Disconnected(TAKEN_OVER)) =>
            {
                return Err(format!("a client that was to be taken over was {broken}"));
            }
            _ => round += 1,
        }
    }
    Ok(round)
}

fn listen(
    place: &Place,
    connect: &Connect,
    random: &mut Random,
    over: &AtomicBool,
) -> Result<(), ConnectionError> {
    let mut client = Client::open(place, connect)?;
    client.subscribe(random.pick(NOISY), random.below(3) as u8)?;
    for _ in 0..random.below(30) {
        while client.message_within(Duration::from_millis(20))?.is_none() {
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }
    if random.percent(50) { client.disconnect() } else { Ok(()) }
}
