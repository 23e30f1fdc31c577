//! Claims to names, and repairs of a node's registry entries.

use std::sync::Arc;
use std::time::Duration;

use rantai_broker::Config;
use rantai_client::client::random_id;
use rantai_client::session::{Filter, Publish};
use rantai_client::wire::entry::{Entry, Mode, NodeState, State};
use rantai_client::wire::name::ObjectName;
use rantai_client::wire::topic::RegistryTopic;
use rantai_nodes::{ServeError, ServeOptions};
use rantai_systems::echo::{EchoObject, Plain};
use serde_json::Value;

use super::support::{PATIENCE, Run, bus, embedded, until};

fn echo() -> ObjectName {
    ObjectName::new("echo").expect("a name")
}

#[tokio::test]
async fn a_name_that_is_held_is_refused_with_its_holder() {
    let bus = bus().await;
    let holder = bus.named_node("holder").await;
    holder.serve("echo", EchoObject(Plain)).await.expect("free");
    assert!(matches!(holder.serve("echo", EchoObject(Plain)).await, Err(ServeError::Taken { .. })));
    let late = bus.node().await;
    match late.serve("echo", EchoObject(Plain)).await {
        Err(ServeError::Taken { object, holder }) => assert_eq!((&*object, &*holder), ("echo", "holder")),
        other => panic!("{other:?}"),
    }
    let replica = ServeOptions { mode: Mode::Replica, ..ServeOptions::default() };
    let refused = late.serve_with("echo", Arc::new(EchoObject(Plain)), replica).await;
    assert!(
        matches!(refused, Err(ServeError::Taken { .. })),
        "a replica beside an exclusive one: {refused:?}"
    );
    holder.drain(PATIENCE).await;
    late.serve("echo", EchoObject(Plain)).await.expect("free again");
    assert!(matches!(late.serve("a b", EchoObject(Plain)).await, Err(ServeError::Name(_))));
}

#[tokio::test]
async fn of_claims_at_the_same_time_exactly_one_wins() {
    let bus = bus().await;
    for _ in 0..3 {
        let mut claims = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let node = bus.node().await;
            claims.spawn(async move {
                let won = node.serve("echo", EchoObject(Plain)).await.is_ok();
                (node, won)
            });
        }
        let all: Vec<_> = claims.join_all().await;
        assert_eq!(all.iter().filter(|(_, won)| *won).count(), 1);
        let client = bus.client().await;
        let view = client.registry().find(&echo()).await.expect("a view");
        let winner = all.iter().find(|(_, won)| *won).expect("counted").0.name().as_str();
        assert_eq!(view.served(&echo()).map(|e| e.node.clone()).collect::<Vec<_>>(), [winner]);
        assert_eq!(view.claims(&echo()).count(), 1, "the others have taken theirs back");
        for (node, _) in all {
            node.drain(PATIENCE).await;
        }
    }
}

#[tokio::test]
async fn a_name_is_taken_over_where_its_holder_gives_it_up() {
    let bus = bus().await;
    let (old, new) = (bus.named_node("old").await, bus.named_node("new").await);
    old.serve("echo", EchoObject(Plain)).await.expect("free");
    let replace = ServeOptions { replace: true, ..ServeOptions::default() };
    new.serve_with("echo", Arc::new(EchoObject(Plain)), replace).await.expect("given up");
    let client = bus.client().await;
    let response = client.object("echo").request("echo").params(("x",)).send().await.expect("an answer");
    assert_eq!(response.node.as_deref(), Some("new"));
    let view = client.registry().find(&echo()).await.expect("a view");
    assert_eq!(view.claims(&echo()).count(), 1);
}

