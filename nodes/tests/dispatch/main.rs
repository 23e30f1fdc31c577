//! The dispatcher by itself: messages in, messages out, without broker and socket.

#![allow(missing_docs, reason = "a test binary has no readers of documentation")]

mod caller;
mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rantai_client::object::{
    Answer, Answering, Call, Calls, Description, Forward, Method, Object, no_such_method,
};
use rantai_client::session::{Message, Publish, QoS, Unsent};
use rantai_client::wire::Properties;
use rantai_client::wire::features::BrokerFeatures;
use rantai_client::wire::name::{ClientId, MethodName, ObjectName, Root};
use rantai_client::wire::user::User;
use rantai_nodes::dispatch::{Dispatcher, Limits, Out, Served};
use serde_json::{Value, json};

/// Sink of the dispatcher: records messages, with a configurable backlog, registry and broker features.
#[derive(Clone, Default)]
struct Outside {
    said: Arc<Mutex<Vec<(Publish, u128)>>>,
    backlog: Arc<AtomicUsize>,
    served: Arc<Mutex<Option<bool>>>,
    features: Arc<Mutex<BrokerFeatures>>,
    /// Publishers of other nodes' entries that claim the name.
    claimants: Arc<Mutex<Vec<Option<User>>>>,
}

impl Out for Outside {
    fn send(&self, publish: Publish, token: u128) -> Result<(), Unsent> {
        if publish.payload.len() > 100_000 {
            return Err(Unsent::TooLarge { size: publish.payload.len(), limit: 100_000 });
        }
        self.said.lock().push((publish, token));
        Ok(())
    }

    fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    fn is_claimed_by(&self, _object: &ObjectName, user: Option<&User>) -> bool {
        self.claimants.lock().iter().any(|claimant| claimant.as_ref() == user)
    }

    fn features(&self) -> BrokerFeatures {
        *self.features.lock()
    }

    fn is_served(&self, _object: &ObjectName) -> Option<bool> {
        *self.served.lock()
    }
}

/// Object whose methods answer, wait, forward, or return results of a given size.
struct Desk;

impl Object for Desk {
    fn description(&self) -> Description {
        let method = |name: &str| Method { name: name.to_owned(), ..Method::default() };
        let methods = ["answer", "wait", "pass", "much", "panic", "who"].map(method).to_vec();
        Description { methods, ..Description::default() }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        Box::pin(async move {
            match call.method.as_str() {
                "answer" => Ok(Answer::Value(json!("here"))),
                "wait" => {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    Ok(Answer::Value(json!("late")))
                }
                "pass" => Ok(Answer::Forward(Forward {
                    to: ObjectName::new("next").expect("a name"),
                    method: MethodName::new("process").expect("a name"),
                    params: vec![json!(1)],
                    hop: json!({"node": "desk"}),
                })),
                "who" => Ok(Answer::Value(json!([
                    call.context.caller().map(ToString::to_string),
                    call.context.via().map(ToString::to_string),
                    call.context.caller_text(),
                ]))),
                "much" => Ok(Answer::Value(json!("x".repeat(200_000)))),
                "panic" => panic!("it was told to"),
                other => Err(no_such_method(other, &[])),
            }
        })
    }
}

/// Object that keeps its emitter.
#[derive(Default)]
struct Keeper(Mutex<Option<rantai_client::object::Emitter>>);

impl Object for Keeper {
    fn description(&self) -> Description {
        Description::default()
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        Box::pin(async move { Err(no_such_method(call.method.as_str(), &[])) })
    }

    fn attach(&self, emitter: rantai_client::object::Emitter) {
        *self.0.lock() = Some(emitter);
    }
}

#[test]
fn object_that_keeps_its_emitter_is_dropped_with_the_node() {
    let Room { dispatcher, .. } = room(Limits::default());
    let keeper = Arc::new(Keeper::default());
    let name = ObjectName::new("keeper").expect("a name");
    assert!(dispatcher.add(Served::new(name, keeper.clone(), Limits::default())));
    drop(dispatcher);
    assert_eq!(Arc::strong_count(&keeper), 1);
}

struct Room {
    outside: Outside,
    dispatcher: Arc<Dispatcher>,
    served: Arc<Served>,
}

fn room(limits: Limits) -> Room {
    let outside = Outside::default();
    *outside.served.lock() = Some(true);
    let node = ClientId::new("pi").expect("a name");
    let dispatcher = Dispatcher::new(Root::default(), node, Box::new(outside.clone()), Calls::default());
    let served = Served::new(ObjectName::new("desk").expect("a name"), Arc::new(Desk), limits);
    assert!(dispatcher.add(served.clone()) && !dispatcher.add(served.clone()));
    Room { outside, dispatcher, served }
}

