//! Full or nearly full disk: operations that remove rows are written first and make room for the others.

use std::sync::atomic::{AtomicU64, Ordering};

use super::failure::{open_faulty, open_faulty_with, open_full_after, until};
use super::*;

fn large(n: u64) -> Arc<Message> {
    message(&format!("t/{n}"), &"x".repeat(2_000))
}

fn enqueue(seq: u64) -> Op {
    Op::Enqueue { key: 1, seq, entry: entry(&large(seq)) }
}

fn dequeue(seq: u64) -> Op {
    Op::Dequeue { key: 1, seq }
}

/// Size of the reserve in this test, in bytes.
const RESERVE: u64 = 512 << 10;

#[test]
fn acknowledged_messages_make_room_on_a_full_disk() {
    let dir = dir();
    let (mut bench, switch) = open_faulty(dir.path());
    bench.write([Op::SaveSession { key: 1, record: session("c") }]);
    bench.write((0..1_000).map(enqueue));
    let length = std::fs::metadata(dir.path().join("broker.redb")).expect("there").len();
    switch.end.store(length, Ordering::Relaxed);
    // More bytes than the reserve provides, even over several attempts.
    let many = 1_000 + length / 2_000 / 2;
    let ticket = bench.store.put((1_000..many).map(enqueue), None);
    until("full", || bench.store.health() == Health::Full);
    assert!(bench.store.durable() < ticket);
    switch.end.fetch_add(RESERVE, Ordering::Relaxed);
    let last = (0..1_000).fold(0, |_, seq| bench.store.put([dequeue(seq)], None));
    until("written", || bench.store.durable() >= last);
    until("healthy", || bench.store.health() == Health::Healthy);
    bench.write([enqueue(many)]);
    switch.end.store(0, Ordering::Relaxed);
    let (_bench, snapshot) = bench.reopen(dir.path());
    let queue = &snapshot.sessions[0].queue;
    assert!(queue.iter().map(|(seq, _)| *seq).eq(1_000..=many));
}

#[test]
fn rows_removed_after_a_failed_write_are_not_restored() {
    // Each of these writes of the commit is the first to fail in one round; the commit may be on disk nevertheless.
    for writes in [0, 1, 2, 3, 5, 8, 13] {
        let (dir, mut bench, switch) = open_full_after(writes);
        let m = message("t", "x");
        let mut seq = 0;
        until("a failure", || {
            seq += 1;
            bench.store.put([enqueue(seq), Op::Retain { message: m.clone() }], None);
            bench.store.health().is_failed()
        });
        bench.store.put([Op::Unretain { topic: "t".into() }], None);
        let ticket = (1..=seq).fold(0, |_, seq| bench.store.put([dequeue(seq)], Some(1)));
        switch.full.store(false, Ordering::Relaxed);
        bench.wait(ticket);
        let (_bench, snapshot) = bench.reopen(dir.path());
        assert_eq!(snapshot.sessions[0].queue, [], "after {writes} writes");
        assert!(retained(snapshot).is_empty(), "after {writes} writes");
    }
}

/// A session that has ended stays on disk until its will, or the messages of its groups, are stored for others.
#[test]
fn ended_sessions_are_not_deleted_before_their_messages_are_stored_for_others() {
    let mut batch = crate::store::batch::Batch::default();
    batch.add(Op::DeleteSession { key: 1, leaves: true });
    batch.add(Op::Enqueue { key: 2, seq: 1, entry: entry(&large(1)) });
    batch.add(Op::Dequeue { key: 3, seq: 1 });
    batch.add(Op::DeleteSession { key: 4, leaves: false });
    let first = batch.take_deletions(9);
    assert!(first.queue.contains_key(&(3, 1)));
    assert!(first.forgotten.into_iter().eq([4]));
    assert!(batch.take_deletions(9).is_empty());
    assert!(batch.forgotten.contains(&1) && batch.queue.contains_key(&(2, 1)), "both wait for room");
}

#[test]
fn below_the_reserve_puts_are_written_and_deletions_shrink_the_file() {
    let dir = dir();
    let free = Arc::new(AtomicU64::new(10_000));
    let seen = Arc::clone(&free);
    let look = move || Ok(Space { free: seen.load(Ordering::Relaxed), total: 1 << 40 });
    let settings = StoreSettings { free_space: Some(1_000), ..StoreSettings::default() };
    let (mut bench, _) = open_faulty_with(dir.path(), Box::new(look), settings);
    bench.write([Op::SaveSession { key: 1, record: session("c") }]);
    for seq in 0..1_000 {
        bench.store.put([enqueue(seq)], None);
    }
    bench.write([]);
    assert_eq!(bench.store.health(), Health::Healthy);
    let length = || std::fs::metadata(dir.path().join("broker.redb")).expect("there").len();
    let before = length();
    free.store(999, Ordering::Relaxed);
    until("low", || bench.store.health() == Health::Low);
    assert_eq!(bench.store.space(), (999, 1_000));
    bench.write((0..990).map(dequeue));
    until("shorter", || length() < before / 4);
    free.store(1_250, Ordering::Relaxed);
    until("healthy", || bench.store.health() == Health::Healthy);
    let (_bench, snapshot) = bench.reopen(dir.path());
    assert_eq!(snapshot.sessions[0].queue.len(), 10);
}
