//! Requests without a subscriber, which the embedding program answers.

use std::sync::Arc;

use rantai_access::{RuleAccess, Table, UserRecord};
use rantai_broker::{Config, Unserved, UnservedHandler, UnservedReply};

use crate::support::{self, Client, Connect, Property, Publish, Version};
use crate::{Own, grants};
use Version::V5;

/// Handler that replies with the request and the names in the registry.
fn answer(request: &Unserved<'_>) -> Option<UnservedReply> {
    if request.topic().contains("quiet") {
        return None;
    }
    let names: Vec<String> = request.scan("rantai/name", 3).map(|(topic, _)| topic).collect();
    let topic = request.response_topic().unwrap_or("rantai/reply/public").to_owned();
    let payload = format!("{} {}", request.topic(), names.join(" ")).into_bytes();
    Some(UnservedReply { topic, payload, user: vec![("status".to_owned(), "-32003".to_owned())] })
}

fn with_answers(config: &mut Config) {
    config.unserved = Some(UnservedHandler::new(answer));
}

fn request(topic: &str) -> Publish {
    let reply_to = Property::ResponseTopic("rantai/reply/x/me".to_owned());
    Publish::new(topic, "[]").qos(1).property(reply_to).property(Property::CorrelationData(b"it".to_vec()))
}

async fn caller(own: &Own) -> Client {
    let mut caller = own.client(V5).await;
    caller.subscribe("rantai/reply/#", 1).await;
    caller
}

/// Publishes a request, and returns the reply; `None` if there is none.
async fn reply_to(caller: &mut Client, topic: &str) -> Option<String> {
    // Any reply arrives before the marker.
    caller.publish(request(topic)).await;
    caller.publish(Publish::new("rantai/reply/x/marker", "").qos(1)).await;
    let first = caller.message().await;
    if first.topic.ends_with("marker") {
        return None;
    }
    assert_eq!((&*first.topic, first.correlation()), ("rantai/reply/x/me", Some(&b"it"[..])));
    assert!(first.properties.contains(&Property::user("status", "-32003")), "{first:?}");
    assert!(caller.message().await.topic.ends_with("marker"));
    Some(first.text().trim_end().to_owned())
}

#[tokio::test]
async fn an_unserved_request_is_answered_regardless_of_monitoring_subscribers() {
    let own = Own::start(with_answers).await;
    let mut caller = caller(&own).await;
    let [call, at] = ["rantai/call/echo/echo", "rantai/at/pi/echo/echo"];
    for topic in [call, at, "rantai/call/echo"] {
        assert_eq!(reply_to(&mut caller, topic).await.as_deref(), Some(topic));
    }
    // These topics are not requests, or not requests to one instance.
    for topic in ["rantai/all/echo/echo", "rantai/event/echo/x", "home/call/echo/echo", "rantai/call/quiet/x"]
    {
        assert_eq!(reply_to(&mut caller, topic).await, None, "{topic}");
    }
    let mut curious = own.client(V5).await;
    let wide = ["#", "rantai/call/#", "rantai/at/#", "rantai/+/+/+/+"];
    let with_literals_behind =
        ["rantai/call/+/echo", "rantai/+/echo/#", "+/call/echo/#", "rantai/at/+/echo/#"];
    let groups =
        ["rantai/call/#", "rantai/call/+/echo", "rantai/at/+/#"].map(|of| format!("$share/lookers/{of}"));
    let filters = wide.iter().chain(&with_literals_behind).map(ToString::to_string).chain(groups);
    for (number, filter) in filters.enumerate() {
        curious.subscribe(&filter, 1).await;
        assert_eq!(reply_to(&mut caller, call).await.as_deref(), Some(call), "{filter}");
        assert_eq!(reply_to(&mut caller, at).await.as_deref(), Some(at), "{filter}");
        assert_eq!(own.broker.counts().unserved, 5 + 2 * number as u64);
    }
    let mut node = own.client(V5).await;
    node.subscribe("$share/echo/rantai/call/echo/#", 1).await;
    node.subscribe("rantai/at/pi/#", 1).await;
    assert_eq!((reply_to(&mut caller, call).await, reply_to(&mut caller, at).await), (None, None));
    assert_eq!(reply_to(&mut caller, "rantai/call/other/x").await.as_deref(), Some("rantai/call/other/x"));
    // A device without shared groups, one with random group names, and one that serves every object.
    for (object, filter) in [
        ("other", "rantai/call/other/#"),
        ("third", "$share/a-group/rantai/call/third/#"),
        ("fourth", "$share/fourth/rantai/call/#"),
    ] {
        node.subscribe(filter, 1).await;
        assert_eq!(reply_to(&mut caller, &format!("rantai/call/{object}/x")).await, None, "{filter}");
    }
}

