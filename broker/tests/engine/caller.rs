//! The user property `caller` on configured topics: the broker's word, never a client's.

use rantai_broker::User;

use crate::Own;
use crate::support::{Client, Connect, Property, Publish, Version};
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
        c.users = vec![User { name: "ani".into(), password: "rahasia".into() }];
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
