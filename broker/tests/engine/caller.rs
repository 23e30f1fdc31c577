//! User properties `caller` and `via` below the roots of buses, which are set by the broker and never by a client.

use rantai_broker::Config;

use crate::Own;
use crate::support::{Client, Connect, Property, Publish, Version, Will, user};
use Version::{V3, V5};

/// Returns the user properties of the next message that describe its sender.
async fn sender_properties(subscriber: &mut Client) -> Vec<(String, String)> {
    let got = subscriber.message().await;
    let user = got.properties.into_iter().filter_map(|property| match property {
        Property::User(name, value) if name == "caller" || name == "via" => Some((name, value)),
        _ => None,
    });
    user.collect()
}

fn is(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn ani(config: &mut Config) {
    config.anonymous = true;
    config.users = vec![user("ani", "rahasia")];
}

fn forged(topic: &str) -> Publish {
    let property = |name: &str, value: &str| Property::user(name, value);
    Publish::new(topic, "x")
        .property(property("caller", "root"))
        .property(property("a", "b"))
        .property(property("via", "gateway"))
        .property(property("caller", "me"))
}

#[tokio::test]
async fn only_the_broker_sets_the_caller() {
    let own = Own::start(ani).await;
    let mut subscriber = own.client(V5).await;
    subscriber.subscribe("#", 2).await;
    let mut ani = own.connect(Connect::new(V5).user("ani").password("rahasia")).await;
    for topic in ["rantai/call/calculator/add", "rantai/reply/calculator/me", "rantai/x"] {
        for qos in 0..3 {
            ani.publish(forged(topic).qos(qos)).await;
            assert_eq!(sender_properties(&mut subscriber).await, [is("caller", "ani")], "{topic}");
        }
    }
    for elsewhere in ["elsewhere", "rantai", "rantai2/call/x", "x/rantai/call/x"] {
        ani.publish(forged(elsewhere)).await;
        let sent = [is("caller", "root"), is("via", "gateway"), is("caller", "me")];
        assert_eq!(sender_properties(&mut subscriber).await, sent, "{elsewhere}");
    }
}

/// Once, a client without a user counted as the user whose name was its client id.
#[tokio::test]
async fn a_client_that_did_not_log_in_is_no_user() {
    let own = Own::start(ani).await;
    let mut subscriber = own.client(V5).await;
    subscriber.subscribe("rantai/#", 1).await;
    for version in Version::BOTH {
        let mut nameless = own.connect(Connect::new(version).id("ani")).await;
        let publish =
            if version == V5 { forged("rantai/call/x") } else { Publish::new("rantai/call/x", "x") };
        nameless.publish(publish.qos(1)).await;
        assert_eq!(sender_properties(&mut subscriber).await, []);
    }
}

/// Without configured users every name is admitted, and none is verified.
#[tokio::test]
async fn an_unverified_name_is_no_caller() {
    let own = Own::start(|_| ()).await;
    let mut subscriber = own.client(V5).await;
    subscriber.subscribe("rantai/#", 1).await;
    let mut ani = own.connect(Connect::new(V5).user("ani").password("anything")).await;
    ani.publish(forged("rantai/call/calculator/add")).await;
    assert_eq!(sender_properties(&mut subscriber).await, []);
    let mut ani = own.connect(Connect::new(V3).user("ani").password("anything")).await;
    ani.publish(Publish::new("rantai/call/calculator/add", "x")).await;
    assert_eq!(sender_properties(&mut subscriber).await, []);
}

#[tokio::test]
async fn the_roots_are_those_of_the_configuration() {
    let own = Own::start(|config| {
        ani(config);
        config.bus_roots = vec!["home/at/office".into(), "lab".into()];
    })
    .await;
    let mut subscriber = own.client(V5).await;
    subscriber.subscribe("#", 1).await;
    let mut ani = own.connect(Connect::new(V5).user("ani").password("rahasia")).await;
    for topic in ["home/at/office/call/x", "lab/call/x"] {
        ani.publish(forged(topic)).await;
        assert_eq!(sender_properties(&mut subscriber).await, [is("caller", "ani")], "{topic}");
    }
    ani.publish(forged("rantai/call/x")).await;
    assert_eq!(sender_properties(&mut subscriber).await.len(), 3, "not below a root");
}

/// The objects of `rantai up` and its gateway call on behalf of the users who asked them.
#[tokio::test]
async fn the_broker_process_may_act_for_every_user() {
    let own = Own::start(ani).await;
    let mut subscriber = own.client(V5).await;
    subscriber.subscribe("rantai/#", 1).await;
    let local = own.broker.local_credentials().expect("our engine");
    let mut gateway = own.connect(Connect::new(V5).user(&local.user).password(&local.password)).await;
    let call = || Publish::new("rantai/call/x", "x");
    gateway.publish(call().property(Property::user("caller", "ada"))).await;
    assert_eq!(sender_properties(&mut subscriber).await, [is("caller", "ada")]);
    gateway.publish(call().property(Property::user("via", "ada"))).await;
    assert_eq!(sender_properties(&mut subscriber).await, []);
    gateway.publish(forged("rantai/call/x")).await;
    assert_eq!(sender_properties(&mut subscriber).await, [], "two callers are none");
}

/// Once, a will kept the `caller` set by its client, and was executed on behalf of that user.
#[tokio::test]
async fn a_will_has_the_caller_set_by_the_broker() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = |config: &mut Config| {
        ani(config);
        config.data_dir = Some(dir.path().into());
    };
    let mut own = Own::start(config).await;
    let will = |version: Version| {
        let mut will = Will::new("rantai/call/library/borrow", "x").qos(1);
        if version == V5 {
            will = will.property(Property::user("caller", "ada")).property(Property::user("via", "b"));
        }
        will
    };
    let watch = Connect::new(V5).id("watch").persistent();
    let mut subscriber = own.connect(watch.clone()).await;
    subscriber.subscribe("rantai/#", 1).await;
    for version in Version::BOTH {
        let ani = Connect::new(version).user("ani").password("rahasia");
        own.connect(ani.will(will(version))).await.cut().await;
        assert_eq!(sender_properties(&mut subscriber).await, [is("caller", "ani")]);
        own.connect(Connect::new(version).id("nobody").will(will(version))).await.cut().await;
        assert_eq!(sender_properties(&mut subscriber).await, []);
    }
    // Stored on disk with a delay, and published after the next start.
    let late = will(V5).property(Property::WillDelay(1));
    let mut client = own
        .connect(Connect::new(V5).id("late").persistent().user("ani").password("rahasia").will(late))
        .await;
    client.subscribe("kept", 1).await;
    client.cut().await;
    own.broker.shutdown().await;
    own = Own::start(config).await;
    let mut subscriber = own.connect(watch.resume()).await;
    assert_eq!(sender_properties(&mut subscriber).await, [is("caller", "ani")]);
}

/// Returns the bus features announced in CONNACK.
fn features(client: &Client) -> Vec<&str> {
    let properties = &client.connack.as_ref().expect("it is connected").properties;
    let features = properties.iter().filter_map(|property| match property {
        Property::User(name, value) if name == "rantai" => Some(value.as_str()),
        _ => None,
    });
    features.collect()
}

#[tokio::test]
async fn connack_announces_features_if_they_fit() {
    let own = Own::start(|_| ()).await;
    assert_eq!(features(&own.client(V5).await), ["caller"]);
    assert_eq!(features(&own.client(V3).await), [""; 0]);
    // The property takes 17 bytes, and everything else less than 20.
    for (maximum, expected) in [(20, &[][..]), (64, &["caller"])] {
        let connect = Connect::new(V5).id("small").property(Property::MaximumPacketSize(maximum));
        assert_eq!(features(&own.connect(connect).await), expected, "{maximum}");
    }
}
