//! Reading the registry as a caller.

use std::time::Duration;

use rantai_broker::Config;
use rantai_client::session::Publish;
use rantai_client::wire::entry::{Entry, Mode, NodeState, State, VERSION};
use rantai_client::wire::fault::Code;
use rantai_client::wire::name::{ClientId, ObjectName};
use rantai_client::wire::topic::RegistryTopic;
use rantai_systems::echo::{EchoObject, Plain};

use super::support::{bus, embedded};

#[tokio::test]
async fn wait_for_completes_once_the_object_is_served() {
    let bus = bus().await;
    let client = bus.client().await;
    let registry = client.registry();
    let error = registry.wait_for_name("echo", Duration::from_millis(200)).await.expect_err("nobody yet");
    assert_eq!(error.code(), Some(Code::UNKNOWN_OBJECT));
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.registry().wait_for_name("echo", Duration::from_secs(20)).await })
    };
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let entry = waiting.await.expect("no panic").expect("it came");
    assert_eq!(entry.node, node.name().as_str());
    assert!(registry.wait_for_name("a b", Duration::from_secs(1)).await.is_err());
}

#[tokio::test]
async fn registry_view_follows_objects_that_start_and_end() {
    let bus = bus().await;
    let client = bus.client().await;
    let echo = ObjectName::new("echo").expect("a name");
    let mut follower = client.registry().follow().await.expect("followed");
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    while follower.look(|view| view.served(&echo).count()) == 0 {
        assert!(follower.changed().await);
    }
    drop(node);
    while follower.look(|view| view.served(&echo).count()) == 1 {
        assert!(follower.changed().await);
    }
    assert!(
        follower.look(|view| view.is_registered(&echo) && view.lost().count() == 1),
        "lost, not forgotten"
    );
}

/// Also after the broker was restarted, because it keeps retained messages.
#[tokio::test]
async fn ten_thousand_names_are_listed_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::on_free_port();
    config.data_dir = Some(directory.path().to_owned());
    let mut bus = embedded(config.clone()).await;
    let client = bus.admin().await;
    let node = ClientId::new("pi").expect("a name");
    let state = RegistryTopic::Node(node.clone()).format(&bus.root);
    let ready = NodeState::new(State::Ready, "1").write();
    let _ = client.publish(Publish::new(state, ready).retain()).await;
    let mut sent = tokio::task::JoinSet::new();
    for number in 0..10_000 {
        let object = ObjectName::new(&format!("object-{number}")).expect("a name");
        let entry = Entry {
            v: VERSION,
            object: object.to_string(),
            node: node.to_string(),
            epoch: "1".to_owned(),
            mode: Mode::Exclusive,
            settled: true,
            form: None,
            version: "1.0.0".to_owned(),
            summary: "One of ten thousand".to_owned(),
            tags: Vec::new(),
            methods: vec!["add".to_owned()],
            events: Vec::new(),
        };
        let topic = RegistryTopic::Name(object, node.clone()).format(&bus.root);
        let publish = Publish::new(topic, entry.write().expect("an entry")).retain();
        let client = client.clone();
        sent.spawn(async move { client.publish(publish).await });
    }
    sent.join_all().await;
    let view = client.registry().list().await.expect("listed");
    assert_eq!(view.all().filter(|(_, served)| *served).count(), 10_000);
    client.close().await;
    bus.broker.take().expect("ours").shutdown().await;
    let bus = embedded(config).await;
    let client = bus.client().await;
    let view = client.registry().list().await.expect("listed again");
    assert_eq!(view.all().filter(|(_, served)| *served).count(), 10_000);
}
