//! The store from its callers' point of view: put, wait, reopen.

mod crash;
mod damage;
mod failure;
mod full;
mod model;
mod queue;
mod record;
mod stall;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::message::Properties;

/// Time at which stores are opened, in milliseconds since 1970.
const NOW: u64 = 1_700_000_000_000;

/// Open store, and the receiver of its reports.
struct Bench {
    store: Store,
    committed: UnboundedReceiver<Committed>,
}

impl Bench {
    fn open(dir: &Path) -> (Self, Snapshot) {
        Self::try_open(dir).expect("opens")
    }

    fn try_open(dir: &Path) -> Result<(Self, Snapshot), StoreError> {
        let (sender, committed) = unbounded_channel();
        let (store, snapshot) = Store::open(dir, sender, StoreSettings::default(), NOW)?;
        Ok((Self { store, committed }, snapshot))
    }

    /// Puts operations and waits until they are on disk.
    fn write(&mut self, ops: impl IntoIterator<Item = Op>) {
        let ticket = self.store.put(ops, None);
        self.wait(ticket);
    }

    fn wait(&mut self, ticket: Ticket) {
        while self.store.durable() < ticket {
            self.committed.blocking_recv().expect("the writer lives");
        }
    }

    fn reopen(self, dir: &Path) -> (Self, Snapshot) {
        self.store.close();
        drop(self);
        Self::open(dir)
    }
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn retained(snapshot: Snapshot) -> Vec<Message> {
    snapshot.retained.collect::<Result<_, _>>().expect("readable")
}

fn message(topic: &str, payload: &str) -> Arc<Message> {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Arc::new(Message { topic: topic.into(), payload, ..Message::default() })
}

/// Returns a message with every property and flag set.
fn full_message() -> Message {
    Message {
        topic: "a/é/\u{10348}".into(),
        payload: Bytes::from_static(b"\0\xff payload"),
        qos: QoS::ExactlyOnce,
        retain: true,
        properties: Properties {
            payload_is_utf8: Some(false),
            content_type: Some("text/plain".into()),
            response_topic: Some("reply/1".into()),
            correlation_data: Some(Bytes::from_static(b"\x01\x02")),
            user: [("k", "v"), ("k", "")].into_iter().collect(),
        },
        expires: Some(u64::MAX),
        asked: None,
    }
}

fn entry(message: &Arc<Message>) -> EntryRecord {
    EntryRecord { message: Arc::clone(message), qos: QoS::AtLeastOnce, ..EntryRecord::default() }
}

fn session(client_id: &str) -> SessionRecord {
    SessionRecord { client_id: client_id.into(), expiry: 3600, ..SessionRecord::default() }
}

fn full_session() -> SessionRecord {
    SessionRecord {
        client_id: "client".into(),
        version5: true,
        expiry: u32::MAX,
        disconnected: Some(1_700_000_000_000),
        will: Some(WillRecord { message: Arc::new(full_message()), delay: 7 }),
        user_name: Some("user".into()),
    }
}

#[test]
fn all_records_are_restored_after_a_restart() {
    let dir = dir();
    let (mut bench, snapshot) = Bench::open(dir.path());
    assert_eq!((snapshot.sessions.len(), snapshot.next_key, snapshot.damaged.clone()), (0, 1, None));
    assert!(retained(snapshot).is_empty());

    let options = SubscriptionRecord {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: 2,
        identifier: Some(268_435_455),
        reading: Some("a\0b".into()),
    };
    let full = Arc::new(full_message());
    let sent = EntryRecord {
        message: Arc::clone(&full),
        qos: QoS::ExactlyOnce,
        retain: true,
        identifiers: vec![1, 300],
        shared: Some("$share/g/a/#".into()),
        packet_id: 65_535,
        phase: Phase::Released,
    };
    bench.write([
        Op::Retain { message: Arc::clone(&full) },
        Op::SaveSession { key: 4, record: full_session() },
        Op::SaveSession { key: 9, record: session("plain") },
        Op::Subscribe { key: 4, filter: "a/#".into(), options: options.clone() },
        Op::Subscribe { key: 4, filter: "+/é".into(), options: SubscriptionRecord::default() },
        Op::Enqueue { key: 4, seq: 1, entry: sent.clone() },
        Op::Enqueue { key: 4, seq: 300, entry: entry(&full) },
        Op::Received { key: 4, packet_id: 65_535 },
        Op::Received { key: 4, packet_id: 1 },
    ]);

    let (_bench, snapshot) = bench.reopen(dir.path());
    assert_eq!((snapshot.next_key, snapshot.damaged.clone()), (10, None));
    let first = &snapshot.sessions[0];
    assert_eq!((first.key, &first.record), (4, &full_session()));
    assert_eq!(first.subscriptions, [("+/é".into(), SubscriptionRecord::default()), ("a/#".into(), options)]);
    assert_eq!(first.queue, [(1, sent), (300, entry(&full))]);
    assert!(Arc::ptr_eq(&first.queue[0].1.message, &first.queue[1].1.message));
    assert_eq!(first.received, [1, 65_535]);
    let plain = StoredSession {
        key: 9,
        record: session("plain"),
        subscriptions: vec![],
        queue: vec![],
        received: vec![],
    };
    assert_eq!(snapshot.sessions[1], plain);
    assert_eq!(retained(snapshot), [full_message()]);
}

#[test]
fn each_operation_replaces_or_removes_stored_rows() {
    let dir = dir();
    let (mut bench, _) = Bench::open(dir.path());
    let m = message("t", "x");
    let other = SubscriptionRecord { retain_handling: 1, ..SubscriptionRecord::default() };
    bench.write([
        Op::Retain { message: message("gone", "1") },
        Op::Retain { message: message("new", "1") },
        Op::SaveSession { key: 1, record: session("one") },
        Op::SaveSession { key: 2, record: session("two") },
        Op::Subscribe { key: 1, filter: "a".into(), options: SubscriptionRecord::default() },
        Op::Subscribe { key: 1, filter: "b".into(), options: SubscriptionRecord::default() },
        Op::Subscribe { key: 2, filter: "a".into(), options: SubscriptionRecord::default() },
        Op::Enqueue { key: 1, seq: 1, entry: entry(&m) },
        Op::Enqueue { key: 1, seq: 2, entry: entry(&m) },
        Op::Enqueue { key: 2, seq: 1, entry: entry(&m) },
        Op::Received { key: 1, packet_id: 1 },
        Op::Received { key: 1, packet_id: 2 },
        Op::Received { key: 2, packet_id: 2 },
    ]);
    bench.write([
        Op::Unretain { topic: "gone".into() },
        Op::Retain { message: message("new", "2") },
        Op::SaveSession { key: 1, record: full_session() },
        Op::Unsubscribe { key: 1, filter: "a".into() },
        Op::Subscribe { key: 1, filter: "b".into(), options: other.clone() },
        Op::Dequeue { key: 1, seq: 1 },
        Op::Phase { key: 1, seq: 2, packet_id: 77, phase: Phase::Sent },
        Op::Released { key: 1, packet_id: 1 },
        Op::DeleteSession { key: 2, leaves: false },
    ]);

    let (_bench, snapshot) = bench.reopen(dir.path());
    let moved = EntryRecord { packet_id: 77, phase: Phase::Sent, ..entry(&m) };
    let one = StoredSession {
        key: 1,
        record: full_session(),
        subscriptions: vec![("b".into(), other)],
        queue: vec![(2, moved)],
        received: vec![2],
    };
    assert_eq!(snapshot.sessions, [one]);
    assert_eq!(retained(snapshot), [(*message("new", "2")).clone()]);
}

#[test]
fn expired_messages_are_not_restored() {
    let dir = dir();
    let (mut bench, _) = Bench::open(dir.path());
    let past = Message { expires: Some(1), ..full_message() };
    let future = Message { topic: "later".into(), expires: Some(u64::MAX), ..full_message() };
    bench.write([past, future.clone()].map(|m| Op::Retain { message: Arc::new(m) }));
    let (bench, snapshot) = bench.reopen(dir.path());
    assert_eq!(retained(snapshot), std::slice::from_ref(&future));
    // The expired messages were also deleted from disk.
    let (_bench, snapshot) = bench.reopen(dir.path());
    assert_eq!(snapshot.retained.size_hint(), (0, Some(1)));
    assert_eq!(retained(snapshot), [future]);
}

#[test]
fn every_commit_wakes_its_sessions_once() {
    let dir = dir();
    let (mut bench, _) = Bench::open(dir.path());
    let mut tickets: Vec<_> = (0..90u64)
        .map(|n| bench.store.put([Op::Received { key: n % 3, packet_id: n as u16 + 1 }], Some(n % 3)))
        .collect();
    tickets.push(bench.store.put([], Some(50)));
    assert!(tickets.is_sorted_by(|a, b| a < b) && tickets[0] > 0);
    let mut woken = Vec::new();
    while bench.store.durable() < tickets[90] {
        let Committed { durable, wake } = bench.committed.blocking_recv().expect("the writer lives");
        assert!(durable <= bench.store.durable());
        assert!(wake.is_sorted_by(|a, b| a < b), "{wake:?} has a key twice");
        woken.extend(wake);
    }
    while let Ok(committed) = bench.committed.try_recv() {
        woken.extend(committed.wake);
    }
    woken.sort_unstable();
    woken.dedup();
    assert_eq!(woken, [0, 1, 2, 50]);
    assert_eq!(bench.store.backlog(), 0);
}

#[test]
fn close_writes_waiting_puts_and_later_ones_are_never_durable() {
    let dir = dir();
    let (bench, _) = Bench::open(dir.path());
    for n in 0..500 {
        bench.store.put([Op::Retain { message: message(&format!("t/{n}"), "x") }], None);
    }
    bench.store.close();
    assert_eq!(bench.store.durable(), 500);
    let late = bench.store.put([Op::Retain { message: message("late", "x") }], None);
    bench.store.close();
    assert!(late > bench.store.durable());
    let (_bench, snapshot) = bench.reopen(dir.path());
    assert_eq!(retained(snapshot).len(), 500);
}

#[test]
fn dropping_the_last_handle_closes_the_store() {
    let dir = dir();
    let (bench, _) = Bench::open(dir.path());
    bench.store.put([Op::Retain { message: message("t", "x") }], None);
    drop(bench);
    let (_bench, snapshot) = Bench::open(dir.path());
    assert_eq!(retained(snapshot).len(), 1);
}

#[tokio::test]
async fn room_returns_when_the_backlog_is_written() {
    let dir = dir();
    let (sender, _committed) = unbounded_channel();
    let (store, _) = Store::open(dir.path(), sender, StoreSettings::default(), NOW).expect("opens");
    let payload = Bytes::from(vec![7; 1 << 20]);
    for n in 0..64 {
        let topic = format!("t/{}", n % 8).into();
        let message = Arc::new(Message { topic, payload: payload.clone(), ..Message::default() });
        store.put([Op::Retain { message }], None);
    }
    store.room().await;
    assert!(store.backlog() < MAX_BACKLOG_BYTES);
    store.close();
    assert_eq!(store.backlog(), 0);
}
