//! Calls: their results, and all ways in which they fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rantai_client::object::{Answer, Binary};
use rantai_client::session::QoS;
use rantai_client::wire::entry::Mode;
use rantai_client::wire::fault::Code;
use rantai_client::{CallError, Content};
use rantai_nodes::{Limits, ServeOptions};
use rantai_systems::calculator::{CalculatorObject, CalculatorProxy, Exact};
use rantai_systems::echo::{EchoObject, EchoProxy, Plain};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::support::{PATIENCE, Run, bus, until};

fn code(result: Result<Value, CallError>) -> i32 {
    result.expect_err("an error").code().expect("a code").0
}

#[derive(serde::Serialize)]
struct Named {
    b: f64,
    a: f64,
}

#[tokio::test]
async fn an_object_is_called_by_name_as_if_it_were_local() {
    let bus = bus().await;
    let node = bus.node().await;
    node.serve("calculator", CalculatorObject(Exact)).await.expect("served");
    let client = bus.client().await;
    let calculator = CalculatorProxy::new(&client, "calculator");
    assert_eq!(calculator.add(2.0, 3.0).await.expect("a sum"), 5.0);
    assert_eq!(calculator.div(1.0, 8.0).await.expect("a quotient"), 0.125);
    let error = calculator.div(1.0, 0.0).await.expect_err("no quotient");
    let fault = error.fault().expect("the method's own");
    assert_eq!((fault.code, &fault.data["kind"]), (Code::FAILED, &json!("division_by_zero")));
    let sum: f64 =
        client.object("calculator").qos(QoS::AtMostOnce).call("add", [1, 2]).await.expect("at QoS 0");
    assert_eq!(sum, 3.0);
    let less: f64 = client.object("calculator").call("sub", Named { b: 1.0, a: 5.0 }).await.expect("by name");
    assert_eq!(less, 4.0);
}

#[tokio::test]
async fn every_invalid_call_has_its_own_error() {
    let bus = bus().await;
    let node = bus.node().await;
    node.serve("calculator", CalculatorObject(Exact)).await.expect("served");
    let client = bus.client().await;
    let calculator = client.object("calculator");
    assert_eq!(code(calculator.call("add", (1, "x")).await), -32602);
    assert_eq!(code(calculator.call("addd", (1, 2)).await), -32601);
    assert_eq!(code(calculator.call("_add", (1, 2)).await), -32601);
    assert!(matches!(calculator.call::<Value>("a b", ()).await, Err(CallError::Name(_))));
    assert!(matches!(client.object("a b").call::<Value>("add", ()).await, Err(CallError::Name(_))));
    let began = Instant::now();
    let error = client.object("calculater").call::<Value>("add", (1, 2)).await.expect_err("unknown");
    assert!(began.elapsed() < PATIENCE, "told by the broker, not by the deadline");
    let fault = error.fault().expect("with a code");
    assert_eq!((fault.code, &fault.data["did_you_mean"]), (Code::UNKNOWN_OBJECT, &json!(["calculator"])));
    let text: Result<String, CallError> = calculator.call("add", (1, 2)).await;
    assert!(matches!(text, Err(CallError::Result(_))), "{text:?}");
}

#[tokio::test]
async fn error_names_the_lost_node() {
    let bus = bus().await;
    let node = bus.named_node("pi-east").await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    drop(node);
    let client = bus.client().await;
    let mut last = None;
    until("the call ends with -32004", async || {
        let error = client.object("echo").call::<Value>("echo", "x").await.expect_err("nobody is there");
        let fault = error.fault().expect("with a code").clone();
        let named = fault.code == Code::LOST_OBJECT && fault.message.contains("pi-east");
        last = Some(fault);
        named
    })
    .await;
    assert!(last.expect("at least one").is_retryable());
}

#[tokio::test]
async fn binary_parameters_and_results_are_passed_unchanged() {
    let bus = bus().await;
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let client = bus.client().await;
    let echo = EchoProxy::new(&client, "echo");
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let bytes = Binary::from(bytes);
    assert_eq!(echo.bytes(bytes.clone()).await.expect("the same"), bytes);
    assert_eq!(echo.bytes(Binary::default()).await.expect("nothing"), Binary::default());
    let large = json!({"text": "x".repeat(200_000), "number": 1.5, "list": [null, true]});
    assert_eq!(echo.echo(large.clone()).await.expect("the same"), large);
}

