//! Random operations compared with a model in memory, with restarts at random points.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::*;
use crate::random::Seeded;

#[derive(Default)]
struct Model {
    retained: BTreeMap<ByteString, Message>,
    sessions: BTreeMap<u64, Kept>,
}

#[derive(Default)]
struct Kept {
    record: SessionRecord,
    subscriptions: BTreeMap<ByteString, SubscriptionRecord>,
    queue: BTreeMap<u64, EntryRecord>,
    received: BTreeSet<u16>,
}

impl Model {
    fn apply(&mut self, op: &Op) {
        let session = |model: &mut Self, key: &u64, change: &mut dyn FnMut(&mut Kept)| {
            change(model.sessions.get_mut(key).expect("only live sessions are used"));
        };
        match op.clone() {
            Op::Retain { message } => {
                self.retained.insert(message.topic.clone(), (*message).clone());
            }
            Op::Unretain { topic } => {
                self.retained.remove(&topic);
            }
            Op::SaveSession { key, record } => self.sessions.entry(key).or_default().record = record,
            Op::DeleteSession { key, .. } => {
                self.sessions.remove(&key);
            }
            Op::Subscribe { key, filter, options } => session(self, &key, &mut |kept| {
                kept.subscriptions.insert(filter.clone(), options.clone());
            }),
            Op::Unsubscribe { key, filter } => session(self, &key, &mut |kept| {
                kept.subscriptions.remove(&filter);
            }),
            Op::Enqueue { key, seq, entry } => session(self, &key, &mut |kept| {
                kept.queue.insert(seq, entry.clone());
            }),
            Op::Phase { key, seq, packet_id, phase } => session(self, &key, &mut |kept| {
                if let Some(entry) = kept.queue.get_mut(&seq) {
                    entry.packet_id = packet_id;
                    entry.phase = phase;
                }
            }),
            Op::Dequeue { key, seq } => session(self, &key, &mut |kept| {
                kept.queue.remove(&seq);
            }),
            Op::Received { key, packet_id } => session(self, &key, &mut |kept| {
                kept.received.insert(packet_id);
            }),
            Op::Released { key, packet_id } => session(self, &key, &mut |kept| {
                kept.received.remove(&packet_id);
            }),
        }
    }

    fn check(&self, snapshot: Snapshot) {
        assert_eq!(snapshot.damaged, None);
        let expected: Vec<_> = self
            .sessions
            .iter()
            .map(|(&key, kept)| StoredSession {
                key,
                record: kept.record.clone(),
                subscriptions: kept.subscriptions.clone().into_iter().collect(),
                queue: kept.queue.clone().into_iter().collect(),
                received: kept.received.iter().copied().collect(),
            })
            .collect();
        assert_eq!(snapshot.sessions, expected);
        assert_eq!(retained(snapshot), self.retained.values().cloned().collect::<Vec<_>>());
    }
}

/// Generator of operations that a broker could make next, with increasing sequence numbers.
struct Engine {
    random: Seeded,
    sequence: u64,
    shared: Arc<Message>,
}

impl Engine {
    fn op(&mut self, model: &Model) -> Op {
        let random = &mut self.random;
        let topic = format!("t/{}", random.below(12));
        let some = random.below(1_000).to_string();
        if model.sessions.is_empty() || random.below(40) == 0 {
            let record = SessionRecord { expiry: random.below(9) as u32, ..session(&some) };
            return Op::SaveSession { key: random.below(5), record };
        }
        let nth = random.below(model.sessions.len() as u64) as usize;
        let (&key, kept) = model.sessions.iter().nth(nth).expect("within");
        let filter = ByteString::from(topic.as_str());
        let packet_id = random.below(6) as u16 + 1;
        // Mostly an existing row, sometimes one that was removed.
        let nth = random.below(kept.queue.len() as u64 + 1) as usize;
        let seq = kept.queue.keys().nth(nth).copied().unwrap_or_else(|| random.below(self.sequence + 1));
        match random.below(100) {
            0..10 => Op::Retain { message: message(&topic, &some) },
            10..15 => Op::Unretain { topic: filter },
            15..16 => Op::DeleteSession { key, leaves: key % 2 == 0 },
            16..25 => Op::Subscribe {
                key,
                filter,
                options: SubscriptionRecord { identifier: Some(1), ..Default::default() },
            },
            25..30 => Op::Unsubscribe { key, filter },
            30..55 => {
                self.sequence += 1;
                if random.below(3) == 0 {
                    self.shared = message(&topic, &some);
                }
                Op::Enqueue { key, seq: self.sequence, entry: entry(&self.shared) }
            }
            55..70 => Op::Phase { key, seq, packet_id, phase: Phase::Released },
            70..90 => Op::Dequeue { key, seq },
            90..95 => Op::Received { key, packet_id },
            _ => Op::Released { key, packet_id },
        }
    }
}

#[test]
fn random_operations_leave_the_contents_of_the_model() {
    for seed in 0..12 {
        let dir = dir();
        let mut model = Model::default();
        let mut engine = Engine { random: Seeded::new(seed), sequence: 0, shared: message("t", "first") };
        let (mut bench, mut snapshot) = Bench::open(dir.path());
        for _ in 0..12 {
            model.check(snapshot);
            for _ in 0..engine.random.below(300) {
                let mut ops = Vec::new();
                for _ in 0..engine.random.below(4) {
                    let op = engine.op(&model);
                    model.apply(&op);
                    ops.push(op);
                }
                let ticket = bench.store.put(ops, None);
                if engine.random.below(30) == 0 {
                    bench.wait(ticket);
                }
            }
            (bench, snapshot) = bench.reopen(dir.path());
        }
        model.check(snapshot);
    }
}

/// Commits fail at any of their writes, may be on disk nevertheless, and later operations are combined with them.
#[test]
fn random_operations_on_a_failing_disk_leave_the_contents_of_the_model() {
    for seed in 0..8 {
        let dir = dir();
        let mut model = Model::default();
        let mut engine = Engine { random: Seeded::new(seed), sequence: 0, shared: message("t", "first") };
        let (mut bench, switch) = super::failure::open_faulty(dir.path());
        for _ in 0..12 {
            switch.writes.store(engine.random.below(20), Ordering::Relaxed);
            switch.full.store(true, Ordering::Relaxed);
            let mut ticket = 0;
            for _ in 0..engine.random.below(120) {
                let mut ops = Vec::new();
                for _ in 0..engine.random.below(4) {
                    let op = engine.op(&model);
                    model.apply(&op);
                    ops.push(op);
                }
                ticket = bench.store.put(ops, None);
                if engine.random.below(30) == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(engine.random.below(60)));
                }
            }
            if engine.random.below(2) == 0 {
                switch.full.store(false, Ordering::Relaxed);
                bench.wait(ticket);
            }
        }
        switch.full.store(false, Ordering::Relaxed);
        let (_bench, snapshot) = bench.reopen(dir.path());
        model.check(snapshot);
    }
}
