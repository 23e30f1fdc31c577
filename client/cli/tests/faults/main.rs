//! Checks all promises to callers while the network, the nodes, the ledger and the broker fail.
//!
//! Clients and nodes reach the broker through relays that delay, slice, stall, cut and reset their connections, as
//! derived from a seed; processes are killed, stopped and restarted, and their disks fail (`disks`). All requests,
//! answers and executions are recorded, and checked in the end (`history`); so are messages that the broker has to keep
//! (`mail`).
//!
//! Environment variables:
//!
//! - `RANTAI_FAULTS_S`: duration in seconds.
//! - `RANTAI_FAULTS_SEED`: the seed.
//! - `RANTAI_FAULTS_REPORT`: file for the table.
//! - `RANTAI_TEST_BROKER`: URL of a broker to use, which does not fail; everything else does.
//! - `RANTAI_FAULTS_KILLS`: number of times that a node is killed during calls, to measure how long these calls then
//!   take; nothing else fails.

#![allow(missing_docs, reason = "a test binary has no readers of documentation")]

mod calls;
mod disks;
mod history;
mod mail;
mod node;
mod process;
mod relay;
mod shelf;
mod travel;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use history::History;
use mail::Mail;
use world::World;

/// Reads a number from the environment.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Number of concurrent callers.
const CALLERS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_are_kept_while_network_processes_and_disks_fail() {
    let (seconds, seed) = (setting("RANTAI_FAULTS_S", 10), setting("RANTAI_FAULTS_SEED", 1));
    println!("{seconds} s, seed {seed}");
    let history = Arc::new(History::default());
    let mut world = World::start(seed, true).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for number in 0..CALLERS {
        let client = world.client(number).await;
        let (history, over) = (history.clone(), over.clone());
        let random = fastrand::Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(number));
        callers.push(tokio::spawn(async move {
            let mut caller = calls::Caller::new(number, client, history, random);
            while !over.load(Ordering::Relaxed) {
                caller.call().await;
            }
            (caller.submitted, caller.shelf.kept)
        }));
    }
    let mail = Mail::start(&world, &history, &mut fastrand::Rng::with_seed(seed)).await;
    let mut prober = {
        let client = world.client(CALLERS + 1).await;
        calls::Caller::new(CALLERS + 1, client, history.clone(), fastrand::Rng::with_seed(seed))
    };
    world.fail_for(Duration::from_secs(seconds), &mut prober).await;
    over.store(true, Ordering::Relaxed);
    world.recover().await;
    let (mut submitted, mut kept) = (prober.submitted, prober.shelf.kept);
    for caller in callers {
        let (tasks, files) = caller.await.expect("no panic");
        submitted.extend(tasks);
        kept.extend(files);
    }
    let delivered = tokio::task::spawn_blocking(move || mail.finish()).await.expect("no panic");
    let client = world.client(CALLERS).await;
    calls::settle(&client, &submitted, &history).await;
    let crowned = calls::crowned(&client).await;
    let damaged = shelf::damaged(&world.shelf(), &kept);
    let executed = world.executions();
    let mut rows = delivered.rows;
    rows.extend([("files acknowledged", kept.len()), ("of them lost or damaged", damaged.len())]);
    let table = history.table(&executed, &submitted, &world.faults(), &rows);
    println!("{table}");
    if let Ok(file) = std::env::var("RANTAI_FAULTS_REPORT") {
        let command =
            format!("`RANTAI_FAULTS_S={seconds} RANTAI_FAULTS_SEED={seed}`, {}", world.broker_name());
        std::fs::write(file, format!("{command}\n\n{table}")).expect("written");
    }
    let mut broken = history.broken(&executed, &submitted);
    broken.extend(delivered.broken);
    broken.extend(
        damaged.iter().map(|file| format!("{} was acknowledged and is lost or damaged", file.display())),
    );
    broken.extend(crowned.err());
    broken.extend(world.broken());
    assert!(broken.is_empty(), "seed {seed}:\n{}", broken.join("\n"));
}

/// Measures how long calls take to fail after the end of their node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_with_their_node() {
    const AT_ONCE: usize = 50;
    let kills = setting("RANTAI_FAULTS_KILLS", 3);
    let mut world = World::start(7, false).await;
    let client = world.client(0).await;
    let (mut ends, mut wrong) = (Vec::new(), 0);
    for kill in 0..kills {
        let node = world.wait_for_lone(&client).await;
        let calls: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let object = client.object("lone").deadline(Duration::from_mins(1));
                tokio::spawn(async move { (object.call::<u64>("wait", number).await, Instant::now()) })
            })
            .collect();
        // Before the node has accepted the calls, and after.
        tokio::time::sleep(Duration::from_millis(50 + kill * 97 % 700)).await;
        let killed = Instant::now();
        world.kill_node(&node);
        for call in calls {
            let (ended, at) = call.await.expect("no panic");
            let fault = ended.as_ref().err().and_then(|error| error.fault());
            if fault.is_none_or(|fault| fault.code.0 != -32004 || !fault.maybe_executed()) {
                wrong += 1;
                println!("{ended:?}");
            }
            ends.push(at.saturating_duration_since(killed));
        }
    }
    ends.sort_unstable();
    let at = |percent: usize| ends[(ends.len() - 1) * percent / 100];
    println!(
        "{kills} kills of a node with {AT_ONCE} calls under way: {} calls ended after {:?} (median), {:?} (99 of 100), {:?} \
         (last); {wrong} not as they should",
        ends.len(),
        at(50),
        at(99),
        at(100),
    );
    assert_eq!(wrong, 0);
    assert!(at(100) < Duration::from_secs(20), "far within their deadline");
}
