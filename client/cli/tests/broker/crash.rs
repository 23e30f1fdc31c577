//! kill -9 at random moments: no acknowledged message is lost, and no message at QoS 2 arrives twice.

use std::collections::{BTreeMap, HashSet};
use std::thread;
use std::time::Duration;

use rantai_testing::{Packet, Place, Version, subscribe};

use crate::peer::{Publisher, Subscriber};
use crate::process::Broker;
use crate::wire::{self, Socket};

fn rounds() -> u64 {
    std::env::var("RANTAI_CRASH_ROUNDS").ok().map_or(10, |n| n.parse().expect("a number of rounds"))
}

/// Generator xorshift; the seed is printed, and can be set by `RANTAI_CRASH_SEED`.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("RANTAI_CRASH_SEED").ok().map(|s| s.parse().expect("a number"));
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let seed = given.unwrap_or(clock.as_nanos() as u64 | 1);
        eprintln!("RANTAI_CRASH_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn acknowledged_messages_survive_kill_9_and_qos_2_is_never_duplicated() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = Random::new();
    let versions = [Version::V5, Version::V3, Version::V5];
    let mut publishers: Vec<_> = versions.iter().enumerate().map(|(n, &v)| Publisher::new(n, v)).collect();
    let mut subscribers: Vec<_> = versions.iter().enumerate().map(|(n, &v)| Subscriber::new(n, v)).collect();

    // All sessions exist before anything is published.
    let broker = Broker::start(Some(dir.path()));
    for subscriber in &mut subscribers {
        subscriber.run(&broker.place, |_| true);
    }
    broker.kill();

    for round in 0..rounds() {
        let broker = Broker::start(Some(dir.path()));
        let place = &broker.place.clone();
        retained_is_never_older(place, &publishers);
        thread::scope(|scope| {
            for publisher in &mut publishers {
                scope.spawn(move || publisher.run(place, false));
            }
            for (number, subscriber) in subscribers.iter_mut().enumerate() {
                // One subscriber is always connected, the others come and go.
                if number == 0 || !(round + number as u64).is_multiple_of(3) {
                    scope.spawn(move || subscriber.run(place, |_| false));
                }
            }
            thread::sleep(Duration::from_micros(500 + random.below(60_000)));
            broker.kill();
        });
    }

    let broker = Broker::start(Some(dir.path()));
    let place = &broker.place.clone();
    for publisher in &mut publishers {
        publisher.run(place, true);
    }
    retained_is_never_older(place, &publishers);
    let mut taken: BTreeMap<&String, &Vec<u64>> = BTreeMap::new();
    for publisher in &publishers {
        taken.extend(publisher.taken.iter().filter(|(topic, _)| topic.starts_with("q/")));
    }
    let total: usize = taken.values().map(|numbers| numbers.len()).sum();
    eprintln!("{} rounds, {total} messages acknowledged", rounds());
    assert!(total > 0, "nothing was published");
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        let expected: BTreeMap<&String, HashSet<u64>> =
            taken.iter().map(|(topic, numbers)| (*topic, numbers.iter().copied().collect())).collect();
        subscriber.run(place, |s| all_there(s, &expected));
        for (topic, numbers) in &taken {
            let got = subscriber.got.get(*topic).cloned().unwrap_or_default();
            let mut seen = HashSet::new();
            let first: Vec<u64> = got.iter().copied().filter(|n| seen.insert(*n)).collect();
            // One client has published all numbers, in order, and all were acknowledged.
            assert_eq!(first, **numbers, "{topic}, subscriber {number}: all, and in order");
            if topic.ends_with("/2") {
                assert_eq!(got.len(), first.len(), "{topic}, subscriber {number}: once");
            }
        }
        eprintln!("subscriber {number}: {} deliveries of {total}", subscriber.count);
    }
}

fn all_there(subscriber: &Subscriber, expected: &BTreeMap<&String, HashSet<u64>>) -> bool {
    let total: usize = expected.values().map(HashSet::len).sum();
    subscriber.count >= total
        && expected.iter().all(|(topic, numbers)| {
            let got: HashSet<u64> = subscriber.got.get(*topic).into_iter().flatten().copied().collect();
            numbers.is_subset(&got)
        })
}

/// Checks that each retained message is the last acknowledged value, or a later one.
fn retained_is_never_older(place: &Place, publishers: &[Publisher]) {
    let mut socket = Socket::open(place, Version::V3).expect("the broker is there");
    socket.log_in(&wire::connect(Version::V3, "", true)).expect("it lets everyone in");
    assert!(socket.send(&subscribe(Version::V3, 1, &[("r/#", 0)])));
    // Retained messages usually arrive before PINGRESP; waits for those that arrive later.
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for publisher in publishers {
        for (topic, numbers) in publisher.taken.iter().filter(|(topic, _)| topic.starts_with("r/")) {
            expected.insert(topic.clone(), *numbers.iter().max().expect("not empty"));
        }
    }
    while !expected.is_empty() {
        let packet = socket.next().expect("the broker is there");
        if let Packet::Publish(message) = packet {
            let number: u64 = message.text().parse().expect("a number");
            if let Some(least) = expected.remove(&message.topic) {
                assert!(number >= least, "{}: {number} is older than {least}", message.topic);
            }
        }
    }
}
