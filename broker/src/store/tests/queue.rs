//! Messages are stored once and deleted with their last row; operations that cancel out are not written.

use redb::{ReadableDatabase, ReadableTableMetadata};

use super::*;
use crate::store::batch::{Batch, QueueChange};
use crate::store::disk::{Disk, MESSAGES, QUEUE};
use crate::store::open;

fn disk(dir: &Path) -> Disk {
    open::open(dir, open::file, OnDamage::default(), NOW).expect("opens").0
}

fn apply(disk: &mut Disk, ops: impl IntoIterator<Item = Op>) {
    disk.apply(&batch(ops)).expect("writes");
}

fn batch(ops: impl IntoIterator<Item = Op>) -> Batch {
    let mut batch = Batch::default();
    ops.into_iter().for_each(|op| batch.add(op));
    batch
}

/// Returns the number of messages and of queue rows on disk.
fn rows(disk: &Disk) -> (u64, u64) {
    let count = |database: &redb::Database| {
        let read = database.begin_read()?;
        Ok((read.open_table(MESSAGES)?.len()?, read.open_table(QUEUE)?.len()?))
    };
    let (messages, queue) = disk.with_database(count).expect("reads");
    let (ids, addresses) = disk.messages.len();
    assert_eq!((ids as u64, addresses as u64), (messages, messages), "the writer's own count");
    (messages, queue)
}

fn enqueue(key: u64, seq: u64, message: &Arc<Message>) -> Op {
    Op::Enqueue { key, seq, entry: entry(message) }
}

#[test]
fn a_message_is_stored_once_and_deleted_with_its_last_row() {
    let dir = dir();
    let mut disk = disk(dir.path());
    let m = message("t", "x");
    apply(&mut disk, (1..=100).map(|key| enqueue(key, 1, &m)));
    assert_eq!(rows(&disk), (1, 100));
    apply(&mut disk, [enqueue(101, 1, &m), enqueue(1, 2, &message("t", "x"))]);
    assert_eq!(rows(&disk), (2, 102));
    apply(&mut disk, (1..=100).map(|key| Op::Dequeue { key, seq: 1 }));
    assert_eq!(rows(&disk), (2, 2));
    apply(&mut disk, [Op::DeleteSession { key: 101, leaves: false }]);
    assert_eq!(rows(&disk), (1, 1));
    apply(&mut disk, [Op::Dequeue { key: 1, seq: 2 }, Op::Dequeue { key: 1, seq: 2 }]);
    assert_eq!(rows(&disk), (0, 0));
}

#[test]
fn references_are_counted_across_a_restart() {
    let dir = dir();
    let mut first = disk(dir.path());
    let m = message("t", "x");
    apply(&mut first, (1..=3).map(|key| Op::SaveSession { key, record: session("c") }));
    apply(&mut first, (1..=3).map(|key| enqueue(key, 1, &m)));
    drop(first);

    let (mut second, snapshot) = open::open(dir.path(), open::file, OnDamage::default(), NOW).expect("opens");
    let restored = &snapshot.sessions[0].queue[0].1.message;
    assert!(snapshot.sessions.iter().all(|session| Arc::ptr_eq(&session.queue[0].1.message, restored)));
    // A message of a group's member that is passed on to another session is still the same message.
    apply(&mut second, [enqueue(2, 2, restored)]);
    assert_eq!(rows(&second), (1, 4));
    // A new message does not get the id of an existing one.
    apply(&mut second, [enqueue(2, 3, &m)]);
    assert_eq!(rows(&second), (2, 5));
    apply(&mut second, (1..=3).map(|key| Op::DeleteSession { key, leaves: false }));
    assert_eq!(rows(&second), (0, 0));
}

#[test]
fn messages_at_the_same_address_are_distinguished() {
    let dir = dir();
    let (mut bench, _) = Bench::open(dir.path());
    bench.write([Op::SaveSession { key: 1, record: session("c") }]);
    // Each message is dropped at once, so that the allocator returns the same address for the next one.
    for seq in 0..200 {
        let m = message("t", &seq.to_string());
        bench.store.put([enqueue(1, seq, &m)], None);
        if seq % 3 == 0 {
            bench.store.put([Op::Dequeue { key: 1, seq }], None);
        }
    }
    let (_bench, snapshot) = bench.reopen(dir.path());
    let queue = &snapshot.sessions[0].queue;
    assert_eq!(queue.len(), 133);
    for (seq, entry) in queue {
        assert_eq!(entry.message.payload, seq.to_string());
    }
}

#[test]
fn messages_acknowledged_before_a_commit_are_not_written() {
    let m = message("t", "x");
    let sent = |seq| Op::Phase { key: 1, seq, packet_id: 1, phase: Phase::Sent };
    let cancelled = batch([enqueue(1, 1, &m), sent(1), Op::Dequeue { key: 1, seq: 1 }]);
    assert!(cancelled.is_empty());
    assert_eq!(Arc::strong_count(&m), 1);

    let moved = batch([enqueue(1, 1, &m), sent(1)]);
    assert!(matches!(
        moved.queue[&(1, 1)],
        QueueChange::Put { entry: EntryRecord { phase: Phase::Sent, packet_id: 1, .. }, .. }
    ));
    // A row that may be on disk is deleted there.
    let gone = batch([sent(1), Op::Dequeue { key: 1, seq: 1 }]);
    assert!(matches!(gone.queue[&(1, 1)], QueueChange::Gone));
    let again = batch([Op::Dequeue { key: 1, seq: 1 }, enqueue(1, 1, &m), Op::Dequeue { key: 1, seq: 1 }]);
    assert!(matches!(again.queue[&(1, 1)], QueueChange::Gone));
    let released = batch([Op::Received { key: 1, packet_id: 5 }, Op::Released { key: 1, packet_id: 5 }]);
    assert!(!released.received[&(1, 5)]);
    let back = batch([Op::Dequeue { key: 1, seq: 1 }, sent(1)]);
    assert!(matches!(back.queue[&(1, 1)], QueueChange::Gone));
}

#[test]
fn deleting_a_session_cancels_only_its_own_operations() {
    let m = message("t", "x");
    let ops = |key| {
        [
            Op::SaveSession { key, record: session("c") },
            Op::Subscribe { key, filter: "a".into(), options: SubscriptionRecord::default() },
            Op::Subscribe { key, filter: ByteString::new(), options: SubscriptionRecord::default() },
            Op::Enqueue { key, seq: u64::MAX, entry: entry(&m) },
            Op::Received { key, packet_id: u16::MAX },
        ]
    };
    let all =
        ops(1).into_iter().chain(ops(2)).chain(ops(3)).chain([Op::DeleteSession { key: 2, leaves: false }]);
    let batch = batch(all);
    assert_eq!(batch.sessions.keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!((batch.subscriptions.len(), batch.queue.len(), batch.received.len()), (4, 2, 2));
    assert_eq!(batch.forgotten.iter().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn rows_without_a_session_are_removed_at_the_start() {
    let dir = dir();
    let mut first = disk(dir.path());
    let m = message("t", "x");
    apply(
        &mut first,
        [
            Op::Subscribe { key: 5, filter: "a".into(), options: SubscriptionRecord::default() },
            Op::Received { key: 5, packet_id: 1 },
            enqueue(5, 1, &m),
        ],
    );
    drop(first);
    let (second, snapshot) = open::open(dir.path(), open::file, OnDamage::default(), NOW).expect("opens");
    assert_eq!((snapshot.sessions.len(), snapshot.damaged), (0, None));
    assert_eq!(rows(&second), (0, 0));
}