#[tokio::test]
async fn node_repairs_its_overwritten_entries() {
    let bus = bus().await;
    let node = bus.named_node("pi").await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let client = bus.admin().await;
    let name = RegistryTopic::Name(echo(), node.name().clone()).format(&bus.root);
    let state = RegistryTopic::Node(node.name().clone()).format(&bus.root);
    for (topic, lie) in [
        (&name, &b""[..]),
        (&name, b"{\"v\":1,\"object\":\"echo\",\"node\":\"pi\",\"epoch\":\"0\"}"),
        (&state, b"{\"v\":1,\"state\":\"lost\",\"epoch\":\"0\"}"),
        (&state, b""),
    ] {
        let _ = client.publish(Publish::new(topic.clone(), lie.to_vec()).retain()).await;
        until("it is served again", async || {
            let view = client.registry().find(&echo()).await.expect("a view");
            view.served(&echo()).count() == 1
        })
        .await;
    }
    let stray = RegistryTopic::Name("other".parse().expect("a name"), node.name().clone()).format(&bus.root);
    client.publish(Publish::new(stray.clone(), name.into_bytes()).retain()).await.expect("published");
    until("an entry it does not know is taken away", async || {
        let mut events = client.subscribe(vec![Filter::new(stray.clone())]).await.expect("subscribed");
        tokio::time::timeout(Duration::from_millis(200), events.next()).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn registry_entry_describes_an_object_and_is_removed_at_shutdown() {
    let bus = bus().await;
    let node = bus.named_node("pi-west").await;
    let client = bus.client().await;
    let mut entries =
        client.subscribe(vec![Filter::new(RegistryTopic::entries(&bus.root))]).await.expect("watched");
    let mut states =
        client.subscribe(vec![Filter::new(RegistryTopic::nodes(&bus.root))]).await.expect("watched");
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let claimed = entries.next().await.expect("a claim");
    let settled = entries.next().await.expect("an entry");
    let read = |payload: &[u8]| Entry::read(&echo(), node.name(), payload).expect("an entry");
    let (claimed, settled) = (read(&claimed.payload), read(&settled.payload));
    assert!(!claimed.settled && settled.settled && claimed.epoch == settled.epoch);
    assert_eq!(settled.methods, ["echo", "bytes", "delay"]);
    let info: Value = client.object("echo").call("rpc.info", ()).await.expect("the entry");
    assert_eq!(info["epoch"], *settled.epoch);
    assert_eq!(
        NodeState::read(&states.next().await.expect("a state").payload).expect("a state").state,
        State::Ready
    );
    node.drain(PATIENCE).await;
    assert_eq!(
        NodeState::read(&states.next().await.expect("a state").payload).expect("a state").state,
        State::Draining
    );
    assert!(states.next().await.expect("cleared").payload.is_empty());
    assert!(entries.next().await.expect("cleared").payload.is_empty());
}

#[tokio::test]
async fn running_calls_finish_before_a_node_ends() {
    let bus = bus().await;
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let begun = Arc::new(tokio::sync::Notify::new());
    let tell = begun.clone();
    let slow = Run(move |_| {
        tell.notify_one();
        async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            rantai_client::object::Answer::value(&"done")
        }
    });
    node.serve("slow", slow).await.expect("served");
    let client = bus.client().await;
    let object = client.object("slow");
    let call = tokio::spawn(async move { object.call::<String>("run", ()).await });
    begun.notified().await;
    node.drain(PATIENCE).await;
    assert_eq!(call.await.expect("no panic").expect("finished"), "done");
    let gone = client.object("slow").call::<Value>("run", ()).await.expect_err("gone");
    assert_eq!(gone.code(), Some(rantai_client::wire::fault::Code::UNKNOWN_OBJECT), "{gone}");
}

#[tokio::test]
async fn second_node_with_the_same_id_ends_the_first() {
    // mosquitto 2.0 closes the connection without sending the reason.
    let bus = embedded(Config::on_free_port()).await;
    let first = bus.named_node("pi").await;
    let mut status = first.status();
    let _second = bus.named_node("pi").await;
    let ended = status.wait_for(|s| matches!(s, rantai_client::session::Status::Ended(_)));
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("in time").expect("told").clone();
    let rantai_client::session::Status::Ended(reason) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("pi"), "{reason}");
}

/// Regression: the holder gave way to another entry, and was then not served while its connection lasted.
#[tokio::test]
async fn a_holder_that_gave_way_claims_again_when_the_other_entry_is_gone() {
    let bus = bus().await;
    let node = bus.named_node("rightful").await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let client = bus.admin().await;
    let object = client.object("echo").deadline(PATIENCE);
    let forged = random_id("forged");
    let name = RegistryTopic::Name(echo(), forged.clone()).format(&bus.root);
    let state = RegistryTopic::Node(forged.clone()).format(&bus.root);
    let put_for = async |topic: &str, payload: &str, expiry: Option<u32>| {
        let mut publish = Publish::new(topic, payload.to_owned()).retain();
        publish.properties.expiry = expiry;
        client.publish(publish).await.expect("published");
    };
    let put = async |topic: &str, payload: &str| put_for(topic, payload, None).await;
    let holder = async || {
        let view = client.registry().find(&echo()).await.expect("a view");
        view.served(&echo()).map(|entry| entry.node.clone()).collect::<Vec<_>>()
    };
    let entry = |epoch: &str| {
        let node = &forged;
        format!(r#"{{"v":1,"object":"echo","node":"{node}","epoch":"{epoch}","settled":true}}"#)
    };
    let ready = r#"{"v":1,"state":"ready","epoch":"0"}"#;
    for (case, topic, payload) in [
        ("the entry is cleared", &name, String::new()),
        ("the entry is no entry any more", &name, "rubbish".to_owned()),
        ("the entry is of another start", &name, entry("1")),
        ("the node is lost", &state, r#"{"v":1,"state":"lost","epoch":"0"}"#.to_owned()),
        ("the node is of another start", &state, r#"{"v":1,"state":"ready","epoch":"1"}"#.to_owned()),
        ("the state is cleared", &state, String::new()),
    ] {
        put(&state, ready).await;
        put(&name, &entry("0")).await;
        until("the holder gives way", async || holder().await == [forged.as_str()]).await;
        put(topic, &payload).await;
        until(case, async || holder().await == ["rightful"]).await;
        let said: String = object.call("echo", case).await.expect("an answer");
        assert_eq!(said, case);
        put(&name, "").await;
        put(&state, "").await;
    }
    // The broker does not notify anyone when a retained message expires.
    let mine = RegistryTopic::Name(echo(), node.name().clone()).format(&bus.root);
    let mut word = client.subscribe(vec![Filter::new(mine).live()]).await.expect("watched");
    for [entry_s, state_s] in [[Some(4), None], [None, Some(4)]] {
        put_for(&state, ready, state_s).await;
        put_for(&name, &entry("0"), entry_s).await;
        for (step, cleared) in [("withdrawn", true), ("claimed", false), ("settled", false)] {
            let said = tokio::time::timeout(PATIENCE, word.next()).await.expect(step).expect(step);
            assert_eq!(said.payload.is_empty(), cleared, "{step}");
        }
        put(&name, "").await;
        put(&state, "").await;
    }
}

#[tokio::test]
async fn name_given_up_without_a_successor_is_claimed_again() {
    let bus = bus().await;
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let client = bus.admin().await;
    let mut entries = client
        .subscribe(vec![Filter::new(RegistryTopic::entries_of(&bus.root, &echo())).live()])
        .await
        .expect("watched");
    let refused = client.object("echo").call::<bool>("rpc.yield", ()).await.expect_err("nobody claims it");
    assert_eq!(refused.code(), Some(rantai_client::wire::fault::Code::DENIED), "{refused}");
    // Claim that never settles, of a node whose state is ready.
    let forged = random_id("forged");
    let claim = format!(r#"{{"v":1,"object":"echo","node":"{forged}","epoch":"0","settled":false}}"#);
    let ready = r#"{"v":1,"state":"ready","epoch":"0"}"#.to_owned();
    let name = RegistryTopic::Name(echo(), forged.clone());
    for (topic, payload) in [(RegistryTopic::Node(forged.clone()), ready), (name, claim)] {
        let publish = Publish::new(topic.format(&bus.root), payload).retain();
        client.publish(publish).await.expect("published");
    }
    let entry = entries.next().await.expect("the forged claim");
    assert!(entry.topic.ends_with(forged.as_str()), "{entry:?}");
    let began = tokio::time::Instant::now();
    until("the holder knows of the claim", async || {
        client.object("echo").call::<bool>("rpc.yield", ()).await.is_ok()
    })
    .await;
    assert!(entries.next().await.expect("cleared").payload.is_empty());
    let claimed = tokio::time::timeout(PATIENCE, entries.next()).await.expect("in time").expect("a claim");
    assert!(!claimed.payload.is_empty());
    assert!(began.elapsed() >= Duration::from_secs(5), "a successor has its time: {:?}", began.elapsed());
    entries.next().await.expect("settled");
    let said: String = client.object("echo").call("echo", "x").await.expect("an answer");
    assert_eq!(said, "x");
}

#[tokio::test]
async fn a_holder_that_was_replaced_claims_again_when_its_successor_ends() {
    let bus = bus().await;
    let (old, new) = (bus.named_node("replaced").await, bus.named_node("successor").await);
    old.serve("echo", EchoObject(Plain)).await.expect("free");
    let replace = ServeOptions { replace: true, ..ServeOptions::default() };
    new.serve_with("echo", Arc::new(EchoObject(Plain)), replace).await.expect("given up");
    let client = bus.client().await;
    let echo = client.object("echo").deadline(PATIENCE);
    let node = async || {
        let response = echo.request("echo").params(("x",)).send().await;
        response.ok().and_then(|response| response.node)
    };
    // Longer than the time for which an unsettled claim counts.
    let settled = tokio::time::Instant::now() + Duration::from_secs(7);
    while tokio::time::Instant::now() < settled {
        assert_eq!(node().await.as_deref(), Some("successor"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    new.drain(PATIENCE).await;
    until("the first one serves it again", async || node().await.as_deref() == Some("replaced")).await;
}
