//! What a node believes of who calls: the word of a broker that says in CONNACK that it stamps it.

use rantai_client::session::Publish;
use rantai_client::wire::features::BrokerFeatures;
use rantai_nodes::dispatch::Limits;
use serde_json::json;

use super::{message, room};

#[tokio::test(start_paused = true)]
async fn caller_is_believed_only_where_the_broker_says_that_it_stamps_it() {
    let room = room(Limits::default());
    let stamps = [("caller", "ada"), ("via", "gateway")];
    for features in ["", "grants"] {
        *room.outside.features.lock() = BrokerFeatures::read(features);
        room.ask("rantai/call/desk/who", "", &stamps);
        assert_eq!(room.reply().1, json!([null, null, "client me"]), "{features:?}");
    }
    *room.outside.features.lock() = BrokerFeatures::read("caller");
    room.ask("rantai/call/desk/who", "", &stamps);
    assert_eq!(room.reply().1, json!(["ada", "gateway", "ada"]));
    room.ask("rantai/call/desk/who", "", &[]);
    assert_eq!(room.reply().1, json!([null, null, "client me"]), "a client is no user, whatever its id");
    room.ask("rantai/call/desk/who", "", &[("caller", "a\nb")]);
    assert_eq!(room.reply().1, json!([null, null, "client me"]));
}

#[tokio::test(start_paused = true)]
async fn reply_to_is_ignored_where_the_broker_grants_replies() {
    let room = room(Limits::default());
    let ask = |response_topic: Option<&str>| {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"answer","reply_to":"rantai/reply/desk/stranger"}"#;
        let mut message = message("rantai/call/desk", body, &[]);
        message.properties.response_topic = response_topic.map(ToOwned::to_owned);
        room.dispatcher.message(&message);
        let said = room.said();
        let [(Publish { topic, .. }, 0)] = &said[..] else { panic!("one reply: {said:?}") };
        topic.to_string()
    };
    assert_eq!(ask(None), "rantai/reply/desk/stranger");
    *room.outside.features.lock() = BrokerFeatures::read("caller,grants");
    assert_eq!(ask(Some("rantai/reply/desk/me")), "rantai/reply/desk/me");
    assert_eq!(ask(None), "rantai/reply/desk", "the public topic, which a role may allow");
}
