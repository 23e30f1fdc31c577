//! kill -9 of a process that writes: durable puts are restored, and every put is restored completely or not at all.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::random::Seeded;

const DIR: &str = "RANTAI_STORE_CRASH_DIR";
const CHILD: &str = "store::tests::crash::child";

/// Returns the operations of one put: they add a retained message, a queue row and a packet id for the number `n`, and
/// remove those for `n - 20`.
fn ops(n: u64) -> Vec<Op> {
    let m = message(&format!("n/{n:08}"), "x");
    let mut ops = vec![
        Op::Retain { message: Arc::clone(&m) },
        Op::Enqueue { key: 1, seq: n, entry: entry(&m) },
        Op::Received { key: 1, packet_id: (n % 60_000) as u16 + 1 },
    ];
    if let Some(old) = n.checked_sub(20) {
        ops.push(Op::Unretain { topic: format!("n/{old:08}").into() });
        ops.push(Op::Dequeue { key: 1, seq: old });
        ops.push(Op::Released { key: 1, packet_id: (old % 60_000) as u16 + 1 });
    }
    ops
}

/// Returns the numbers that are stored, after checking that all three tables have the same, so that no put was split.
fn stored_numbers(snapshot: Snapshot) -> Vec<u64> {
    assert_eq!(snapshot.damaged, None);
    let Some(session) = snapshot.sessions.first() else { return Vec::new() };
    let queue: Vec<_> = session.queue.iter().map(|(seq, _)| *seq).collect();
    assert!(session.queue.iter().all(|(seq, entry)| entry.message.topic == format!("n/{seq:08}")));
    let mut received: Vec<_> = queue.iter().map(|n| (n % 60_000) as u16 + 1).collect();
    received.sort_unstable();
    assert_eq!(session.received, received);
    let topics: Vec<_> = retained(snapshot).into_iter().map(|message| message.topic).collect();
    assert_eq!(topics, queue.iter().map(|n| format!("n/{n:08}")).collect::<Vec<_>>());
    queue
}

#[test]
#[ignore = "the process that the test below kills"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (mut bench, snapshot) = Bench::open(Path::new(&dir));
    let start = stored_numbers(snapshot).last().map_or(0, |n| n + 1);
    bench.write([Op::SaveSession { key: 1, record: session("c") }]);
    let mut out = std::io::stdout().lock();
    let mut waiting = std::collections::VecDeque::new();
    for n in start.. {
        waiting.push_back((bench.store.put(ops(n), None), n));
        if waiting.len() == 16 {
            let (ticket, n) = waiting.pop_front().expect("16 wait");
            bench.wait(ticket);
            writeln!(out, "durable {n}").and_then(|()| out.flush()).expect("the parent reads");
        }
    }
}

#[test]
fn a_killed_process_loses_no_durable_put_and_splits_none() {
    let dir = dir();
    let mut random = Seeded::new(std::process::id().into());
    let mut last = None;
    for round in 0..25 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([CHILD, "--exact", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (first, started) = channel();
        let reader = std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok())
                .inspect(|_| first.send(()).unwrap_or_default())
                .last()
        });
        // Every second round, the process is killed at a random time, which may be while it opens the store.
        if round % 2 == 0 {
            started.recv().expect("the child writes");
        }
        std::thread::sleep(Duration::from_millis(random.below(100)));
        child.kill().expect("runs");
        child.wait().expect("ends");
        last = reader.join().expect("reads").or(last);

        let (bench, snapshot) = Bench::open(dir.path());
        let kept = stored_numbers(snapshot);
        let newest = kept.last().copied();
        assert!(newest >= last, "round {round}: {last:?} was durable, {newest:?} is kept");
        assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1) && kept.len() <= 20, "{kept:?}");
        bench.store.close();
    }
}
