//! A disk that neither works nor fails: the writer waits for it, and could not say so.

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
fn disk_that_does_not_answer_is_noticed_and_what_waited_is_written_when_it_does() {
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
fn a_disk_that_fails_after_it_did_not_answer_is_failing() {
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
fn clients_are_not_held_back_for_a_disk_that_does_not_answer() {
    let dir = dir();
    let (bench, switch) = open_hanging(dir.path());
    switch.hang();
    let large = message("t", &"x".repeat(ROOM + 1));
    bench.store.put([Op::Retain { message: large }], None);
    switch.wait_until_it_hangs();
    assert!(bench.store.is_behind());
    until_stalled(&bench);
    assert!(!bench.store.is_behind());
    switch.release();
}

#[test]
fn a_close_does_not_wait_for_a_disk_that_does_not_answer() {
    let dir = dir();
    let (bench, switch) = open_hanging(dir.path());
    switch.hang();
    let ticket = bench.store.put(retain("t"), None);
    switch.wait_until_it_hangs();
    bench.store.close();
    assert!(bench.store.durable() < ticket);
    switch.release();
}