#[tokio::test]
async fn call_ends_at_its_deadline_without_leftover_state() {
    let bus = bus().await;
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let client = bus.client().await;
    let echo = client.object("echo").deadline(Duration::from_millis(300));
    let began = Instant::now();
    assert_eq!(code(echo.call("delay", (10_000,)).await), -32002);
    assert!(began.elapsed() < Duration::from_secs(9));
    assert_eq!(client.in_flight(), 0);
    {
        let patient = client.object("echo");
        let call = patient.call::<Value>("delay", (10_000,));
        let _ = tokio::time::timeout(Duration::from_millis(50), call).await;
    }
    assert_eq!(client.in_flight(), 0, "a dropped call frees its place");
    let stats: Value = client.object("echo").call("rpc.stats", ()).await.expect("stats");
    assert!(stats["methods"]["delay"]["calls"].as_u64() >= Some(1), "{stats}");
}

#[tokio::test]
async fn calls_beyond_the_concurrency_limit_are_answered_busy() {
    let bus = bus().await;
    let node = bus.node().await;
    let (gate, entered) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let object = {
        let (gate, entered) = (gate.clone(), entered.clone());
        Run(move |_| {
            let (gate, entered) = (gate.clone(), entered.clone());
            async move {
                entered.fetch_add(1, Ordering::SeqCst);
                let _permit = gate.acquire().await.expect("open");
                Ok(Answer::Value(json!(true)))
            }
        })
    };
    let options =
        ServeOptions { limits: Limits { concurrent: 3, ..Limits::default() }, ..ServeOptions::default() };
    node.serve_with("slow", Arc::new(object), options).await.expect("served");
    let client = bus.client().await;
    let slow = client.object("slow");
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let slow = slow.clone();
        waiting.push(tokio::spawn(async move { slow.call::<bool>("run", ()).await }));
    }
    until("three have entered", async || entered.load(Ordering::SeqCst) == 3).await;
    let error = slow.call::<bool>("run", ()).await.expect_err("busy");
    assert_eq!(error.code(), Some(Code::BUSY));
    assert!(error.fault().expect("a fault").data["retry_after_ms"].is_u64());
    gate.add_permits(3);
    for call in waiting {
        assert!(call.await.expect("no panic").expect("let in"));
    }
    assert!(slow.call::<bool>("run", ()).await.is_ok_and(|right| right), "room again");
}

#[tokio::test]
async fn panic_of_a_method_is_a_fault_and_the_node_survives() {
    let bus = bus().await;
    let node = bus.node().await;
    node.serve(
        "clumsy",
        Run(|_| async { panic!("on purpose") as Result<Answer, rantai_client::wire::fault::Fault> }),
    )
    .await
    .expect("served");
    node.serve(
        "clumsier",
        Run(|_| -> std::future::Ready<Result<Answer, rantai_client::wire::fault::Fault>> {
            panic!("before it began")
        }),
    )
    .await
    .expect("served");
    let later = Run(|_| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        panic!("after a wait") as Result<Answer, rantai_client::wire::fault::Fault>
    });
    node.serve("late", later).await.expect("served");
    let client = bus.client().await;
    for object in ["clumsy", "clumsier", "late"] {
        let error = client.object(object).call::<Value>("run", ()).await.expect_err("it panics");
        assert_eq!(error.code(), Some(Code::BROKEN_OBJECT), "{object}");
        assert!(!error.to_string().contains("on purpose"), "what it said stays there: {error}");
        assert_eq!(client.object(object).call::<String>("rpc.ping", ()).await.expect("it lives"), "pong");
    }
}

