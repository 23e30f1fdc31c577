//! The user property `caller` on configured topics: the broker's word, never a client's.

use crate::Own;
use crate::support::{Client, Connect, Property, Publish, Version, Will};
use Version::{V3, V5};

async fn callers(subscriber: &mut Client) -> Vec<String> {
    let got = subscriber.message().await;
    let callers = got.properties.iter().filter_map(|p| match p {
        Property::User(name, value) if name == "caller" => Some(value.clone()),
        _ => None,
    });
    callers.collect()
}

#[tokio::test]
async fn the_broker_says_who_calls_and_nobody_else_can() {
    let own = Own::start(|c| {
        c.caller_topics = vec!["rantai/call/#".into()];
        c.users = vec![crate::support::user("ani", "rahasia")];
    })
    .await;
    let mut subscriber = own.client(V5).await;
    subscriber.subscribe("#", 0).await;
    let mut ani = own.connect(Connect::new(V5).user("ani").password("rahasia")).await;
    let forged = |topic: &str| {
        let caller = |name: &str| Property::user("caller", name);
        Publish::new(topic, "x")
            .property(caller("root"))
            .property(Property::user("a", "b"))
            .property(caller("me"))
    };
    ani.publish(forged("rantai/call/calculator/add")).await;
    assert_eq!(callers(&mut subscriber).await, ["ani"]);
    ani.publish(forged("elsewhere")).await;
    assert_eq!(callers(&mut subscriber).await, ["root", "me"], "not a configured topic");
    let mut nameless = own.connect(Connect::new(V3).id("sensor-7")).await;
    nameless.publish(Publish::new("rantai/call/x", "x")).await;
    assert_eq!(callers(&mut subscriber).await, ["sensor-7"], "the client id, from 3.1.1 too");
}

/// A will once carried whatever `caller` its client had put into it, and was carried out in that user's name.
#[tokio::test]
async fn a_will_carries_the_word_of_the_broker_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = |c: &mut rantai_broker::Config| {
        c.caller_topics = vec!["rantai/call/#".into()];
        c.data_dir = Some(dir.path().into());
        c.anonymous = true;
        c.users = vec![crate::support::user("bob", "b")];
    };
    let mut own = Own::start(config).await;
    let will = |version: Version| {
        let mut will = Will::new("rantai/call/library/borrow", "x").qos(1);
        if version == V5 {
            will = will.property(Property::user("caller", "ada")).property(Property::user("a", "b"));
        }
        will
    };
    let watch = Connect::new(V5).id("watch").persistent();
    let mut subscriber = own.connect(watch.clone()).await;
    subscriber.subscribe("rantai/#", 1).await;
    for version in Version::BOTH {
        let bob = Connect::new(version).user("bob").password("b");
        own.connect(bob.will(will(version))).await.cut().await;
        assert_eq!(callers(&mut subscriber).await, ["bob"]);
        own.connect(Connect::new(version).id("nobody").will(will(version))).await.cut().await;
        assert_eq!(callers(&mut subscriber).await, ["nobody"]);
    }
    // Kept on disk with a delay, and published by the next start.
    let late = will(V5).property(Property::WillDelay(1));
    let mut client =
        own.connect(Connect::new(V5).id("late").persistent().user("bob").password("b").will(late)).await;
    client.subscribe("kept", 1).await;
    client.cut().await;
    own.broker.shutdown().await;
    own = Own::start(config).await;
    let mut subscriber = own.connect(watch.resume()).await;
    assert_eq!(callers(&mut subscriber).await, ["bob"]);
}
