//! Tests of the ledger with which honest clients detect lost messages.

use std::time::{Duration, Instant};

use crate::honest::Ledger;

/// Returns a ledger all of whose messages are due now.
fn ledger() -> Ledger {
    let now = Instant::now();
    let mut ledger = Ledger::new(Duration::ZERO);
    ledger.count_from(now);
    ledger
}

#[test]
fn each_message_is_counted_by_its_outcome() {
    let mut ledger = ledger();
    for number in 0..6 {
        assert_eq!(ledger.send(), (number, number as u16 + 1));
    }
    for (packet_id, reason) in [(1, 0), (2, 0x10), (3, 0x97), (4, 0), (6, 0)] {
        ledger.acknowledge(packet_id, reason);
    }
    let now = Instant::now();
    for number in [0, 3, 1, 3] {
        ledger.arrive(number, now);
    }
    assert!(!ledger.is_settled(Instant::now()), "two are open");
    let account = ledger.close();
    assert_eq!((account.refused, account.unanswered, account.lost), (1, 1, 1), "packet ids 3, 5 and 6");
    assert_eq!((account.repeated, account.reordered), (1, 1), "4 came twice, and 2 after it");
    assert_eq!(account.latencies.count(), 6, "what never came counts, too");
}

#[test]
fn a_full_window_waits_for_an_acknowledgement_which_counts_once() {
    let mut ledger = ledger();
    while ledger.next_due().is_some() {
        ledger.send();
    }
    ledger.acknowledge(7, 0);
    assert!(ledger.next_due().is_some());
    ledger.acknowledge(7, 0);
    ledger.send();
    assert_eq!(ledger.next_due(), None);
}

#[test]
fn an_acknowledgement_is_that_of_the_latest_message_with_its_packet_id() {
    let mut ledger = ledger();
    let mut last = 0;
    loop {
        let (_, packet_id) = ledger.send();
        ledger.acknowledge(packet_id, 0);
        if packet_id < last {
            break;
        }
        last = packet_id;
    }
    ledger.acknowledge(2, 0x97);
    assert_eq!(ledger.send().1, 2, "it comes around");
    ledger.acknowledge(2, 0x97);
    assert_eq!(ledger.close().refused, 1, "the second, as the first had been acknowledged before");
}
