//! Claims in virtual time: nodes that contest a name over links that delay and break, in an order that a seed decides.

mod broker;

use std::sync::Arc;
use std::time::Duration;

use rantai_client::Environment;
use rantai_client::environment::ManualClock;
use rantai_client::object::{Answer, Answering, Call, Description, Object};
use rantai_client::registry::View;
use rantai_client::session::Status;
use rantai_client::wire::entry::{NodeState, State};
use rantai_client::wire::name::{ClientId, ObjectName, Root};
use rantai_client::wire::topic::RegistryTopic;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::announcer::{Announcer, draw_epoch, keep_announced};
use crate::dispatch::{Limits, Served};
use crate::keeper::Keeper;
use crate::serving::ServeOptions;
use broker::FakeBroker;

/// How long links break.
const DISTURBED: Duration = Duration::from_mins(1);
/// How long the name may take to find its holder after that.
const CALM: Duration = Duration::from_secs(30);

fn name() -> ObjectName {
    ObjectName::new("echo").expect("a name")
}

struct Nothing;

impl Object for Nothing {
    fn description(&self) -> Description {
        Description::default()
    }

    fn call(self: Arc<Self>, _: Call) -> Answering {
        Box::pin(std::future::ready(Ok(Answer::Value(json!(null)))))
    }
}

/// A node that is added to the broker, and not connected.
fn announcer(broker: &Arc<FakeBroker>, name: &str, epoch: String) -> (Arc<Announcer>, Arc<Served>) {
    let (root, id) = (Root::default(), ClientId::new(name).expect("an id"));
    let state = RegistryTopic::Node(id.clone()).format(&root);
    let will = (state.clone(), NodeState::new(State::Lost, &epoch).write().into());
    let own_topics = vec![state, RegistryTopic::entries_on(&root, &id)];
    let served = Served::new(self::name(), Arc::new(Nothing), Limits::default());
    let bus = broker.add(name, served.clone(), will, own_topics);
    let announcer = Announcer::new(root, id, epoch, Box::new(bus));
    broker.state.lock().clients.get_mut(name).expect("added").announcer = Some(announcer.clone());
    (announcer, served)
}

