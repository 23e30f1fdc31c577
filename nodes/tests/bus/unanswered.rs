//! Holders of a name whose nodes do not answer, because they were lost together with their broker, which has published
//! no will.

use rantai_client::Client;
use rantai_client::session::{Filter, Publish};
use rantai_client::wire::entry::{Entry, Mode, NodeState, State, VERSION};
use rantai_client::wire::name::{ClientId, ObjectName};
use rantai_client::wire::topic::RegistryTopic;
use rantai_nodes::ServeError;
use rantai_systems::echo::{EchoObject, Plain};

use super::support::{Bus, bus};
use super::users;

const EPOCH: &str = "00000000";

fn echo() -> ObjectName {
    ObjectName::new("echo").expect("a name")
}

/// Registers a settled holder of `echo` with the lowest epoch, as if its node were ready.
async fn register(bus: &Bus, client: &Client, node: &str) {
    let entry = Entry {
        v: VERSION,
        object: "echo".to_owned(),
        node: node.to_owned(),
        epoch: EPOCH.to_owned(),
        mode: Mode::Exclusive,
        settled: true,
        form: None,
        version: String::new(),
        summary: String::new(),
        tags: Vec::new(),
        methods: vec!["echo".to_owned()],
        events: Vec::new(),
    };
    let id = ClientId::new(node).expect("an id");
    let state = NodeState::new(State::Ready, EPOCH).write();
    for (topic, payload) in [
        (RegistryTopic::Node(id.clone()), state),
        (RegistryTopic::Name(echo(), id), entry.write().expect("small")),
    ] {
        let publish = Publish::new(topic.format(&bus.root), payload).retain();
        client.publish(publish).await.expect("published");
    }
}

#[tokio::test]
async fn a_holder_that_does_not_answer_is_lost_and_its_name_can_be_taken() {
    let bus = bus().await;
    let admin = bus.admin().await;
    register(&bus, &admin, "vanished").await;
    let node = bus.node().await;
    let served = node.serve("echo", EchoObject(Plain)).await;
    let view = admin.registry().find(&echo()).await.expect("a view");
    let vanished = ClientId::new("vanished").expect("an id");
    if users::are_on() {
        // With access rules, no node may write the state of another one.
        assert!(matches!(served, Err(ServeError::Taken { holder, .. }) if holder == "vanished"));
        assert_eq!(view.state(&vanished).map(|state| state.state), Some(State::Ready));
        return;
    }
    served.expect("free");
    assert_eq!(view.state(&vanished), Some(&NodeState::new(State::Lost, EPOCH)));
    let holders: Vec<_> = view.served(&echo()).map(|entry| &*entry.node).collect();
    assert_eq!(holders, [node.name().as_str()]);
    let said: String = bus.client().await.object("echo").call("echo", "hello").await.expect("served");
    assert_eq!(said, "hello");
}

/// Such as a device that serves requests by its name only, and has no built-in methods.
#[tokio::test]
async fn a_holder_that_answers_with_an_error_keeps_its_name() {
    let bus = bus().await;
    let device = bus.admin().await;
    let calls = Filter::new(format!("{}/call/echo/#", bus.root));
    let mut requests = device.subscribe(vec![calls]).await.expect("subscribed");
    register(&bus, &device, "device").await;
    let answering = tokio::spawn({
        let device = device.clone();
        async move {
            while let Some(request) = requests.next().await {
                let text =
                    r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"no such method"},"id":null}"#;
                let mut reply = Publish::new(request.properties.response_topic.expect("a topic"), text);
                reply.properties.correlation = request.properties.correlation;
                reply.properties.user.push(("status".to_owned(), "error".to_owned()));
                let _ = device.publish(reply).await;
            }
        }
    });
    let served = bus.node().await.serve("echo", EchoObject(Plain)).await;
    assert!(matches!(&served, Err(ServeError::Taken { holder, .. }) if holder == "device"), "{served:?}");
    let view = device.registry().find(&echo()).await.expect("a view");
    let device = ClientId::new("device").expect("an id");
    assert_eq!(view.state(&device).map(|state| state.state), Some(State::Ready));
    answering.abort();
}
