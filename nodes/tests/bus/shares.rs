//! Fair shares: one caller, or one object, that uses all it can get does not keep others from being served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rantai_client::Client;
use rantai_client::object::Answer;
use rantai_client::wire::fault::Code;
use rantai_nodes::dispatch::Limits;
use rantai_nodes::{Node, ServeOptions};
use rantai_systems::echo::{EchoObject, Plain};
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::options::Options;
use rantai_tasks::task::State;
use rantai_tasks::{Ledger, Limits as TaskLimits};
use serde_json::{Value, json};

use super::support::{Bus, PATIENCE, Run, bus, until};
use super::users;

async fn serve_ledger(bus: &Bus, limits: TaskLimits) -> Node {
    let ledger = Ledger::open(None, limits).expect("in memory");
    let client = Client::builder(bus.address.clone()).root(bus.root.clone());
    let node = bus.node().await;
    node.serve("tasks", ledger.start(client).await.expect("a ledger")).await.expect("free");
    node
}

/// Regression: 256 calls with a deadline of an hour took every place of an object, even after their client was gone.
#[tokio::test]
async fn client_that_fills_an_object_and_leaves_does_not_block_others() {
    let bus = bus().await;
    let node = bus.node().await;
    let entered = Arc::new(AtomicUsize::new(0));
    let object = {
        let entered = entered.clone();
        Run(move |call: rantai_client::object::Call| {
            let entered = entered.clone();
            async move {
                entered.fetch_add(1, Ordering::SeqCst);
                if call.context.time_left() > Duration::from_mins(10) {
                    std::future::pending::<()>().await;
                }
                tokio::task::yield_now().await;
                Ok(Answer::Value(json!(true)))
            }
        })
    };
    let limits = Limits { concurrent: 16, ..Limits::default() };
    let options = ServeOptions { limits, ..ServeOptions::default() };
    node.serve_with("slow", Arc::new(object), options).await.expect("served");
    let greedy = bus.client().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let slow = greedy.object("slow").deadline(Duration::from_hours(1));
        calls.spawn(async move { slow.call::<bool>("run", ()).await });
    }
    for _ in 0..5 {
        let refused = calls.join_next().await.expect("one of them").expect("no panic").expect_err("busy");
        assert_eq!(refused.code(), Some(Code::BUSY));
        assert!(refused.fault().expect("a fault").data["retry_after_ms"].is_u64());
    }
    until("two thirds of the places are taken", async || entered.load(Ordering::SeqCst) == 11).await;
    let honest = bus.admin().await;
    assert!(honest.object("slow").call::<bool>("run", ()).await.expect("served"));
    let stats: Value = honest.object("slow").call("rpc.stats", ()).await.expect("statistics");
    let places = &stats["shares"][0];
    assert_eq!(
        (&places["table"], &places["limit"], &places["taken"]),
        (&json!("calls"), &json!(16), &json!(11))
    );
    assert_eq!(
        (&places["callers"], &places["refused"], &places["top"][0]["held"]),
        (&json!(1), &json!(5), &json!(11))
    );
    let holder = places["top"][0]["caller"].as_str().expect("a name");
    // Names of users are visible to themselves and to admins of the node only.
    let greedy_as = if users::are_on() { "another user" } else { greedy.id().as_str() };
    assert!(holder.contains(greedy_as), "{holder}");
    greedy.close().await;
    assert!(honest.object("slow").call::<bool>("run", ()).await.expect("served"));
    calls.shutdown().await;
}

/// Regression: 20,000 tasks for next year kept all other users from submitting any.
#[tokio::test]
async fn client_with_many_scheduled_tasks_leaves_room_in_the_ledger() {
    let bus = bus().await;
    let _ledger = serve_ledger(&bus, TaskLimits { tasks: 20, ..TaskLimits::default() }).await;
    let greedy = bus.client().await;
    let tasks = TasksProxy::from(greedy.object("tasks").deadline(PATIENCE));
    let far = || Some(Options { at_ms: Some(4_000_000_000_000), ..Options::default() });
    for _ in 0..14 {
        tasks.submit("echo".into(), "echo".into(), None, far()).await.expect("within its share");
    }
    let refused = tasks.submit("echo".into(), "echo".into(), None, far()).await.expect_err("over its share");
    assert_eq!(refused.code(), Some(Code::BUSY), "{refused}");
    greedy.close().await;
    let honest = bus.admin().await;
    let tasks = TasksProxy::from(honest.object("tasks").deadline(PATIENCE));
    tasks.submit("echo".into(), "echo".into(), None, None).await.expect("others are served");
    let stats: Value = honest.object("tasks").call("rpc.stats", ()).await.expect("statistics");
    let kept = &stats["shares"][1];
    assert_eq!((&kept["table"], &kept["limit"], &kept["taken"]), (&json!("tasks"), &json!(20), &json!(15)));
    assert_eq!(
        (&kept["callers"], &kept["refused"], &kept["top"][0]["held"]),
        (&json!(2), &json!(1), &json!(14))
    );
}

/// Regression: two slow objects took all 64 places, and a task of a third one waited for them.
#[tokio::test]
async fn slow_objects_leave_places_of_the_ledger_to_others() {
    let bus = bus().await;
    let _ledger = serve_ledger(&bus, TaskLimits::default()).await;
    let node = bus.node().await;
    let begun = Arc::new(AtomicUsize::new(0));
    for name in ["slow", "slower"] {
        let begun = begun.clone();
        let object = Run(move |_| {
            begun.fetch_add(1, Ordering::SeqCst);
            std::future::pending()
        });
        node.serve(name, object).await.expect("served");
    }
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let client = bus.client().await;
    let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    for name in ["slow", "slower"] {
        for _ in 0..40 {
            tasks.submit(name.into(), "run".into(), None, None).await.expect("stored");
        }
    }
    until("their shares are taken", async || begun.load(Ordering::SeqCst) == 54).await;
    let third = tasks.submit("echo".into(), "echo".into(), Some(json!(["x"])), None).await.expect("stored");
    let third = tasks.result(third, Some(PATIENCE.as_millis() as u64)).await.expect("known");
    assert_eq!((third.state, third.result), (State::Succeeded, Some(Value::from("x"))));
}
