//! The ledger in virtual time: submissions, answers, lost nodes and crashes in an order that a seed decides.

mod fake;
mod owners;
mod world;

use rantai_client::shares::CallerKey;
use rantai_client::wire::fault::{Code, Fault};

use super::options::Options;
use super::task::State;
use world::{MINUTE_MS, START_MS, World};

/// Runs one seed to its end. Returns what happened, line by line.
async fn run(seed: u64) -> Vec<String> {
    let mut world = World::new(seed);
    world.schedule("every-minute", "* * * * *").await;
    for _ in 0..12 {
        world.submit_random().await;
    }
    world.run_until(START_MS + 20 * MINUTE_MS).await;
    world.unschedule("every-minute").await;
    world.end_disturbances();
    world.run_until(START_MS + 24 * 60 * MINUTE_MS).await;
    world.check();
    world.trace
}

#[tokio::test]
async fn every_task_ends_once_whatever_is_lost_and_in_whichever_order() {
    for seed in 0..30 {
        run(seed).await;
    }
}

#[tokio::test]
async fn same_seed_gives_the_same_trace() {
    let (first, again, other) = (run(7).await, run(7).await, run(8).await);
    assert!(first.len() > 50, "{first:#?}");
    assert_eq!(first, again);
    assert_ne!(first, other);
}

/// One caller's hundreds of tasks for an object went before everybody else's.
#[tokio::test]
async fn a_caller_waits_for_a_turn_and_not_for_all_that_another_has_submitted() {
    for seed in 0..10 {
        let mut world = World::answering(seed);
        let [greedy, honest] =
            ["greedy", "honest"].map(|name| CallerKey::Client(name.parse().expect("an id")));
        for _ in 0..300 {
            let options = Options { priority: 9, ..Options::default() };
            world.submit_by(greedy.clone(), "printer", options).await;
        }
        let mut submitted = Vec::new();
        for minute in 0..3 {
            let time = START_MS + minute * MINUTE_MS + seed * 1_000;
            world.run_until(time).await;
            let options = Options { priority: 0, ..Options::default() };
            let id = world.submit_by(honest.clone(), "printer", options).await;
            submitted.push((id, world.calls()));
        }
        world.run_until(START_MS + 10 * MINUTE_MS).await;
        assert!(world.trace.iter().any(|line| line.contains("Crash")), "seed {seed}");
        for (id, before) in submitted {
            let id = uuid::Uuid::try_parse(&id).expect("an id").to_string();
            let called = |line: &&String| line.contains(" call ") && line.contains(&id);
            let first = world.trace.iter().find(called).expect("it was called");
            let number = first.split([' ', ':']).nth(2).and_then(|number| number.parse::<u64>().ok());
            let others = number.expect("a number") - before;
            assert!(others <= 8, "seed {seed}: {others} calls before {first}");
        }
    }
}

#[tokio::test]
async fn retries_wait_within_their_backoff_and_end() {
    let mut world = World::quiet(3);
    let failure = Fault::new(Code::FAILED, "no paper");
    let options = Options { retries: 3, backoff_ms: 1_000, ..Options::default() };
    let id = world.submit("printer", options).await;
    let mut last = START_MS;
    for limit in [0, 1_000, 2_000, 4_000] {
        let called = world.next_call().await;
        assert!((last..=last + limit).contains(&called), "{called} after {last}, at most {limit} later");
        last = called;
        world.answer(Err(Box::new(failure.clone()))).await;
    }
    let task = world.task(&id);
    assert_eq!((task.state, task.runs, task.ended_ms), (State::Failed, 4, Some(last)));
}

#[tokio::test]
async fn task_expires_while_no_node_serves_its_object() {
    let mut world = World::quiet(4);
    let options = Options { expires_ms: Some(60_000), ..Options::default() };
    let id = world.submit("nowhere", options).await;
    world.run_until(START_MS + 59_999).await;
    assert_eq!(world.task(&id).state, State::Queued);
    world.run_until(START_MS + 60_000).await;
    let task = world.task(&id);
    assert_eq!((task.state, task.ended_ms, task.runs), (State::Expired, Some(START_MS + 60_000), 0));
}

#[tokio::test]
async fn missed_times_of_a_schedule_are_one_after_the_clock_jumps() {
    let mut world = World::quiet(5);
    world.schedule("every-minute", "* * * * *").await;
    world.run_until(START_MS + 3 * MINUTE_MS).await;
    assert_eq!(world.scheduled("every-minute").made, 3);
    // The machine was asleep.
    world.jump(START_MS + 100 * MINUTE_MS).await;
    assert_eq!(world.scheduled("every-minute").made, 4);
    world.run_until(START_MS + 101 * MINUTE_MS).await;
    let schedule = world.scheduled("every-minute");
    assert_eq!((schedule.made, schedule.skipped), (5, 0));
}
