//! Roots and names that contain the words of the topics themselves.
//!
//! Regression: topics were cut by text, at the first `/at/` or `/reply/`. An object named `at`, and every object
//! under a root with such a level, was registered and never answered or lost its callbacks.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::Client;
use rantai_client::object::{Answer, Progress};
use rantai_client::session::Filter;
use rantai_client::wire::name::{ClientId, MethodName, ObjectName};
use rantai_client::wire::topic::EventTopic;
use rantai_nodes::{Node, ServeOptions};
use rantai_site::config::Config;
use rantai_systems::echo::{EchoObject, Plain};
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::task::State;
use rantai_tasks::{Ledger, Limits};
use serde_json::{Value, json};

use super::support::{Bus, PATIENCE, Run, buses_below};

/// All words with a fixed place in topics, and words of shared subscriptions and events.
const WORDS: [&str; 9] = ["at", "call", "reply", "name", "all", "event", "node", "progress", "share"];

async fn buses() -> Vec<Bus> {
    let below = ["a/at/reply/b", "at", "reply/call", "name/node/event/all", "x/reply"];
    buses_below(|_| below.map(ToOwned::to_owned).into()).await
}

/// Creates an object whose method returns the context of its call, and sends an upcall and a progress event.
fn witness() -> impl rantai_client::object::Object {
    Run(|call: rantai_client::object::Call| async move {
        let context = &call.context;
        context.progress(1, 2, "halfway");
        context.emitter.upcall_for(context, "upcall", &context.object.as_str())?;
        context.emitter.emit("changed", &1)?;
        Answer::value(&json!([context.object.as_str(), context.client.as_ref().map(ClientId::as_str)]))
    })
}

/// Starts a node, itself named like a topic level, that serves an object for each word.
async fn serve_words(bus: &Bus, node: &str) -> Arc<Node> {
    let node = Arc::new(bus.named_node(node).await);
    let mut claims = tokio::task::JoinSet::new();
    for word in WORDS {
        let node = node.clone();
        claims.spawn(async move { node.serve(word, witness()).await });
    }
    for claimed in claims.join_all().await {
        claimed.expect("served");
    }
    node
}

async fn named_client(bus: &Bus, name: &str) -> Client {
    let id = ClientId::new(name).expect("a client id");
    let builder = Client::builder(bus.address.clone()).root(bus.root.clone()).client_id(id);
    builder.connect().await.expect("a client")
}

#[tokio::test]
async fn objects_named_like_topic_levels_answer_and_call_back() {
    let mut buses = buses().await;
    let _broker = buses[0].broker.take();
    let mut checks = tokio::task::JoinSet::new();
    for (index, bus) in buses.into_iter().enumerate() {
        checks.spawn(check(bus, index));
    }
    checks.join_all().await;
}

/// Checks everything that is parsed out of topics, for each word on one bus.
async fn check(bus: Bus, index: usize) {
    let (node, me) = [("at", "reply"), ("reply", "at")][index % 2];
    let (node, me) = (format!("{node}-{index}"), format!("{me}_{index}"));
    let _node = serve_words(&bus, &node).await;
    let client = named_client(&bus, &me).await;
    let own = |event: &str| Filter::new(EventTopic::every_for(client.root(), event, client.id())).live();
    let mut events = client.subscribe(["upcall", "progress"].map(own).to_vec()).await.expect("granted");
    let mut collected = tokio::task::JoinSet::new();
    for word in WORDS {
        let expected = json!([word, me]);
        let object = client.object(word);
        let at = object.clone().at(ClientId::new(&node).expect("a name"));
        for (way, object) in [("call", &object), ("at", &at)] {
            let answer: Value = object.call("run", ()).await.expect(word);
            assert_eq!(answer, expected, "{way} on {}", bus.root);
            let mut heard = Vec::new();
            for _ in 0..2 {
                let event = tokio::time::timeout(PATIENCE, events.next()).await.expect(word).expect(word);
                heard.push((EventTopic::parse(&bus.root, &event.topic).expect("an event"), event.payload));
            }
            heard.sort_by_key(|(topic, _)| topic.event.to_string());
            let progress: Progress = serde_json::from_slice(&heard[0].1).expect("progress");
            assert_eq!((progress.done, heard[0].0.object.as_str()), (1, word));
            assert_eq!(heard[1].1[..], *json!(word).to_string().as_bytes());
            assert_eq!(heard[1].0.client.as_ref().map(ClientId::as_str), Some(&*me));
        }
        let stats: Value = object.call("rpc.stats", ()).await.expect("built in");
        assert_eq!(stats["refused"], json!({}), "{word}: {stats}");
    }
    let name = ObjectName::new("name").expect("a name");
    let view = client.registry().find(&name).await.expect("a view");
    assert_eq!(view.served(&name).count(), 1, "the registry knows it on {}", bus.root);
    // Each call takes its whole deadline.
    for word in WORDS {
        let object = client.object(word).deadline(Duration::from_secs(3));
        collected.spawn(async move { (word, object.request("run").all().await.expect("collected").len()) });
    }
    for (word, answers) in collected.join_all().await {
        assert_eq!(answers, 1, "all of {word} on {}", bus.root);
    }
}