/// A node that claims the name for as long as the simulation runs, and asks a holder to give it up now and then.
async fn node(broker: Arc<FakeBroker>, name: &'static str, environment: Environment) {
    let (announcer, served) = announcer(&broker, name, draw_epoch(&environment));
    let status = announcer.bus.status();
    let pause = |longest_ms| Duration::from_millis(environment.random_below(longest_ms));
    let claiming = async {
        loop {
            let options =
                ServeOptions { replace: environment.random_below(4) == 0, ..ServeOptions::default() };
            let (_keeper, first) = Keeper::start(announcer.clone(), status.clone(), served.clone(), options);
            if first.await.is_ok_and(|first| first.is_ok()) {
                // From now on it claims the name again by itself.
                std::future::pending::<()>().await;
            }
            sleep(pause(3_000)).await;
        }
    };
    let began = Instant::now();
    let breaking = async {
        sleep(pause(500)).await;
        while began.elapsed() < DISTURBED {
            // Refused as long as it has not noticed that its connection is lost.
            broker.connect(name);
            sleep(pause(15_000)).await;
            broker.cut(name);
            sleep(pause(4_000)).await;
        }
        while !broker.connect(name) {
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(claiming, breaking, keep_announced(announcer.clone(), status.clone()));
}

/// Runs one seed. Returns what happened, line by line.
async fn run(seed: u64) -> Vec<String> {
    let environment = Environment::simulated(ManualClock::new(1_000), seed);
    let broker = FakeBroker::new(environment.clone());
    let nodes: Vec<_> = ["one", "two", "three"][..2 + (seed % 2) as usize]
        .iter()
        .map(|name| tokio::spawn(node(broker.clone(), name, environment.clone())))
        .collect();
    sleep(DISTURBED + CALM).await;
    let first = check(&broker, seed);
    // It does not come back.
    broker.cut(&first);
    sleep(CALM).await;
    assert_ne!(check(&broker, seed), first, "seed {seed}");
    for node in nodes {
        assert!(!node.is_finished(), "seed {seed}: a node has ended");
        node.abort();
    }
    std::mem::take(&mut broker.state.lock().trace)
}

/// The one holder of the name, whose entry is the one that is settled and whose node is ready.
fn check(broker: &FakeBroker, seed: u64) -> String {
    let holders = broker.holders();
    let state = broker.state.lock();
    let trace = state.trace.join("\n");
    assert!(state.violations.is_empty(), "seed {seed}: {:#?}\n{trace}", state.violations);
    let mut view = View::new(Root::default());
    for (topic, payload) in &state.retained {
        view.apply(topic, payload).expect("an entry or a state");
    }
    let served: Vec<&str> = view.served(&name()).map(|entry| &*entry.node).collect();
    assert!(served.len() == 1 && served == holders, "seed {seed}: {served:?}, {holders:?}\n{trace}");
    served[0].to_owned()
}

#[tokio::test(start_paused = true)]
async fn name_never_has_two_holders_and_has_one_in_the_end() {
    for seed in 0..60 {
        run(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn same_seed_gives_the_same_trace() {
    let (first, again, other) = (run(5).await, run(5).await, run(6).await);
    assert!(first.len() > 100, "{first:#?}");
    assert_eq!(first, again);
    assert_ne!(first, other);
}

/// A device draws its epoch at random, as short as it likes; nodes whose epochs were ordered in time won each time.
#[tokio::test(start_paused = true)]
async fn overlapping_claims_are_won_by_either_kind_of_epoch() {
    let mut won_by_device = 0;
    for seed in 0..40 {
        let environment = Environment::simulated(ManualClock::new(1_000), seed);
        let broker = FakeBroker::new(environment.clone());
        let epochs = [
            ("device", format!("{:08x}", environment.random_below(1 << 32))),
            ("node", draw_epoch(&environment)),
        ];
        let claims = epochs.map(|(name, epoch)| {
            let (announcer, served) = announcer(&broker, name, epoch);
            broker.connect(name);
            let status = announcer.bus.status();
            Keeper::start(announcer, status, served, ServeOptions::default())
        });
        sleep(Duration::from_secs(5)).await;
        let holders = broker.holders();
        assert_eq!(holders.len(), 1, "seed {seed}: {holders:?}");
        won_by_device += usize::from(holders == ["device"]);
        drop(claims);
    }
    assert!((8..=32).contains(&won_by_device), "of 40 claims the device won {won_by_device}");
}

/// A node was lost together with its broker: its name stayed taken until its state expired, after a day.
#[tokio::test(start_paused = true)]
async fn standby_takes_the_name_of_a_holder_that_vanished_without_a_will() {
    let environment = Environment::simulated(ManualClock::new(1_000), 1);
    let broker = FakeBroker::new(environment.clone());
    let start = |name: &'static str| {
        let (announcer, served) = announcer(&broker, name, draw_epoch(&environment));
        let status = announcer.bus.status();
        broker.connect(name);
        tokio::spawn(keep_announced(announcer.clone(), status.clone()));
        Keeper::start(announcer, status, served, ServeOptions::default())
    };
    let (_one, first) = start("one");
    first.await.expect("an answer").expect("it is free");
    broker.cut("one");
    sleep(Duration::from_secs(10)).await;
    let (_other, first) = start("other");
    first.await.expect("an answer").expect("it is free again");
    // From now on both want it.
    assert!(broker.connect("one"));
    sleep(Duration::from_mins(1)).await;
    let holders = broker.holders();
    let [holder] = &holders[..] else { panic!("{holders:?}") };
    broker.vanish(holder);
    sleep(Duration::from_secs(45)).await;
    let standby = if holder == "one" { "other" } else { "one" };
    assert_eq!(broker.holders(), [standby]);
}

#[tokio::test(start_paused = true)]
async fn node_ends_when_another_one_with_its_id_has_closed_three_connections() {
    let environment = Environment::simulated(ManualClock::new(1_000), 1);
    let broker = FakeBroker::new(environment.clone());
    let (announcer, _served) = announcer(&broker, "one", draw_epoch(&environment));
    let status = announcer.bus.status();
    tokio::spawn(keep_announced(announcer, status));
    broker.connect("one");
    let foreign = NodeState::new(State::Ready, "0").write();
    for _ in 0..5 {
        broker.write("rantai/node/one", foreign.clone());
        sleep(Duration::from_secs(2)).await;
        assert!(matches!(broker.status("one"), Status::Online(_)), "such a state alone is repaired");
    }
    for round in 1..=3 {
        broker.cut("one");
        // Both sides have noticed by then.
        sleep(Duration::from_secs(4)).await;
        broker.write("rantai/node/one", foreign.clone());
        assert!(broker.connect("one"));
        sleep(Duration::from_secs(3)).await;
        assert_eq!(matches!(broker.status("one"), Status::Ended(_)), round == 3, "{round}");
    }
    assert!(!broker.state.lock().retained.contains_key("rantai/node/one"), "left to the other one");
}
