//! Requests that nobody takes are answered by whoever embeds the broker.

use rantai_broker::{Config, Unserved, UnservedHandler, UnservedReply};

use crate::Own;
use crate::support::{Client, Connect, Property, Publish, Version};
use Version::V5;

/// Says what it was asked, and which names the registry has.
fn answer(request: &Unserved<'_>) -> Option<UnservedReply> {
    if request.topic().contains("quiet") {
        return None;
    }
    let names: Vec<String> = request.retained("rantai/name", 3).map(|(topic, _)| topic).collect();
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

/// The reply to a request, where there is one.
async fn asked(caller: &mut Client, topic: &str) -> Option<String> {
    // What comes of it stands before the marker.
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
async fn a_request_that_nobody_takes_is_answered_whoever_looks_on() {
    let own = Own::start(with_answers).await;
    let mut caller = caller(&own).await;
    let [call, at] = ["rantai/call/echo/echo", "rantai/at/pi/echo/echo"];
    for topic in [call, at, "rantai/call/echo"] {
        assert_eq!(asked(&mut caller, topic).await.as_deref(), Some(topic));
    }
    // No requests, or not to one of several.
    for topic in ["rantai/all/echo/echo", "rantai/event/echo/x", "home/call/echo/echo", "rantai/call/quiet/x"]
    {
        assert_eq!(asked(&mut caller, topic).await, None, "{topic}");
    }
    let mut curious = own.client(V5).await;
    for filter in ["#", "rantai/call/#", "rantai/at/#", "rantai/+/+/+/+"] {
        curious.subscribe(filter, 1).await;
    }
    assert_eq!(asked(&mut caller, call).await.as_deref(), Some(call));
    assert_eq!(asked(&mut caller, at).await.as_deref(), Some(at));
    assert_eq!(own.broker.counts().unserved, 5);
    let mut node = own.client(V5).await;
    node.subscribe("$share/echo/rantai/call/echo/#", 1).await;
    node.subscribe("rantai/at/pi/#", 1).await;
    assert_eq!((asked(&mut caller, call).await, asked(&mut caller, at).await), (None, None));
    assert_eq!(asked(&mut caller, "rantai/call/other/x").await.as_deref(), Some("rantai/call/other/x"));
    // A device that knows no shared groups.
    node.subscribe("rantai/call/other/#", 1).await;
    assert_eq!(asked(&mut caller, "rantai/call/other/x").await, None);
}

#[tokio::test]
async fn whoever_is_away_and_comes_back_takes_it_later() {
    let own = Own::start(with_answers).await;
    let mut caller = caller(&own).await;
    let mut node = own.connect(Connect::new(V5).id("sleepy").persistent()).await;
    node.subscribe("$share/echo/rantai/call/echo/#", 1).await;
    node.cut().await;
    assert_eq!(asked(&mut caller, "rantai/call/echo/echo").await, None);
}

#[tokio::test]
async fn older_clients_are_answered_too_and_see_part_of_the_registry() {
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

/// A handler that is wrong, or misled, cannot publish anywhere else.
#[tokio::test]
async fn answers_go_to_reply_topics_alone() {
    let own = Own::start(with_answers).await;
    let mut caller = own.client(V5).await;
    caller.subscribe("home/#", 1).await;
    let request = Publish::new("rantai/call/echo/echo", "[]").qos(1);
    caller.publish(request.property(Property::ResponseTopic("home/door".to_owned()))).await;
    caller.assert_silent().await;
    assert_eq!(own.broker.counts().unserved, 0);
}
