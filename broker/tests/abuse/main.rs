//! Hostile and careless clients together with honest ones: the attacks of the abuse benchmark, smaller and shorter.
//!
//! The assertions hold on a machine of any speed: no message of honest clients is lost or refused, and nothing of an
//! attack is left after its end. Latencies are measured by the benchmark.

#![allow(missing_docs, reason = "a test binary has no readers of documentation")]

#[path = "../../benches/abuse/attacks/mod.rs"]
#[expect(dead_code, reason = "what the benchmark reports of attacks")]
mod attacks;
#[path = "../../benches/abuse/honest/mod.rs"]
mod honest;
mod ledger;
mod readings;
#[path = "../../benches/abuse/wire.rs"]
mod wire;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rantai_broker::{Broker, Config, Cost, Record, User};

use attacks::{Attack, Attacker};
use honest::{Honest, Signals};
use readings::await_readings;

/// Size of each attack, in thousandths of its full size.
const SCALE: usize = 100;
/// Duration of each attack.
const ATTACK_TIME: Duration = Duration::from_millis(300);
/// Maximum time for any step of a test.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns a configuration whose limits these small attacks reach, and whose `$SYS` interval is short.
fn config() -> Config {
    let user = |name: &str, password: &str| {
        User::new(name, Some(Record::new(password.as_bytes(), Cost::LOWEST).expect("hashed")))
    };
    let mut config = Config {
        users: vec![user(honest::USER, honest::PASSWORD), user(attacks::USER, attacks::PASSWORD)],
        sys_interval: Duration::from_millis(100),
        ..Config::on_free_port()
    };
    config.limits.queue_messages = 500;
    config.limits.queue_bytes = 1 << 20;
    config.limits.subscriptions = 900;
    config.limits.retained = 1_500;
    config.limits.publish_wait = Duration::from_millis(100);
    config
}

/// Returns the seed of the attacks: `RANTAI_ABUSE_SEED`, or a fixed one.
fn seed() -> u64 {
    std::env::var("RANTAI_ABUSE_SEED").map_or(14, |seed| seed.parse().expect("RANTAI_ABUSE_SEED is a number"))
}

fn assert_harmless(name: &str) {
    let attack = attacks::ALL.into_iter().find(|attack| attack.name == name).expect("an attack of this name");
    // A thread runs the broker's tasks while this one blocks.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let broker = runtime.block_on(Broker::start(config())).expect("the broker starts");
    attacked(&broker, attack);
    runtime.block_on(broker.shutdown());
}

fn attacked(broker: &Broker, attack: Attack) {
    let address = broker.addresses()[0];
    let clients = Honest::connect(address).expect("the honest clients are let in");
    let signals = Signals::default();
    let seed = seed();
    let attacker = Attacker::new(address, ATTACK_TIME, SCALE, seed);
    let (outcome, arrivals) = thread::scope(|scope| {
        let outcome = scope.spawn(|| clients.run(&signals));
        let arrivals = scope.spawn(|| honest::connect_repeatedly(address, &signals));
        attacker.run(attack.run);
        signals.stop.store(true, Ordering::Relaxed);
        (outcome.join().expect("no panic"), arrivals.join().expect("no panic"))
    });
    let counts = broker.counts();
    assert!(attacker.steps() > 0, "the attack takes place: {counts:?}");
    assert_eq!(outcome.cut_off, None, "honest clients stay connected, seed {seed}: {counts:?}");
    assert_eq!(outcome.lost(), 0, "lost, seed {seed}: {counts:?}");
    assert_eq!(outcome.refused(), 0, "refused, seed {seed}: {counts:?}");
    assert_eq!(outcome.repeated(), 0, "repeated or out of order, seed {seed}: {counts:?}");
    assert_eq!(arrivals.refused, 0, "newcomers, seed {seed}: {:?}", arrivals.reason);
    let deadline = Instant::now() + STEP_TIMEOUT;
    while broker.counts().connected > 0 {
        assert!(Instant::now() < deadline, "connections are not given back: {:?}", broker.counts());
        thread::sleep(Duration::from_millis(10));
    }
    await_readings(address, STEP_TIMEOUT);
}

macro_rules! attacks {
    ($($(#[$attribute:meta])* $test:ident)*) => {
        $($(#[$attribute])* #[test] fn $test() {
            assert_harmless(&stringify!($test).replace('_', "-"));
        })*

        #[test]
        fn every_attack_has_a_test() {
            let tests: HashSet<String> = [$(stringify!($test)),*].map(|test| test.replace('_', "-")).into();
            let named: HashSet<String> = attacks::ALL.map(|attack| attack.name.to_owned()).into();
            assert_eq!(named.symmetric_difference(&tests).collect::<Vec<_>>(), Vec::<&String>::new());
            assert_eq!(named.len(), attacks::ALL.len(), "names are unique");
        }
    };
}

attacks! {
    forgotten_subscriber
    forgotten_subscriber_large
    expiring_messages
    never_reads
    never_reads_qos0
    never_acknowledges
    trickle_reader
    slow_onlooker
    group_member_never_acknowledges
    absent_group
    pubrel_unread
    pingreq_unread
    subscribe_unread
    publish_unread
    publish_storm_qos0
    publish_storm_qos1
    large_packets
    fan_out
    qos2_unreleased
    alias_churn
    user_properties
    random_bytes
    share_groups
    deep_filters
    many_filters
    overlapping_filters
    subscription_churn
    wildcard_churn
    own_values_churn
    retained_count
    retained_bytes
    retained_churn
    retained_search
    retained_read_unread
    connect_storm
    reset_storm
    wrong_passwords
    wrong_passwords_long_ids
    long_client_ids
    half_open_connects
    idle_connections
    trickle_writers
    cut_packets
    will_storm
    delayed_wills
    session_storm
    absent_sessions
    takeover_war
    resumption_storm
}
