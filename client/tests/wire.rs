//! The wire contract by example: golden topics, requests and replies, and invalid input.

use bytes::Bytes;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::features::BrokerFeatures;
use rantai_client::wire::name::{ClientId, MethodName, ObjectName, Root};
use rantai_client::wire::reply::{Outcome, Reply};
use rantai_client::wire::request::{self, Form, Params, Refusal, ReplyTo, Request};
use rantai_client::wire::topic::{
    CallTopic, EventTopic, RegistryTopic, ReplyTopic, Target, TopicError, TopicKind, call_filters,
};
use rantai_client::wire::{BINARY, Properties};
use serde_json::{Value, json};

fn object(name: &str) -> ObjectName {
    ObjectName::new(name).expect("a name")
}

fn client(name: &str) -> ClientId {
    ClientId::new(name).expect("a client id")
}

fn call(topic: &str) -> Result<CallTopic, TopicError> {
    CallTopic::parse(&Root::default(), topic)
}

#[test]
fn topics_are_formatted_and_parsed_back() {
    let root = Root::default();
    for topic in [
        "rantai/call/calculator/add",
        "rantai/call/calculator",
        "rantai/call/tasks/submit",
        "rantai/at/pi-east/calculator/rpc.ping",
        "rantai/all/example.chainTopology.1",
    ] {
        assert_eq!(call(topic).expect("a call topic").format(&root), topic);
    }
    for (topic, error) in [
        ("rantai/call/a/b/c", TopicError::TooManyLevels),
        ("rantai/at/n/a/b/c", TopicError::TooManyLevels),
        ("rantai/call/a b", TopicError::NoName),
        ("rantai/call/a/1x", TopicError::NoName),
        ("rantai/at/n.1/a", TopicError::NoName),
        ("rantai/reply/a/b", TopicError::Other),
        ("rantai", TopicError::Other),
        ("other/call/a", TopicError::Other),
    ] {
        assert_eq!(call(topic), Err(error), "{topic}");
    }
    let tenant = Root::new("acme/rantai").expect("a root");
    let topic = CallTopic { target: Target::Any, object: object("a"), method: None };
    assert_eq!(topic.format(&tenant), "acme/rantai/call/a");
    assert_eq!(
        call_filters(&root, &client("n"), &object("a")),
        ["$share/a/rantai/call/a/#", "rantai/at/n/#", "rantai/all/a/#"]
    );
    for topic in ["rantai/name/calculator/pi-east", "rantai/node/pi-east"] {
        assert_eq!(RegistryTopic::parse(&root, topic).expect("a registry topic").format(&root), topic);
    }
    for topic in ["rantai/event/sensor/temp", "rantai/event/upcall/pushed/me", "rantai/event/tasks/state"] {
        assert_eq!(EventTopic::parse(&root, topic).expect("an event topic").format(&root), topic);
    }
    assert_eq!(ReplyTopic::filter(&root, &client("me")), "rantai/reply/+/me");
    assert_eq!(ReplyTopic::to(&root, &object("a"), &client("me")).as_str(), "rantai/reply/a/me");
}

#[test]
fn a_reply_topic_is_below_the_root_without_wildcards_and_not_too_long() {
    let root = Root::default();
    for good in ["rantai/reply/calculator/me", "rantai/reply/x"] {
        assert!(ReplyTopic::named(&root, good).is_some(), "{good}");
    }
    let long = format!("rantai/reply/{}", "x".repeat(244));
    for bad in ["rantai/reply/", "rantai/call/x", "home/door", "rantai/reply/+/x", "rantai/reply/#", &long] {
        assert!(ReplyTopic::named(&root, bad).is_none(), "{bad}");
    }
}

