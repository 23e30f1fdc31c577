//! Comparison of the budgets of one client with the memory of the process.

use std::io::{Read, Write};

use rantai_broker::{Config, Limits};
use rantai_testing::{
    BlockingStream, Connect, Property, Publish, Version, pingreq, subscribe, subscribe_with,
};

use crate::client::STEP_TIMEOUT;
use crate::process::{Target, serve_if_asked};

/// Maximum growth of the process: far more than the budgets below, and far less than it grew before there were
/// budgets.
const GROWTH: usize = 24 << 20;

fn config() -> Config {
    let limits = Limits {
        queue_bytes: 2 << 20,
        subscription_bytes: 4 << 20,
        retained_bytes: 4 << 20,
        ..Limits::default()
    };
    Config { limits, ..Config::on_free_port() }
}

struct BudgetClient(BlockingStream);

impl BudgetClient {
    fn connect(target: &Target, connect: &Connect) -> Self {
        let stream = target.place().open_blocking().expect("the broker listens");
        stream.set_read_timeout(Some(STEP_TIMEOUT)).expect("a timeout");
        let mut client = Self(stream);
        client.send(&connect.encode());
        client.await_answer();
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the broker reads");
    }

    /// Waits until all sent packets have been handled.
    fn await_answer(&mut self) {
        self.send(&pingreq());
        let (mut buffer, mut last) = ([0; 4 << 10], Vec::new());
        while !last.ends_with(&[0xD0, 0]) {
            let count = self.0.read(&mut buffer).expect("an answer in time");
            assert!(count > 0, "the broker closed the connection");
            last.extend_from_slice(&buffer[..count]);
            last.drain(..last.len().saturating_sub(2));
        }
    }
}

fn grown(target: &Target, what: &str, before: Option<(usize, usize)>) {
    if let (Some((before, _)), Some((now, _))) = (before, target.memory()) {
        let grown = now.saturating_sub(before);
        eprintln!("{what}: {} KiB", grown >> 10);
        assert!(grown < GROWTH, "{what}: memory grew by {grown} bytes");
    }
}

/// Once, 60 filters of a few bytes took 60 MB, 10,000 deep ones 470 MB, 2,000 queued messages 128 MB, and as many
/// small ones 400 uncounted bytes each.
#[test]
fn one_client_takes_no_more_than_its_budgets() {
    serve_if_asked(config);
    let target = Target::start("budgets::one_client_takes_no_more_than_its_budgets");
    let mut client = BudgetClient::connect(&target, &Connect::new(Version::V5).id("greedy").persistent());
    let before = target.memory();

    let large = "x".repeat(60_000);
    let properties: Vec<Property> = (0..16).map(|_| Property::user("k", &large)).collect();
    for number in 1..=60_u16 {
        let filter = format!("small/{number}");
        client.send(&subscribe_with(Version::V5, number, &[(&filter, 1)], &properties));
        client.await_answer();
    }
    grown(&target, "filters in large packets", before);

    for number in 0..100_u16 {
        let filters: Vec<String> =
            (0..50).map(|level| format!("{number}/{level}{}/#", "/a".repeat(124))).collect();
        let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (&**filter, 0)).collect();
        client.send(&subscribe(Version::V5, 100 + number, &filters));
        client.await_answer();
    }
    grown(&target, "deep filters", before);

    drop(client);
    let mut publisher = BudgetClient::connect(&target, &Connect::new(Version::V5));
    for number in 1..=2_000_u16 {
        let publish = Publish::new("small/1", "").qos(1).id(number);
        let publish = (0..1_000).fold(publish, |publish, _| publish.property(Property::user("", "")));
        publisher.send(&publish.encode(Version::V5));
        if number % 100 == 0 {
            publisher.await_answer();
        }
    }
    grown(&target, "empty properties in a queue", before);

    // Once, 60,000 of them counted as 420 kB and took 24 MB.
    for number in 1..=60_000_u16 {
        publisher.send(&Publish::new("small/1", "").qos(1).id(number).encode(Version::V5));
        if number % 500 == 0 {
            publisher.await_answer();
        }
    }
    grown(&target, "empty messages in a queue", before);

    for number in 1..=100 {
        let publish = Publish::new(&format!("r/{number}"), &"x".repeat(1_000_000)).qos(1).id(number).retain();
        publisher.send(&publish.encode(Version::V5));
        publisher.await_answer();
    }
    grown(&target, "retained messages", before);
    target.stop();
}
