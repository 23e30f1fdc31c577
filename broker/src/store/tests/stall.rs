//! Stalled disk, whose operations neither succeed nor fail. The writer waits for it, and cannot report it itself.

use super::failure::{open_faulty_with, until};
use super::*;

fn open_hanging(dir: &Path) -> (Bench, Arc<rantai_group_commit::faulty::Switch>) {
    let plenty = || Ok(Space { free: 1 << 40, total: 1 << 40 });
    let settings = StoreSettings { stall: Duration::from_millis(20), ..StoreSettings::default() };
    open_faulty_with(dir, Box::new(plenty), settings)
}

fn retain(topic: &str) -> [Op; 1] {
    [Op::Retain { message: message(topic, "x") }]
}

fn until_stalled(bench: &Bench) {
    until("stalled", || {
        bench.store.look_for_stall();
        bench.store.health() == Health::Stalled
    });
}

#[test]
fn a_stalled_disk_is_reported_and_waiting_puts_are_written_when_it_works() {
    let dir = dir();
    let (mut bench, switch) = open_hanging(dir.path());
    bench.write(retain("before"));
    assert_eq!(bench.store.health(), Health::Healthy);
    switch.hang();
    bench.store.put(retain("meanwhile"), None);
    switch.wait_until_it_hangs();
    until_stalled(&bench);
    let last = bench.store.put(retain("later"), None);
    assert!(bench.store.durable() < last);
    switch.release();
    bench.wait(last);
    assert_eq!(bench.store.health(), Health::Healthy, "before the tickets are passed");
    let (_bench, snapshot) = bench.reopen(dir.path());
    assert_eq!(retained(snapshot).len(), 3);
}

#[test]
fn a_stalled_disk_that_then_fails_is_reported_as_failing() {
    let dir = dir();
    let (mut bench, switch) = open_hanging(dir.path());
    switch.hang();
    let ticket = bench.store.put(retain("t"), None);
    switch.wait_until_it_hangs();
    until_stalled(&bench);
    switch.full.store(true, std::sync::atomic::Ordering::Relaxed);
    switch.release();
    until("full", || bench.store.health() == Health::Full);
    switch.full.store(false, std::sync::atomic::Ordering::Relaxed);
    bench.wait(ticket);
    assert_eq!(bench.store.health(), Health::Healthy);
}

#[test]
fn clients_do_not_wait_for_a_stalled_disk() {
    let dir = dir();
    let (bench, switch) = open_hanging(dir.path());
    switch.hang();
    let large = message("t", &"x".repeat(MAX_BACKLOG_BYTES + 1));
    bench.store.put([Op::Retain { message: large }], None);
    switch.wait_until_it_hangs();
    assert!(bench.store.is_behind());
    until_stalled(&bench);
    assert!(!bench.store.is_behind());
    switch.release();
}

#[test]
fn close_does_not_wait_for_a_stalled_disk() {
    let dir = dir();
    let (bench, switch) = open_hanging(dir.path());
    switch.hang();
    let ticket = bench.store.put(retain("t"), None);
    switch.wait_until_it_hangs();
    bench.store.close();
    assert!(bench.store.durable() < ticket);
    switch.release();
}