/// Roots and names may contain the words of the kinds.
#[test]
fn only_the_level_after_the_root_is_the_kind_of_a_topic() {
    for root in ["a/at/reply/b", "at", "reply", "call/name/node/event/all"] {
        let root = Root::new(root).expect("a root");
        for word in ["at", "call", "reply", "name", "all", "event", "node"] {
            let (object, me) = (object(word), client(word));
            for target in [Target::Any, Target::Node(me.clone()), Target::All] {
                let topic = CallTopic { target, object: object.clone(), method: MethodName::new(word).ok() };
                assert_eq!(CallTopic::parse(&root, &topic.format(&root)), Ok(topic));
            }
            for topic in [RegistryTopic::Name(object.clone(), me.clone()), RegistryTopic::Node(me.clone())] {
                assert_eq!(RegistryTopic::parse(&root, &topic.format(&root)), Some(topic));
            }
            let reply = ReplyTopic::to(&root, &object, &me);
            assert_eq!(reply.client(&root), Some(me.clone()));
            assert!(ReplyTopic::object_of(&root, &me, reply.as_str()).is_some());
            assert_eq!(ReplyTopic::object_of(&root, &client("x"), reply.as_str()), None);
            assert_eq!(ReplyTopic::public(&root, &object).client(&root), None);
            assert_eq!(TopicKind::of(&root, &format!("{root}/{word}")), None);
        }
    }
    let root = Root::default();
    assert_eq!(TopicKind::of(&root, "rantai/event/a/b"), Some((TopicKind::Event, "a/b")));
    for other in ["rantai", "rantai/", "rantai/calls/a", "rantaix/call/a", "x/rantai/call/a"] {
        assert_eq!(TopicKind::of(&root, other), None, "{other}");
    }
}

#[test]
fn reply_topic_of_the_longest_names_is_accepted() {
    let root = Root::new(&[&"r".repeat(64), &*"s".repeat(63)].join("/")).expect("the longest root");
    let longest = ReplyTopic::to(&root, &object(&"o".repeat(64)), &client(&"c".repeat(64)));
    assert!(ReplyTopic::named(&root, longest.as_str()).is_some(), "{} bytes", longest.as_str().len());
}

#[expect(clippy::result_large_err, reason = "unboxed, to be matched on")]
fn read(topic: &str, payload: &[u8], properties: &Properties) -> Result<Request, Refusal> {
    Request::read(
        &Root::default(),
        &call(topic).expect("a call topic"),
        &Bytes::copy_from_slice(payload),
        properties,
        BrokerFeatures::default(),
    )
    .map_err(|r| *r)
}

fn plain(payload: &[u8]) -> Params {
    read("rantai/call/calculator/add", payload, &Properties::default()).expect("a request").params
}

#[test]
fn plain_payloads_become_parameters() {
    assert_eq!(plain(b""), Params::None);
    assert_eq!(plain(b"[2,3]"), Params::Positional(vec![json!(2), json!(3)]));
    let Params::Named(named) = plain(br#"{"a":2}"#) else { panic!("by name") };
    assert_eq!(named["a"], 2);
    let one = |value: Value, text: &str| Params::One { value, text: text.into() };
    assert_eq!(plain(b"1984"), one(json!(1984), "1984"));
    assert_eq!(plain(b"null"), one(Value::Null, "null"));
    assert_eq!(plain(b"\"x\""), one(json!("x"), "\"x\""));
    assert_eq!(plain(b"Programming GO"), one(json!("Programming GO"), "Programming GO"));
    assert_eq!(plain("é[".as_bytes()), one(json!("é["), "é["));
    let binary = Properties { content_type: Some(BINARY.into()), ..Properties::default() };
    let request = read("rantai/call/files/write", b"\xFF\x00", &binary).expect("a request");
    assert_eq!(request.params, Params::Binary(vec![0xFF, 0].into()));
    assert_eq!(code(read("rantai/call/a/b", b"\xFF", &Properties::default())), Code::NOT_JSON);
    let deep = "[".repeat(65) + &"]".repeat(65);
    assert_eq!(code(read("rantai/call/a/b", deep.as_bytes(), &Properties::default())), Code::NOT_A_REQUEST);
}

#[test]
fn invalid_json_payload_never_becomes_a_string() {
    let refused = |topic: &str, text: &str| code(read(topic, text.as_bytes(), &Properties::default()));
    for payload in [
        r#"["\ud83d"]"#,
        r#""\ud83d""#,
        r#"{"a":1,"a":2}"#,
        r#"[{"a":{"b":1,"b":1}}]"#,
        "1e400",
        "-1e400",
        "[1e400]",
        "[1]x",
        "{\"a\":1}}",
        "[1,]",
        "[",
        " \t\r\n{",
        "\u{feff}[1]",
        "[NaN]",
        &"[".repeat(100),
    ] {
        assert_eq!(refused("rantai/call/a/b", payload), Code::NOT_JSON, "{payload}");
        let json_rpc = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"b","params":[{payload}]}}"#);
        assert_eq!(refused("rantai/call/a", &json_rpc), Code::NOT_JSON, "{json_rpc}");
    }
    for text in ["Dune", "2 weeks", "\"Dune\" is a book", "NaN", "x[1]", " ", "-"] {
        let expected = Params::One { value: json!(text), text: text.into() };
        assert_eq!(plain(text.as_bytes()), expected, "{text}");
    }
}