#[tokio::test]
async fn calls_reach_one_named_instance_or_all() {
    let bus = bus().await;
    let replica = ServeOptions { mode: Mode::Replica, ..ServeOptions::default() };
    let (one, two) = (bus.node().await, bus.node().await);
    for node in [&one, &two] {
        node.serve_with("echo", Arc::new(EchoObject(Plain)), replica).await.expect("served");
    }
    let client = bus.client().await;
    for node in [&one, &two] {
        for _ in 0..5 {
            let at = client.object("echo").at(node.name().clone());
            let response = at.request("echo").params(("x",)).send().await.expect("an answer");
            assert_eq!(response.node.as_deref(), Some(node.name().as_str()));
        }
    }
    let everybody = client.object("echo").deadline(Duration::from_millis(800));
    let responses = everybody.request("echo").params(("x",)).all().await.expect("answers");
    let mut nodes: Vec<_> = responses.iter().filter_map(|r| r.node.clone()).collect();
    nodes.sort();
    let mut expected = vec![one.name().to_string(), two.name().to_string()];
    expected.sort();
    assert_eq!(nodes, expected);
    assert!(responses.iter().all(|r| r.outcome == Ok(Content::Value(json!("x")))));
    let elsewhere = client.object("echo").at("somewhere".parse().expect("a name"));
    let error = elsewhere.call::<Value>("echo", "x").await.expect_err("nobody there");
    assert_eq!(error.code(), Some(Code::LOST_OBJECT), "{error}");
}

#[tokio::test]
async fn replicas_share_requests_and_each_is_executed_once() {
    let bus = bus().await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let node = bus.node().await;
        let done = done.clone();
        let count = Run(move |_| {
            let number = done.fetch_add(1, Ordering::SeqCst);
            async move { Ok(Answer::Value(json!(number))) }
        });
        let replica = ServeOptions { mode: Mode::Replica, ..ServeOptions::default() };
        node.serve_with("count", Arc::new(count), replica).await.expect("served");
        nodes.push(node);
    }
    let client = bus.client().await;
    let calls = (0..300).map(|_| {
        let count = client.object("count");
        tokio::spawn(async move { count.request("run").send().await.expect("an answer").node })
    });
    let calls: Vec<_> = calls.collect();
    let mut by_node = std::collections::BTreeMap::<_, usize>::new();
    for call in calls {
        *by_node.entry(call.await.expect("no panic")).or_default() += 1;
    }
    assert_eq!(done.load(Ordering::SeqCst), 300);
    assert_eq!(by_node.len(), 3, "{by_node:?}");
}

#[tokio::test]
async fn oneway_request_is_executed() {
    let bus = bus().await;
    let node = bus.node().await;
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done.clone();
    let object = Run(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(Answer::Value(Value::Null)) }
    });
    node.serve("quiet", object).await.expect("served");
    let client = bus.client().await;
    client.object("quiet").request("run").oneway().await.expect("taken by the broker");
    until("it ran", async || done.load(Ordering::SeqCst) == 1).await;
    let error = client.object("quiets").request("run").oneway().await.expect_err("nobody there");
    assert_eq!(error.code(), Some(Code::UNKNOWN_OBJECT));
}

/// Counts drops.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_running_call_is_cancelled_and_a_repeat_is_recognised() {
    let bus = bus().await;
    let node = bus.node().await;
    let dropped = Arc::new(AtomicUsize::new(0));
    let (entered, counted) = (Arc::new(AtomicUsize::new(0)), dropped.clone());
    let object = {
        let entered = entered.clone();
        Run(move |_| {
            let guard = Guard(counted.clone());
            entered.fetch_add(1, Ordering::SeqCst);
            async move {
                let _guard = guard;
                std::future::pending().await
            }
        })
    };
    node.serve("endless", object).await.expect("served");
    let client = bus.client().await;
    let identity = uuid::Uuid::now_v7();
    let endless = client.object("endless");
    let call = tokio::spawn(async move { endless.request("run").identity(identity).send().await });
    until("it has begun", async || entered.load(Ordering::SeqCst) == 1).await;
    let everybody = client.object("endless").deadline(Duration::from_millis(500));
    let hex = identity.simple().to_string();
    let answers = everybody.request("rpc.cancel").params((hex,)).all().await.expect("answers");
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].outcome, Ok(Content::Value(json!(true))));
    let response = call.await.expect("no panic").expect("an answer");
    assert_eq!(response.outcome.expect_err("cancelled").code, Code::CANCELLED);
    assert_eq!(dropped.load(Ordering::SeqCst), 1, "what it held is let go");
    let again = client.object("endless").request("run").identity(identity).send().await.expect("an answer");
    assert!(again.repeated && again.outcome.expect_err("the same").code == Code::CANCELLED);
    assert_eq!(entered.load(Ordering::SeqCst), 1, "not carried out again");
    let other = client.object("endless").request("run").params((1,)).identity(identity).send().await;
    assert_eq!(other.expect("an answer").outcome.expect_err("reused").code, Code::IDENTITY_REUSED);
}
