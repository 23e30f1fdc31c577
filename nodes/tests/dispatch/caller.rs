//! Callers that a node trusts: only those stamped by a broker that announces that in CONNACK.

use bytes::Bytes;
use rantai_client::session::Publish;
use rantai_client::wire::features::BrokerFeatures;
use rantai_client::wire::user::User;
use rantai_nodes::dispatch::Limits;
use serde_json::json;

use super::{message, room};

#[tokio::test(start_paused = true)]
async fn caller_is_trusted_only_if_the_broker_announces_stamping() {
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
        message.properties.response_topic = response_topic.map(Into::into);
        room.dispatcher.message(&message);
        let said = room.take_messages();
        let [(Publish { topic, .. }, 0)] = &said[..] else { panic!("one reply: {said:?}") };
        topic.to_string()
    };
    assert_eq!(ask(None), "rantai/reply/desk/stranger");
    *room.outside.features.lock() = BrokerFeatures::read("caller,grants");
    assert_eq!(ask(Some("rantai/reply/desk/me")), "rantai/reply/desk/me");
    assert_eq!(ask(None), "rantai/reply/desk", "the public topic, which a role may allow");
}

/// Regression: any client could make a node give up a name.
#[tokio::test(start_paused = true)]
async fn name_is_given_up_only_to_the_user_whose_node_claims_it() {
    let room = room(Limits::default());
    *room.outside.features.lock() = BrokerFeatures::read("caller");
    let user = |name: &str| Some(User::new(name).expect("a user name"));
    let asked = |caller: Option<&str>| {
        let stamps: Vec<_> = caller.map(|caller| ("caller", caller)).into_iter().collect();
        room.ask("rantai/at/pi/desk/rpc.yield", "", &stamps);
        room.reply().0
    };
    assert_eq!([asked(None), asked(Some("ada"))], ["-32006", "-32006"], "nobody claims it");
    *room.outside.claimants.lock() = vec![user("ada")];
    assert_eq!([asked(None), asked(Some("ben")), asked(Some("ada"))], ["-32006", "-32006", "ok"]);
    *room.outside.claimants.lock() = vec![None];
    assert_eq!([asked(Some("ada")), asked(None)], ["-32006", "ok"], "an open bus knows no users");
}

/// Regression: a client that had seen the correlation could cancel another client's call.
#[tokio::test(start_paused = true)]
async fn call_is_cancelled_only_from_its_own_reply_topic() {
    let room = room(Limits::default());
    let correlation = vec![7; 16];
    let ask = |client: &str, method: &str, payload: &str, correlation: &[u8], user: &[(&str, &str)]| {
        let mut message = message(&format!("rantai/call/desk/{method}"), payload, user);
        message.properties.response_topic = Some(format!("rantai/reply/desk/{client}").into());
        message.properties.correlation = Some(Bytes::copy_from_slice(correlation));
        room.dispatcher.message(&message);
        room.take_messages()
            .into_iter()
            .map(|(reply, _)| (reply.topic.to_string(), reply.payload))
            .collect::<Vec<_>>()
    };
    let digits = format!("[\"{}\"]", "07".repeat(16));
    let cancel = |client: &str, user: &[(&str, &str)]| ask(client, "rpc.cancel", &digits, b"cancel", user);
    assert!(ask("me", "wait", "", &correlation, &[]).is_empty());
    // The call of another client with the same correlation is a different one.
    assert!(ask("stranger", "wait", "", &correlation, &[]).is_empty());
    assert_eq!(room.served.running(), 2);
    assert_eq!(cancel("nobody", &[])[0].1, "false");
    assert!(cancel("me", &[("oneway", "1")]).is_empty(), "without a reply topic it names none");
    assert_eq!(cancel("stranger", &[])[0].1, "true");
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let ended: Vec<_> = room.take_messages().into_iter().map(|(reply, _)| reply.topic.to_string()).collect();
    assert_eq!((&*ended, room.served.running()), (&["rantai/reply/desk/stranger".to_owned()][..], 1));
    assert_eq!(cancel("me", &[])[0].1, "true");
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(room.served.running(), 0);
}

/// A node that receives a request knows the caller's reply topic and the correlations of its calls, and may forward
/// requests.
#[tokio::test(start_paused = true)]
async fn call_is_not_cancelled_by_a_node_that_forwarded_another_request() {
    let room = room(Limits::default());
    *room.outside.features.lock() = BrokerFeatures::read("caller,grants");
    let ada = [("caller", "ada")];
    let by_gateway = [("caller", "ada"), ("via", "gateway")];
    let passed_on = [("caller", "ada"), ("via", "mallory")];
    // On its own behalf, and no longer on behalf of the user.
    let gateway = [("caller", "gateway")];
    let wait = |number: u8, user: &[(&str, &str)]| {
        let mut message = message("rantai/call/desk/wait", "", user);
        message.properties.correlation = Some(vec![number; 16].into());
        room.dispatcher.message(&message);
    };
    let cancel = |number: u8, user: &[(&str, &str)]| {
        room.ask("rantai/call/desk/rpc.cancel", &format!("\"{}\"", format!("{number:02x}").repeat(16)), user);
        room.reply().1
    };
    wait(1, &ada);
    wait(2, &by_gateway);
    wait(3, &passed_on);
    for number in [1, 2] {
        assert_eq!(cancel(number, &passed_on), json!(false));
    }
    for (number, user) in [(1, &ada[..]), (2, &gateway), (3, &passed_on)] {
        assert_eq!(cancel(number, user), json!(true), "its own");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        room.take_messages();
    }
}