fn code(result: Result<Request, Refusal>) -> Code {
    match result {
        Err(Refusal::Told { fault, .. }) => fault.code,
        other => panic!("not told: {other:?}"),
    }
}

#[test]
fn a_json_rpc_request_is_an_object_on_a_topic_without_a_method() {
    let none = Properties::default();
    let text = br#"{"jsonrpc":"2.0","id":"a","method":"add","params":[2,3],"reply_to":"rantai/reply/calculator/me","ttl_ms":250,"trail":[{"node":"x"}]}"#;
    let request = read("rantai/call/calculator", text, &none).expect("a request");
    assert_eq!(request.method, MethodName::new("add").expect("a name"));
    assert_eq!(request.params, Params::Positional(vec![json!(2), json!(3)]));
    assert_eq!((request.ttl_ms, request.has_deadline, request.trail.len()), (250, true, 1));
    // Some languages write every number with a fraction.
    let fraction = br#"{"id":1.0,"method":"add","params":[2.0,3.0],"ttl_ms":250.0}"#;
    assert_eq!(read("rantai/call/calculator", fraction, &none).expect("a request").ttl_ms, 250);
    assert_eq!(request.form, Form::JsonRpc(json!("a")));
    let ReplyTo::Topic(topic) = request.reply_to else { panic!("a topic") };
    assert_eq!(topic.as_str(), "rantai/reply/calculator/me");
    let notification = br#"{"jsonrpc":"2.0","method":"add"}"#;
    let request = read("rantai/call/calculator", notification, &none).expect("a request");
    assert_eq!((request.reply_to, request.params), (ReplyTo::Nobody, Params::None));
    let without_version = br#"{"method":"add","id":1}"#;
    let request = read("rantai/call/calculator", without_version, &none).expect("a request");
    assert_eq!(request.form, Form::JsonRpc(json!(1)));
    for (text, expected) in [
        ("{", Code::NOT_JSON),
        ("[]", Code::NOT_A_REQUEST),
        ("1", Code::NOT_A_REQUEST),
        (r#"{"jsonrpc":"1.0","method":"add","id":1}"#, Code::NOT_A_REQUEST),
        (r#"{"jsonrpc":2.0,"method":"add","id":1}"#, Code::NOT_A_REQUEST),
        (r#"{"jsonrpc":"2.0","id":1}"#, Code::NOT_A_REQUEST),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a b"}"#, Code::NOT_A_REQUEST),
        (r#"{"jsonrpc":"2.0","id":1,"method":"add","params":3}"#, Code::NOT_A_REQUEST),
        (r#"{"jsonrpc":"2.0","id":[],"method":"add"}"#, Code::NOT_A_REQUEST),
        (r#"{"jsonrpc":"2.0","id":1,"method":"add","ttl_ms":"soon"}"#, Code::WRONG_PARAMETERS),
        (r#"{"jsonrpc":"2.0","id":1,"method":"add","ttl_ms":2.5}"#, Code::WRONG_PARAMETERS),
        (r#"{"jsonrpc":"2.0","id":1,"method":"add","trail":1}"#, Code::WRONG_PARAMETERS),
    ] {
        assert_eq!(code(read("rantai/call/calculator", text.as_bytes(), &none)), expected, "{text}");
    }
}

#[test]
fn the_deadline_is_the_lower_of_both_and_bounded() {
    let with = |ttl: Option<&str>, expiry| Properties {
        expiry,
        user: ttl.map(|ttl| ("ttl_ms".to_owned(), ttl.to_owned())).into_iter().collect(),
        ..Properties::default()
    };
    for (ttl, expiry, left) in [
        (None, None, 30_000),
        (Some("250"), Some(1), 250),
        (Some("5000"), Some(1), 1_000),
        (None, Some(7), 7_000),
        (Some("99999999"), None, 3_600_000),
        (Some("0"), None, 0),
    ] {
        let request = read("rantai/call/a/b", b"", &with(ttl, expiry)).expect("a request");
        assert_eq!((request.ttl_ms, request.has_deadline), (left, ttl.is_some() || expiry.is_some()));
    }
    for malformed in ["", "-1", "1.5", "soon"] {
        assert_eq!(code(read("rantai/call/a/b", b"", &with(Some(malformed), None))), Code::WRONG_PARAMETERS);
    }
}

#[test]
fn a_wrong_reply_topic_executes_nothing_and_says_nothing() {
    let to = |topic: &str| Properties { response_topic: Some(topic.into()), ..Properties::default() };
    assert!(matches!(read("rantai/call/a/b", b"", &to("home/door")), Err(Refusal::Silent(_))));
    let long = Properties { correlation: Some(vec![0; 65].into()), ..Properties::default() };
    assert!(matches!(read("rantai/call/a/b", b"", &long), Err(Refusal::Silent(_))));
    let request = read("rantai/call/a/b", b"", &Properties::default()).expect("a request");
    let ReplyTo::Topic(topic) = request.reply_to else { panic!("a topic") };
    assert_eq!(topic.as_str(), "rantai/reply/a");
    let oneway = Properties { user: [("oneway", "1")].into(), ..Properties::default() };
    assert_eq!(read("rantai/call/a/b", b"", &oneway).expect("a request").reply_to, ReplyTo::Nobody);
}

#[test]
fn only_long_correlations_identify_a_request() {
    let with = |length| Properties { correlation: Some(vec![7; length].into()), ..Properties::default() };
    let with = |length| read("rantai/call/a/b", b"", &with(length)).expect("a request");
    assert_eq!(with(15).identity(), None);
    let reply_to = ReplyTopic::public(&Root::default(), &object("a"));
    let identity = request::Identity { reply_to: &reply_to, id: &[7; 16], hops: 0 };
    assert_eq!(with(16).identity(), Some(identity));
    let by_id = br#"{"jsonrpc":"2.0","id":"0123456789abcdef","method":"b"}"#;
    assert!(read("rantai/call/a", by_id, &Properties::default()).expect("a request").identity().is_some());
}

#[test]
fn replies_in_plain_form_are_bare_and_tell_errors_by_their_status() {
    let node = "pi".into();
    let write = |outcome| Reply::write(outcome, &Form::Plain, Some(&Bytes::from_static(b"id")), &node, 100);
    let five = write(Outcome::Value(json!(5)));
    let properties = five.properties();
    assert_eq!((&five.payload[..], properties.user("status")), (&b"5"[..], Some("ok")));
    assert_eq!((properties.user("node"), properties.correlation.as_deref()), (Some("pi"), Some(&b"id"[..])));
    assert_eq!(write(Outcome::Value(Value::Null)).payload, "null");
    let fault = Fault::failed("division_by_zero", "b is 0");
    let error = Reply::write(Outcome::Fault(fault.clone()), &Form::Plain, None, &node, 1_000);
    assert_eq!(error.properties().user("status"), Some("-32000"));
    for outcome in [
        Outcome::Value(json!({"error": "not one"})),
        Outcome::Value(json!([1, 2])),
        Outcome::Binary(Bytes::new()),
        Outcome::Binary(vec![0, 255].into()),
        Outcome::Fault(fault),
    ] {
        let reply = Reply::write(outcome.clone(), &Form::Plain, None, &node, 1_000);
        assert_eq!(Reply::read(&reply.payload, &reply.properties()), outcome);
    }
    let large = write(Outcome::Value(json!("x".repeat(200))));
    let Outcome::Fault(fault) = Reply::read(&large.payload, &large.properties()) else { panic!("refused") };
    assert_eq!((fault.code, &fault.data["limit"]), (Code::TOO_LARGE, &json!(100)));
    assert_eq!(five.again().properties().user("dup"), Some("1"));
    let fraction = Bytes::from_static(br#"{"error":{"code":-32000.0,"message":"no"}}"#);
    let Outcome::Fault(fault) = Reply::read(&fraction, &Properties::default()) else { panic!("an error") };
    assert_eq!(fault.code, Code::FAILED, "some languages write every number with a fraction");
    let garbage = Reply::read(&Bytes::from_static(b"{"), &Properties::default());
    assert!(matches!(garbage, Outcome::Fault(fault) if fault.code == Code::BROKEN_OBJECT));
}

#[test]
fn replies_in_json_rpc_form_are_responses() {
    let node = "pi".into();
    let form = Form::JsonRpc(json!(7));
    let reply = Reply::write(Outcome::Value(json!(5)), &form, None, &node, 1_000);
    assert_eq!(
        serde_json::from_slice::<Value>(&reply.payload).unwrap(),
        json!({"jsonrpc": "2.0", "id": 7, "result": 5})
    );
    let reply = Reply::write(Outcome::Fault(Fault::busy(9)), &form, None, &node, 1_000);
    let large =
        Reply::write(Outcome::Value(json!(u64::MAX)), &Form::JsonRpc(json!(u64::MAX)), None, &node, 1_000);
    assert_eq!(
        serde_json::from_slice::<Value>(&large.payload).unwrap(),
        json!({"jsonrpc": "2.0", "id": u64::MAX, "result": u64::MAX.to_string()}),
        "an id comes back as it was"
    );
    let response: Value = serde_json::from_slice(&reply.payload).unwrap();
    assert_eq!((&response["id"], &response["error"]["code"]), (&json!(7), &json!(-32005)));
    let binary = Reply::write(Outcome::Binary(vec![1].into()), &form, None, &node, 1_000);
    assert_eq!(binary.properties().user("status"), Some("-32600"));
}

#[test]
fn request_has_ttl_ms_and_message_expiry() {
    let topic = ReplyTopic::to(&Root::default(), &object("a"), &client("me"));
    let called = CallTopic::parse(&Root::default(), "rantai/call/a/b").expect("a topic");
    let (name, properties) = request::head(&Root::default(), &called, topic.shared(), &[1; 16], 1_500);
    assert_eq!((&*name, properties.response_topic.as_deref()), ("rantai/call/a/b", Some(topic.as_str())));
    assert_eq!((properties.expiry, properties.user("ttl_ms")), (Some(2), Some("1500")));
    let request = read("rantai/call/a/b", b"", &properties).expect("a request");
    assert_eq!((request.ttl_ms, request.identity().is_some()), (1_500, true));
}
