//! Calls that a method makes on behalf of its own call.

use std::time::Duration;

use rantai_client::object::{Answer, Call};
use rantai_client::wire::fault::{Code, Fault};
use rantai_nodes::Node;
use serde_json::{Value, json};

use super::support::{Bus, PATIENCE, Run, bus};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Returns the context of its call.
async fn innermost(call: Call) -> Result<Answer, Fault> {
    let context = call.context;
    let trail: Vec<Value> = context.trail.iter().map(|hop| hop["node"].clone()).collect();
    Answer::value(&json!({
        "trail": trail,
        "traceparent": context.traceparent,
        "left_ms": context.time_left().as_millis() as u64,
    }))
}

/// Serves `name`, which calls `next` and returns the result.
async fn serve_relay(bus: &Bus, name: &str, next: &'static str) -> Node {
    let node = bus.node().await;
    let relay = Run(move |call: Call| async move {
        let answer: Value = call.context.call(next, "run", ()).await?;
        Answer::value(&answer)
    });
    node.serve(name, relay).await.expect("served");
    node
}

#[tokio::test]
async fn nested_calls_carry_deadline_trail_and_trace() {
    let bus = bus().await;
    let inner = bus.node().await;
    inner.serve("inner", Run(innermost)).await.expect("served");
    let _middle = serve_relay(&bus, "middle", "inner").await;
    let _outer = serve_relay(&bus, "outer", "middle").await;
    let client = bus.client().await;

    let outer = client.object("outer").deadline(PATIENCE);
    let response = outer.request("run").property("traceparent", TRACE).send().await.expect("a reply");
    let told: Value = response.read().expect("a value");
    assert_eq!(told["trail"], json!(["outer", "middle"]));
    assert_eq!(told["traceparent"], TRACE);
    let left = told["left_ms"].as_u64().expect("milliseconds");
    assert!(
        left > 0 && left <= PATIENCE.as_millis() as u64,
        "{left} ms, not the 30 s of a call without a deadline"
    );

    let plain: Value = outer.call("run", ()).await.expect("a reply");
    assert_eq!(plain["traceparent"], Value::Null);
}

#[tokio::test]
async fn a_nested_call_has_no_more_time_than_the_outer_one() {
    let bus = bus().await;
    let inner = bus.node().await;
    let (told, mut times) = tokio::sync::mpsc::unbounded_channel();
    let never = Run(move |call: Call| {
        told.send(call.context.time_left()).expect("the test listens");
        std::future::pending::<Result<Answer, Fault>>()
    });
    inner.serve("inner", never).await.expect("served");
    let _outer = serve_relay(&bus, "outer", "inner").await;
    let client = bus.client().await;
    // A call without its own deadline has 30 s.
    let short = Duration::from_secs(2);
    let error = client.object("outer").deadline(short).call::<Value>("run", ()).await.expect_err("no answer");
    assert_eq!(error.fault().map(|fault| fault.code), Some(Code::TIMED_OUT), "{error}");
    assert!(times.recv().await.expect("it was called") <= short);
}

#[tokio::test]
async fn objects_that_call_each_other_in_a_circle_end_at_the_trail_limit() {
    let bus = bus().await;
    let _one = serve_relay(&bus, "one", "other").await;
    let _other = serve_relay(&bus, "other", "one").await;
    let client = bus.client().await;
    let error = client.object("one").deadline(PATIENCE).call::<Value>("run", ()).await.expect_err("a circle");
    let fault = error.fault().expect("the object's own fault");
    assert_eq!(fault.code, Code::TRAIL_LIMIT, "{fault:?}");
    assert_eq!(fault.data["trail"].as_array().map(Vec::len), Some(17), "{fault:?}");
}

#[tokio::test]
async fn a_nested_call_of_an_unserved_object_names_it() {
    let bus = bus().await;
    let _outer = serve_relay(&bus, "outer", "nowhere").await;
    let client = bus.client().await;
    let error =
        client.object("outer").deadline(PATIENCE).call::<Value>("run", ()).await.expect_err("unserved");
    let fault = error.fault().expect("the object's own fault");
    assert!(fault.code == Code::BUSY && fault.message.contains("nowhere"), "{fault:?}");
}
