//! Simulation of the dispatcher in virtual time: calls, repeats, cancels, streams, a journal whose commits fail, and a
//! node that is killed, in an order derived from a seed.

mod calls;
mod disk;
mod node;
mod odds;
mod work;
mod world;

use rantai_testing::{Record, Simulation};
use tokio::runtime::Builder;

use world::World;

const DISPATCHER: Simulation = Simulation {
    package: "rantai-nodes",
    test: "dispatch::simulation",
    seeds: 10,
    events: 1_000,
    states: &[
        "a call ends with its node",
        "a call fails",
        "a call is cancelled",
        "a call is told busy",
        "a call runs longer than it may",
        "a call succeeds",
        "a caller is told where its call runs",
        "a caller takes more of a stream",
        "a cancel is told",
        "a node ends its calls",
        "a node ends its streams",
        "a node is killed",
        "a part of a stream comes",
        "a repeat gets the same answer",
        "a repeat is refused",
        "a request comes twice",
        "a request is passed on",
        "a request is sent again",
        "a request of a built-in method is told busy",
        "a stream ends",
        "an identity is used for another request",
        "nobody gets a message",
        "parts of a stream come again",
        "the journal is not written",
        "the journal is not written, and does not know it",
        "the journal is written",
        "the journal is written, and does not know it",
        "the next object of a chain is not there",
        "the send queue is full",
        "the send queue is written",
    ],
};
/// Maximum number of steps of one seed.
const MAX_STEPS: u64 = 5_000;

/// Runs one seed in a runtime of its own.
fn run_seed(seed: u64, record: &Record) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(seed, record.clone());
        for _ in 0..MAX_STEPS {
            if record.events() >= DISPATCHER.events {
                break;
            }
            world.step().await;
        }
        world.check_end().await;
    });
}

#[test]
fn each_call_is_answered_once_and_leaves_no_state() {
    DISPATCHER.run(run_seed);
}

#[test]
fn same_seed_gives_the_same_trace() {
    DISPATCHER.assert_repeatable(run_seed);
}
