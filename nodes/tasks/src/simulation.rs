//! Simulation of the ledger in virtual time: requests of users, answers, lost nodes and crashes at every write, in an
//! order derived from a seed.

mod disk;
mod fake;
mod nodes;
mod odds;
mod owners;
mod promises;
mod users;
mod world;

use rantai_client::environment::{Environment, ManualClock};
use rantai_client::shares::CallerKey;
use rantai_client::wire::fault::{Code, Fault};
use rantai_testing::{Record, Simulation};
use tokio::runtime::Builder;

use super::options::Options;
use super::task::State;
use fake::{NODES, ONCE};
use odds::{Odds, draw_limits};
use world::{Event, MINUTE_MS, START_MS, World};

const LEDGER: Simulation = Simulation {
    package: "rantai-tasks",
    test: "simulation",
    seeds: 4,
    events: 1_000,
    states: &[
        "a call fails",
        "a call fails for good",
        "a call is given up, and nobody knows what came of it",
        "a call is lost with its node",
        "a call is made again by the same identity",
        "a call is made again on another node",
        "a call reaches nobody",
        "a call succeeds",
        "a method that may be is carried out twice",
        "a node does not know what came of a call that it was killed in",
        "a node is busy",
        "a node is cut off",
        "a node is killed",
        "a node is killed while it carries out a call",
        "a node recognises a call that it has carried out",
        "a node recognises a call that it is carrying out",
        "a request is lost with its node",
        "a run is told to stop",
        "a schedule is ended",
        "a schedule is made",
        "a schedule is refused",
        "a schedule is replaced",
        "a schedule makes a task",
        "a secret is not told again",
        "a secret is told",
        "a task after one of somebody else is refused",
        "a task begins after others",
        "a task expires",
        "a task fails with one that it comes after",
        "a task is cancelled",
        "a task is forgotten",
        "a task is given the result of another",
        "a task is read",
        "a task is refused, as the ledger or a share of it is full",
        "a task is submitted",
        "a task is submitted again by its key",
        "a task is taken up again",
        "a task is taken up again at once",
        "a task waits to be called again",
        "a time comes of a schedule that is no more",
        "a time of a schedule makes no task",
        "an answer comes in the moment in which its task is cancelled",
        "an answer comes that nobody waits for any more",
        "an answer comes twice",
        "an answer is lost with its node",
        "an object has as many calls as it may",
        "another call by the same key is refused",
        "several tasks are submitted at once",
        "somebody else's task is not cancelled",
        "somebody else's task is not read",
        "somebody who waits for a task is told of its end",
        "tasks are listed",
        "the clock is set back",
        "the clock jumps",
        "the ledger has as many calls as it may",
        "the ledger is killed",
        "the ledger is killed at a write",
        "the ledger is killed while it opens its file",
    ],
};
/// Minimum time for which the ledger is disturbed, and maximum time for the remaining tasks after that, in
/// milliseconds.
const DISTURBED_MS: u64 = 15 * MINUTE_MS;
const CALM_MS: u64 = 26 * 60 * MINUTE_MS;
/// Maximum number of events of a seed.
const MAX_DISTURBANCES: u64 = 3_000;

/// Runs one seed to its end.
async fn run(seed: u64, record: &Record) {
    let chance = Environment::simulated(ManualClock::new(START_MS), seed ^ 0x0DD5);
    let mut world = World::disturbed(seed, Odds::draw(&chance), draw_limits(&chance), record.clone());
    let mut disturbances = 0;
    while disturbances < MAX_DISTURBANCES
        && (world.now() < START_MS + DISTURBED_MS || record.events() < LEDGER.events)
    {
        world.run_until(world.now() + 1 + world.below(world.odds.longest_pause_ms)).await;
        world.disturb().await;
        disturbances += 1;
    }
    world.calm().await;
    world.run_until(world.now() + CALM_MS).await;
    world.check_end();
}

/// Runs one seed in a runtime of its own.
fn run_seed(seed: u64, record: &Record) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(run(seed, record));
}

#[test]
fn ledger_keeps_its_promises_under_losses_and_crashes() {
    LEDGER.run(run_seed);
}

#[test]
fn same_seed_gives_the_same_trace() {
    LEDGER.assert_repeatable(run_seed);
}

/// Regression: one caller's hundreds of tasks for an object were executed before everybody else's.
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
        let trace = world.record.trace();
        assert!(trace.iter().any(|line| line.contains("started again")), "seed {seed}");
        for (id, before) in submitted {
            let id = uuid::Uuid::try_parse(&id).expect("an id").to_string();
            let called = |line: &&String| line.contains(" call ") && line.contains(&id);
            let first = trace.iter().find(called).expect("it was called");
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

/// Regression: after its expiry, such a task was checked again and again without a pause, which took more and more
/// memory.
#[tokio::test]
async fn called_task_waits_for_its_node_past_its_expiry() {
    let mut world = World::quiet(6);
    let options = Options { expires_ms: Some(60_000), ..Options::default() };
    let id = world.submit(ONCE, options).await;
    world.next_call().await;
    let called = world.task(&id).node.expect("a node");
    let node = NODES.into_iter().find(|node| *node == called).expect("one of them");
    world.happen(Event::NodeGone(node)).await;
    world.clock.set(START_MS + 61_000);
    let mut looks = 0;
    while let Ok(due) = world.ledger.shared.agenda.next(world.now()) {
        assert!(world.executor.begin(due).await.is_none(), "it may have been carried out on {node}");
        looks += 1;
        assert!(looks < 10, "it is looked at again and again");
    }
    assert_eq!(world.task(&id).state, State::Running);
    world.node_comes_back(node);
    world.next_call().await;
    assert_eq!(world.task(&id).node.as_deref(), Some(node));
}

#[tokio::test]
async fn missed_times_of_a_schedule_are_one_after_the_clock_jumps() {
    let mut world = World::quiet(5);
    world.schedule("every-minute", "* * * * *").await;
    world.run_until(START_MS + 3 * MINUTE_MS).await;
    assert_eq!(world.scheduled("every-minute").made, 3);
    // The machine was suspended for this time.
    world.jump(START_MS + 100 * MINUTE_MS).await;
    assert_eq!(world.scheduled("every-minute").made, 4);
    world.run_until(START_MS + 101 * MINUTE_MS).await;
    let schedule = world.scheduled("every-minute");
    assert_eq!((schedule.made, schedule.skipped), (5, 0));
}