fn message(topic: &str, payload: &str, user: &[(&str, &str)]) -> Message {
    let user = user.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let properties = Properties {
        response_topic: Some("rantai/reply/desk/me".into()),
        correlation: Some(Bytes::from_static(b"it")),
        user,
        ..Properties::default()
    };
    let payload = payload.as_bytes().to_vec().into();
    Message {
        topic: topic.into(),
        payload,
        properties,
        qos: QoS::AtLeastOnce,
        retain: false,
        unread: Duration::ZERO,
    }
}

impl Room {
    fn ask(&self, topic: &str, payload: &str, user: &[(&str, &str)]) {
        self.dispatcher.message(&message(topic, payload, user));
    }

    fn take_messages(&self) -> Vec<(Publish, u128)> {
        std::mem::take(&mut *self.outside.said.lock())
    }

    /// Returns status and payload of the only reply.
    fn reply(&self) -> (String, Value) {
        let said = self.take_messages();
        let [(reply, 0)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(&*reply.topic, "rantai/reply/desk/me");
        assert_eq!(reply.properties.correlation.as_deref(), Some(&b"it"[..]));
        let status = reply.properties.user("status").expect("always there").to_owned();
        (status, serde_json::from_slice(&reply.payload).expect("JSON"))
    }

    fn refused(&self, kind: &str) -> u64 {
        self.take_messages();
        self.ask("rantai/call/desk/rpc.stats", "", &[]);
        self.reply().1["refused"][kind].as_u64().unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn method_that_does_not_wait_is_answered_at_once() {
    let room = room(Limits::default());
    room.ask("rantai/call/desk/answer", "", &[]);
    assert_eq!(room.reply(), ("ok".to_owned(), json!("here")));
    room.ask("rantai/call/desk", r#"{"jsonrpc":"2.0","id":7,"method":"answer"}"#, &[]);
    assert_eq!(room.reply().1, json!({"jsonrpc": "2.0", "id": 7, "result": "here"}));
    room.ask("rantai/at/pi/desk/answer", "", &[]);
    room.ask("rantai/all/desk/answer", "", &[]);
    assert_eq!(room.take_messages().len(), 2);
    room.ask("rantai/call/desk/panic", "", &[]);
    assert_eq!(room.reply().0, "-32603");
    room.ask("rantai/call/desk/answer", "", &[]);
    assert_eq!(room.reply().0, "ok", "it lives");
}

#[tokio::test(start_paused = true)]
async fn waiting_methods_run_concurrently_up_to_the_limit() {
    let room = room(Limits { concurrent: 2, ..Limits::default() });
    for _ in 0..2 {
        room.ask("rantai/call/desk/wait", "", &[]);
    }
    assert_eq!((room.take_messages().len(), room.served.running()), (0, 2));
    room.ask("rantai/call/desk/wait", "", &[]);
    let (status, error) = room.reply();
    assert_eq!(status, "-32005");
    assert!(error["error"]["data"]["retry_after_ms"].is_u64(), "{error}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!((room.take_messages().len(), room.served.running()), (2, 0));
    assert_eq!(room.refused("busy"), 1);
}

/// Regression: 256 calls with a deadline of an hour took every place, and all other callers were answered busy.
#[tokio::test(start_paused = true)]
async fn one_caller_gets_two_thirds_of_the_places_and_others_are_served() {
    let room = room(Limits { concurrent: 8, ..Limits::default() });
    let ask = |client: &str, caller: &str| {
        let mut message = message("rantai/call/desk/wait", "", &[("ttl_ms", "3600000"), ("caller", caller)]);
        message.properties.response_topic = Some(format!("rantai/reply/desk/{client}").into());
        room.dispatcher.message(&message);
    };
    for number in 0..8 {
        // A user that is not stamped by the broker makes no difference.
        ask("greedy", &format!("user{number}"));
    }
    assert_eq!((room.served.running(), room.refused("busy")), (6, 2));
    ask("honest", "user0");
    assert_eq!((room.served.running(), room.refused("busy")), (7, 2), "others are served");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(room.served.running(), 0);
    ask("greedy", "user0");
    assert_eq!(room.served.running(), 1, "room again");
}

/// Regression: the calls of a client that was gone kept their places until their deadlines.
#[tokio::test(start_paused = true)]
async fn calls_of_a_client_that_is_gone_release_their_places() {
    let room = room(Limits { concurrent: 8, ..Limits::default() });
    let ask = |client: &str, number: u8| {
        let mut message = message("rantai/call/desk/wait", "", &[]);
        message.properties.response_topic = Some(format!("rantai/reply/desk/{client}").into());
        message.properties.correlation = Some(vec![number; 16].into());
        room.dispatcher.message(&message);
    };
    ask("honest", 100);
    (0..5).for_each(|number| ask("greedy", number));
    assert_eq!(room.served.running(), 6);
    ask("greedy", 5);
    let refusals: Vec<u128> = room.outside.said.lock().drain(..).map(|(_, token)| token).collect();
    let [token] = refusals[..] else { panic!("one is refused: {refusals:?}") };
    room.dispatcher.settled(token, Ok(()));
    tokio::task::yield_now().await;
    assert_eq!(room.served.running(), 6, "it is there");
    ask("greedy", 6);
    let token = room.outside.said.lock().drain(..).map(|(_, token)| token).last().expect("refused");
    room.dispatcher.settled(token, Err(Unsent::NobodyThere));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(room.served.running(), 1, "the other caller's call goes on");
}

#[tokio::test(start_paused = true)]
async fn users_have_shares_where_the_broker_stamps_them() {
    let room = room(Limits { concurrent: 8, ..Limits::default() });
    *room.outside.features.lock() = BrokerFeatures::read("caller");
    for number in 0..8 {
        let mut message = message("rantai/call/desk/wait", "", &[("caller", "ada")]);
        message.properties.response_topic = Some(format!("rantai/reply/desk/client{number}").into());
        room.dispatcher.message(&message);
    }
    assert_eq!((room.served.running(), room.refused("busy")), (6, 2));
}

#[tokio::test(start_paused = true)]
async fn call_releases_its_place_at_the_objects_max_deadline() {
    let room = room(Limits { max_deadline: Duration::from_secs(2), ..Limits::default() });
    room.ask("rantai/call/desk/wait", "", &[("ttl_ms", "3600000")]);
    assert_eq!(room.served.running(), 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((room.reply().0, room.served.running()), ("-32002".to_owned(), 0));
}

#[tokio::test(start_paused = true)]
async fn expired_request_is_neither_executed_nor_answered() {
    let room = room(Limits::default());
    room.ask("rantai/call/desk/wait", "", &[("ttl_ms", "4000")]);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!((room.take_messages().len(), room.served.running()), (0, 0), "it was let go");
    room.ask("rantai/call/desk/answer", "", &[("ttl_ms", "0")]);
    assert!(room.take_messages().is_empty());
    room.ask("rantai/call/desk/answer", "", &[("ttl_ms", "soon")]);
    assert_eq!(room.reply().0, "-32602");
}

/// Regression: the process of a node was stopped, and the deadlines of requests that had arrived meanwhile were counted
/// from the time at which they were read.
#[tokio::test(start_paused = true)]
async fn request_unread_past_its_deadline_is_refused() {
    let room = room(Limits::default());
    let ask = |method: &str, ttl_ms: &str, unread_ms: u64| {
        let mut message = message(&format!("rantai/call/desk/{method}"), "", &[("ttl_ms", ttl_ms)]);
        message.properties.correlation = Some(vec![7; 16].into());
        message.unread = Duration::from_millis(unread_ms);
        room.dispatcher.message(&message);
        let replies: Vec<_> =
            room.take_messages().iter().map(|(reply, _)| reply.properties.clone()).collect();
        let one = |reply: &Properties, name| reply.user(name).map(ToOwned::to_owned);
        replies.first().map(|reply| (one(reply, "status").expect("always there"), one(reply, "dup")))
    };
    let refused = Some(("-32005".to_owned(), None));
    assert_eq!(ask("answer", "2000", 2_000), refused);
    assert_eq!(ask("rpc.ping", "2000", 2_000), refused);
    // It was not executed, so that a repeat is.
    assert_eq!(ask("answer", "2001", 2_000), Some(("ok".to_owned(), None)));
    assert_eq!(
        ask("answer", "1000", 2_000),
        Some(("ok".to_owned(), Some("1".to_owned()))),
        "it has an answer"
    );
    assert_eq!(room.refused("overdue"), 2);
    room.ask("rantai/call/desk/answer", "", &[("ttl_ms", "1")]);
    assert_eq!(room.reply().0, "ok", "it has just come");
    // The remaining time limits a call that waits.
    let mut waits = message("rantai/call/desk/wait", "", &[("ttl_ms", "6000")]);
    waits.unread = Duration::from_secs(2);
    room.dispatcher.message(&waits);
    tokio::time::sleep(Duration::from_millis(4_100)).await;
    assert_eq!((room.take_messages().len(), room.served.running()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn full_send_queue_answers_busy_then_drops_requests() {
    let room = room(Limits::default());
    room.outside.backlog.store(5 << 20, Ordering::Relaxed);
    room.ask("rantai/call/desk/answer", "", &[]);
    assert_eq!(room.reply().0, "-32005", "busy: too much is unread");
    room.outside.backlog.store(20 << 20, Ordering::Relaxed);
    room.ask("rantai/call/desk/answer", "", &[]);
    assert!(room.take_messages().is_empty(), "not even that");
    room.outside.backlog.store(0, Ordering::Relaxed);
    assert_eq!((room.refused("busy"), room.refused("choked")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_reply_topic_are_counted() {
    let room = room(Limits { public_replies: false, ..Limits::default() });
    let mut old = message("rantai/call/desk/answer", "", &[]);
    old.retain = true;
    room.dispatcher.message(&old);
    let mut public = message("rantai/call/desk/answer", "", &[]);
    public.properties.response_topic = None;
    room.dispatcher.message(&public);
    let mut elsewhere = message("rantai/call/desk/answer", "", &[]);
    elsewhere.properties.response_topic = Some("home/door".into());
    room.dispatcher.message(&elsewhere);
    room.ask("rantai/call/desk/answer", "", &[("oneway", "1")]);
    assert!(room.take_messages().is_empty());
    assert_eq!((room.refused("retained"), room.refused("no_reply_topic")), (1, 2));
    room.ask("rantai/call/desk/a/b", "", &[]);
    assert_eq!(room.reply().0, "-32600");
    room.ask("rantai/at/pi/nobody/answer", "", &[]);
    assert_eq!(room.reply().0, "-32003");
    room.ask("rantai/call/nobody/answer", "", &[]);
    room.ask("home/door", "", &[]);
    assert!(room.take_messages().is_empty(), "none of its business");
}

#[tokio::test(start_paused = true)]
async fn result_beyond_the_brokers_limit_becomes_a_fault() {
    let room = room(Limits::default());
    room.ask("rantai/call/desk/much", "", &[]);
    let (status, error) = room.reply();
    assert_eq!((&*status, &error["error"]["data"]["limit"]), ("-32007", &json!(100_000)));
}

#[tokio::test(start_paused = true)]
async fn forwarded_request_keeps_reply_topic_correlation_and_remaining_time() {
    let room = room(Limits::default());
    room.ask("rantai/call/desk/pass", "", &[("ttl_ms", "9000"), ("traceparent", "00-a-b-01")]);
    let said = room.take_messages();
    let [(passed, token)] = &said[..] else { panic!("{said:?}") };
    assert!(*token != 0 && !passed.resend);
    assert_eq!((&*passed.topic, &passed.payload[..]), ("rantai/call/next/process", &b"[1]"[..]));
    let properties = &passed.properties;
    assert_eq!(properties.response_topic.as_deref(), Some("rantai/reply/desk/me"));
    assert_eq!((properties.user("ttl_ms"), properties.expiry), (Some("9000"), Some(9)));
    assert_eq!(properties.user("trail"), Some(r#"[{"node":"desk"}]"#));
    assert_eq!(properties.user("traceparent"), Some("00-a-b-01"));
    room.dispatcher.settled(*token, Err(Unsent::NobodyThere));
    let (status, error) = room.reply();
    assert_eq!((&*status, &error["error"]["data"]["hop"]), ("-32010", &json!("next")));
    room.dispatcher.settled(*token, Err(Unsent::NobodyThere));
    assert!(room.take_messages().is_empty(), "once");
}

#[tokio::test(start_paused = true)]
async fn next_hop_that_only_listens_is_dead_after_a_second() {
    let room = room(Limits::default());
    // Registry state when the broker has accepted the request, and a second later; and whether the caller gets an
    // error.
    for (then, later, dead) in [
        (Some(true), Some(false), false),
        (Some(false), Some(false), true),
        (Some(false), Some(true), false),
        (None, None, false),
        (None, Some(false), true),
    ] {
        *room.outside.served.lock() = then;
        room.ask("rantai/call/desk/pass", "", &[]);
        let token = room.take_messages()[0].1;
        room.dispatcher.settled(token, Ok(()));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(room.take_messages().is_empty());
        *room.outside.served.lock() = later;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let told = !room.take_messages().is_empty();
        assert_eq!(told, dead, "{then:?} {later:?}");
    }
}

/// Regression: the next link had answered, and the caller was then told that nobody serves it, as a second reply to one
/// request.
#[tokio::test(start_paused = true)]
async fn next_hop_that_started_and_ended_within_a_second_is_not_dead() {
    let room = room(Limits::default());
    *room.outside.served.lock() = Some(false);
    room.ask("rantai/call/desk/pass", "", &[]);
    let token = room.take_messages()[0].1;
    room.dispatcher.settled(token, Ok(()));
    for served in [true, false] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        *room.outside.served.lock() = Some(served);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(room.take_messages().is_empty());
}