#[tokio::test]
async fn chains_and_tasks_work_with_names_like_topic_levels() {
    let link = |name: &str, next: &str| {
        format!(
            "[[chain]]\nprefix = \"\"\nname = \"{name}\"\nnext = \"{next}\"\npassing = \"{{name}}\"\nclosing = \"{{name}}\"\n"
        )
    };
    let text = [link("at", "reply"), link("reply", "call"), link("call", "at")].concat();
    for bus in buses().await.iter().take(2) {
        let config = Config::from_toml(&text, "it").expect("a configuration");
        let node = Arc::new(bus.node().await);
        let mut claims = tokio::task::JoinSet::new();
        let silent: rantai_nodes::kind::Output = Arc::new(|_: &str| {});
        for object in config.objects("it", &silent).expect("objects") {
            let node = node.clone();
            claims.spawn(async move {
                node.serve_with(object.name.as_str(), object.object, object.options).await
            });
        }
        let ledger = Ledger::open(None, Limits::default()).expect("in memory");
        let builder = Client::builder(bus.address.clone()).root(bus.root.clone());
        let ledger = ledger.start(builder).await.expect("a ledger");
        let host = node.clone();
        claims
            .spawn(async move { host.serve_with("tasks", Arc::new(ledger), ServeOptions::default()).await });
        let host = node.clone();
        claims.spawn(async move { host.serve("node", EchoObject(Plain)).await });
        for claimed in claims.join_all().await {
            claimed.expect("served");
        }
        let client = bus.client().await;
        let trip: Value = client.object("at").call("process", (["x"],)).await.expect("a trip");
        assert_eq!(trip, json!(["at", "reply", "call", "at"]));
        let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
        for (object, method, params, expected) in [
            ("node", "echo", json!(["x"]), json!("x")),
            ("reply", "process", json!([["call"]]), json!(["reply", "call"])),
        ] {
            let id = tasks.submit(object.into(), method.into(), Some(params), None).await.expect("stored");
            let task = tasks.result(id, Some(10_000)).await.expect("known");
            assert_eq!((task.state, task.result), (State::Succeeded, Some(expected)), "{object}");
        }
    }
}

#[tokio::test]
async fn the_longest_root_and_names_still_fit_a_reply_topic() {
    let bus = &buses_below(|root| {
        let rest = 128 - root.len() - 1;
        vec![format!("{}/{}", "r".repeat(rest / 2), "s".repeat(rest - rest / 2 - 1))]
    })
    .await[0];
    assert_eq!(bus.root.as_str().len(), 128);
    let (object, method) = ("o".repeat(64), MethodName::new("run").expect("a name"));
    let node = bus.named_node(&"n".repeat(64)).await;
    node.serve(&object, witness()).await.expect("served");
    let client = named_client(bus, &"c".repeat(64)).await;
    let answer: Value = client.object(&object).call(method.as_str(), ()).await.expect("an answer");
    assert_eq!(answer, json!([object, "c".repeat(64)]));
}
