//! Retained messages of an owner that already take much memory grow at a limited rate, and other clients do not wait.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rantai_broker::Config;

use crate::Own;
use crate::support::{self, Client, Connect, Property, Publish, Version, Will};
use Version::V5;

const BODY: usize = 9_000;

/// Configures the limits so that a quarter of the retained messages, eleven, is free, and five more per second are
/// allowed.
fn limits(config: &mut Config) {
    config.users = ["ada", "bob"].map(|name| support::user(name, "secret")).to_vec();
    config.limits.retained_bytes = 400_000;
    config.limits.retained_bytes_per_s = 50_000;
}

fn user(name: &str) -> Connect {
    Connect::new(V5).user(name).password("secret")
}

async fn retain(client: &mut Client, topic: &str) {
    assert_eq!(client.publish(Publish::new(topic, &"x".repeat(BODY)).qos(1).retain()).await, 0x10);
}

#[tokio::test]
async fn a_publisher_with_many_retained_bytes_is_slowed_down() {
    let own = Own::start(limits).await;
    let (mut greedy, mut honest) = (own.connect(user("ada")).await, own.connect(user("bob")).await);
    for number in 0..10 {
        retain(&mut greedy, &format!("ada/{number}")).await;
    }
    assert_eq!(own.broker.counts().retained_paced, 0);
    let begin = Instant::now();
    for number in 10..16 {
        retain(&mut greedy, &format!("ada/{number}")).await;
    }
    // No further message waits after the last one.
    assert!(begin.elapsed() >= Duration::from_millis(700), "{:?}", begin.elapsed());
    let paced = own.broker.counts().retained_paced;
    assert!(paced >= 4);
    for number in 0..10 {
        retain(&mut honest, &format!("bob/{number}")).await;
    }
    assert_eq!(own.broker.counts().retained_paced, paced);
    // Replacements that do not grow are not delayed.
    for _ in 0..3 {
        retain(&mut greedy, "ada/0").await;
    }
    assert_eq!(own.broker.counts().retained_paced, paced);
}

/// Once, clients left 1.46 GB of retained wills within four seconds.
#[tokio::test]
async fn retained_wills_of_one_owner_are_delayed_and_none_is_lost() {
    for (on_disk, persistent) in [(false, false), (false, true), (true, true), (true, false)] {
        let dir = tempfile::tempdir().unwrap();
        let start = |c: &mut Config| {
            limits(c);
            c.data_dir = on_disk.then(|| dir.path().to_owned());
        };
        let own = Own::start(start).await;
        let mut watcher = own.connect(user("bob")).await;
        watcher.subscribe("will/#", 1).await;
        let leave = async |name: &str, number: usize| {
            let will = Will::new(&format!("will/{persistent}/{name}/{number}"), &"x".repeat(BODY)).retain();
            let connect = user(name).id(&format!("{name}-{number}")).will(will);
            let connect = if persistent { connect.persistent() } else { connect };
            own.connect(connect).await.cut().await;
        };
        let begin = Instant::now();
        for number in 0..18 {
            leave("ada", number).await;
        }
        leave("bob", 0).await;
        let mut topics = HashSet::new();
        for _ in 0..19 {
            topics.insert(watcher.message().await.topic);
        }
        assert_eq!(topics.len(), 19);
        assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
        assert!(own.broker.counts().retained_paced > 0);
        own.broker.shutdown().await;
    }
}

/// The broker is stopped while the wills wait.
#[tokio::test]
async fn delayed_retained_wills_are_published_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let start = |c: &mut Config| {
        limits(c);
        c.data_dir = Some(dir.path().to_owned());
    };
    let own = Own::start(start).await;
    for number in 0..20 {
        let will = Will::new(&format!("will/{number:02}"), &"x".repeat(BODY)).retain();
        own.connect(user("ada").will(will)).await.cut().await;
    }
    while own.broker.counts().connected > 0 {
        tokio::task::yield_now().await;
    }
    own.broker.shutdown().await;
    let own = Own::start(start).await;
    let mut reader = own.connect(user("bob")).await;
    reader.subscribe("will/#", 1).await;
    for number in 0..20 {
        assert_eq!(reader.message().await.topic, format!("will/{number:02}"));
    }
}

/// The session's next will has a delay. Once, it was published in place of the earlier one.
#[tokio::test]
async fn a_will_with_a_pending_delay_is_not_published_in_place_of_an_earlier_one() {
    let own = Own::start(limits).await;
    let mut watcher = own.connect(user("bob")).await;
    watcher.subscribe("will/#", 1).await;
    let will = |topic: &str| Will::new(&format!("will/{topic}"), &"x".repeat(BODY)).retain();
    let leave = async |name: &str| {
        own.connect(user("ada").id(name).will(will(name)).persistent()).await.cut().await;
    };
    for number in 0..18 {
        leave(&format!("ada-{number}")).await;
    }
    leave("twice").await;
    leave("between").await;
    let delayed = will("delayed").property(Property::WillDelay(600));
    own.connect(user("ada").id("twice").will(delayed).persistent()).await.cut().await;
    leave("last").await;
    let mut topics = HashSet::new();
    while topics.len() < 21 {
        topics.insert(watcher.message().await.topic);
    }
    assert!(topics.contains("will/last") && !topics.contains("will/delayed"), "{topics:?}");
}