#[tokio::test]
async fn frequent_requests_are_answered_without_a_large_scan() {
    let own = Own::start(with_answers).await;
    let mut caller = caller(&own).await;
    caller.publish(Publish::new("rantai/name/a/pi", "{}").qos(1).retain()).await;
    let (mut named, mut asked_for) = (0, 0);
    while asked_for < 500 {
        let topic = "rantai/call/echo/echo";
        let answer = reply_to(&mut caller, topic).await.expect("an answer to each");
        named += usize::from(answer != topic);
        asked_for += 1;
    }
    assert!(named > 0 && named < asked_for, "{named}");
}

#[tokio::test]
async fn a_request_to_an_absent_session_is_not_unserved() {
    let own = Own::start(with_answers).await;
    let mut caller = caller(&own).await;
    let mut node = own.connect(Connect::new(V5).id("sleepy").persistent()).await;
    node.subscribe("$share/echo/rantai/call/echo/#", 1).await;
    node.cut().await;
    assert_eq!(reply_to(&mut caller, "rantai/call/echo/echo").await, None);
}

#[tokio::test]
async fn clients_of_311_are_answered_from_a_part_of_the_registry() {
    let own = Own::start(with_answers).await;
    let mut caller = own.client(Version::V3).await;
    caller.subscribe("rantai/reply/#", 1).await;
    for name in ["a", "b", "c", "d"] {
        caller.publish(Publish::new(&format!("rantai/name/{name}/pi"), "{}").qos(1).retain()).await;
    }
    caller.publish(Publish::new("rantai/namesake", "no name").qos(1).retain()).await;
    caller.publish(Publish::new("rantai/call/echo/echo", "1").qos(0)).await;
    let reply = caller.message().await;
    assert_eq!(reply.topic, "rantai/reply/public");
    assert_eq!(reply.text(), "rantai/call/echo/echo rantai/name/a/pi rantai/name/b/pi rantai/name/c/pi");
}

/// A handler with an error, or one that was deceived, cannot publish to any other topic.
#[tokio::test]
async fn answers_are_published_only_to_reply_topics() {
    let own = Own::start(with_answers).await;
    let mut caller = own.client(V5).await;
    caller.subscribe("home/#", 1).await;
    let request = Publish::new("rantai/call/echo/echo", "[]").qos(1);
    caller.publish(request.property(Property::ResponseTopic("home/door".to_owned()))).await;
    caller.assert_silent().await;
    assert_eq!(own.broker.counts().unserved, 0);
}

/// Configures users: `ada` may read one name, and `pi` serves.
fn with_rules(config: &mut Config) {
    let one_name = [(RuleAccess::Read, "rantai/name/a/+")];
    let names = [(RuleAccess::Write, "rantai/name/#")];
    let record = |name: &str| UserRecord::new(name).expect("a user name");
    let table = Table::builder()
        .role("caller", [grants::role("caller"), grants::of_role(one_name)].concat())
        .role("node", [grants::role("node"), grants::of_role(names)].concat())
        .user(record("ada").roles(["caller"]))
        .user(record("pi").roles(["node"]));
    config.access = Some(Arc::new(table.build().expect("a table")));
    config.users = ["ada", "pi"].map(|name| support::user(name, name)).into();
    with_answers(config);
}

#[tokio::test]
async fn an_answer_contains_only_what_its_reader_may_read() {
    let own = Own::start(with_rules).await;
    let mut pi = grants::node(&own, "pi--1", "calculator").await;
    for name in ["rantai/name/a/pi--1", "rantai/name/b/pi--1"] {
        assert_ne!(pi.publish(Publish::new(name, "{}").qos(1).retain()).await, 0x87);
    }
    let mut ada = grants::caller(&own, "ada--1").await;
    ada.publish(grants::request("rantai/call/c/x", "rantai/reply/c/ada--1", "1")).await;
    assert_eq!(ada.message().await.text(), "rantai/call/c/x rantai/name/a/pi--1");
}

#[tokio::test]
async fn a_request_passed_on_without_a_server_gets_one_reply() {
    const REPLY: &str = "rantai/reply/calculator/ada--1";
    let own = Own::start(with_rules).await;
    let mut pi = grants::node(&own, "pi--1", "calculator").await;
    let mut ada = grants::caller(&own, "ada--1").await;
    ada.publish(grants::request("rantai/call/calculator/add", REPLY, "1")).await;
    assert_eq!(pi.message().await.text(), "[2,3]");
    assert_eq!(pi.publish(grants::request("rantai/call/absent/x", REPLY, "1")).await, 0x10);
    assert_eq!(ada.message().await.text().trim_end(), "rantai/call/absent/x");
    assert_eq!(pi.publish(grants::reply(REPLY, "1")).await, 0x87, "it was replied to");
    ada.assert_silent().await;
}
