//! Failing disk: nothing becomes durable, and nothing is lost when it works again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rantai_group_commit::faulty::{self, Switch};

use super::*;
use crate::store::open;

pub(super) fn open_faulty(dir: &Path) -> (Bench, Arc<Switch>) {
    let plenty = || Ok(Space { free: 1 << 40, total: 1 << 40 });
    open_faulty_with(dir, Box::new(plenty), StoreSettings::default())
}

pub(super) fn open_faulty_with(
    dir: &Path,
    look: MeasureSpace,
    settings: StoreSettings,
) -> (Bench, Arc<Switch>) {
    let mut switch = None;
    let (sender, committed) = unbounded_channel();
    let opener = |path: &Path| {
        let (opener, given) = faulty::file_with(path, open::builder);
        switch = Some(given);
        opener
    };
    let (store, _) = Store::open_with(dir, sender, (opener, look), settings, NOW).expect("opens");
    (Bench { store, committed }, switch.expect("the opener was made"))
}

/// Opens a store with the session 1 on a disk that is full after `writes` more writes.
pub(super) fn open_full_after(writes: u64) -> (TempDir, Bench, Arc<Switch>) {
    let dir = dir();
    let (mut bench, switch) = open_faulty(dir.path());
    bench.write([Op::SaveSession { key: 1, record: session("c") }]);
    switch.writes.store(writes, Ordering::Relaxed);
    switch.full.store(true, Ordering::Relaxed);
    (dir, bench, switch)
}

pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "never came: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_ticket_is_durable_on_a_full_disk_until_there_is_room() {
    // Each of these writes of the commit is the first to fail in one round.
    for writes in [0, 1, 2, 3, 5, 8] {
        let (dir, mut bench, switch) = open_full_after(writes);
        let m = message("t", "x");
        let enqueue = |seq| Op::Enqueue { key: 1, seq, entry: entry(&m) };
        let before = bench.store.durable();
        let mut ticket = 0;
        // A few commits may still succeed.
        until("a failure", || {
            ticket = bench.store.put([enqueue(bench.store.durable() + 1_000 * ticket)], Some(1));
            bench.store.health().is_failed()
        });
        let held = bench.store.durable();
        assert!(held < ticket && held >= before);
        assert!(bench.store.backlog() > 0);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(bench.store.durable(), held);

        switch.full.store(false, Ordering::Relaxed);
        bench.wait(ticket);
        assert!(!bench.store.health().is_failed());
        let (_bench, snapshot) = bench.reopen(dir.path());
        assert_eq!(snapshot.sessions[0].queue.len() as u64, ticket - before);
        let first = &snapshot.sessions[0].queue[0].1.message;
        assert!(snapshot.sessions[0].queue.iter().all(|(_, entry)| Arc::ptr_eq(&entry.message, first)));
    }
}

#[test]
fn a_panic_of_the_database_counts_as_a_failed_write() {
    let dir = dir();
    let (mut bench, switch) = open_faulty(dir.path());
    switch.panics.store(true, Ordering::Relaxed);
    let ticket = bench.store.put([Op::Retain { message: message("t", "x") }], None);
    until("a failure", || bench.store.health().is_failed());
    assert_eq!(bench.store.durable(), 0);
    switch.panics.store(false, Ordering::Relaxed);
    bench.wait(ticket);
    let (_bench, snapshot) = bench.reopen(dir.path());
    assert_eq!(retained(snapshot).len(), 1);
}

#[test]
fn a_close_does_not_wait_for_a_broken_disk() {
    let dir = dir();
    let (bench, switch) = open_faulty(dir.path());
    switch.full.store(true, Ordering::Relaxed);
    bench.store.put([Op::Retain { message: message("t", "x") }], None);
    until("a failure", || bench.store.health().is_failed());
    let start = Instant::now();
    bench.store.close();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.store.durable(), 0);
}
