//! Calls that their callers give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rantai_client::object::{Answer, Call, Description, Method, Object};
use rantai_client::wire::fault::Code;
use rantai_client::{Client, Proxy};
use rantai_nodes::Node;
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::{Bus, PATIENCE, Run, bus, until};

/// Counts what becomes of calls that never end.
#[derive(Clone, Default)]
struct Endless {
    begun: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    /// Work that goes on by itself, and was told that its call is cancelled.
    told: Arc<AtomicUsize>,
}

struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Object for Endless {
    fn description(&self) -> Description {
        let method = |name: &str, once| Method { name: name.to_owned(), once, ..Method::default() };
        Description { methods: vec![method("run", false), method("lend", true)], ..Description::default() }
    }

    fn call(self: Arc<Self>, call: Call) -> rantai_client::object::Answering {
        Box::pin(async move {
            let _guard = Guard(self.dropped.clone());
            let (context, told) = (call.context.clone(), self.told.clone());
            assert!(!context.is_cancelled());
            tokio::spawn(async move {
                context.cancelled().await;
                assert!(context.is_cancelled());
                told.fetch_add(1, Ordering::SeqCst);
            });
            self.begun.fetch_add(1, Ordering::SeqCst);
            if call.method.as_str() == "run" {
                return std::future::pending().await;
            }
            call.context.cancelled().await;
            Ok(Answer::Value(json!("back again")))
        })
    }
}

impl Endless {
    /// Calls that have begun, that were dropped, and of which what goes on by itself was told.
    fn counts(&self) -> [usize; 3] {
        [&self.begun, &self.dropped, &self.told].map(|count| count.load(Ordering::SeqCst))
    }

    async fn reaches(&self, counts: [usize; 3]) {
        until(&format!("begun, dropped and told: {counts:?}"), async || self.counts() == counts).await;
    }
}

async fn endless(bus: &Bus) -> (Node, Endless, Client) {
    let (node, object) = (bus.node().await, Endless::default());
    node.serve("endless", object.clone()).await.expect("served");
    (node, object, bus.client().await)
}

async fn in_flight(object: &Proxy) -> Value {
    let stats: Value = object.call("rpc.stats", ()).await.expect("an answer");
    stats["methods"]["run"]["in_flight"].clone()
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_at_its_node() {
    let bus = bus().await;
    let (node, counted, client) = endless(&bus).await;
    let object = client.object("endless").deadline(PATIENCE);
    let to_this_node = object.clone().at(node.name().clone());
    for (number, called) in [(1, object.clone()), (2, to_this_node)] {
        let call = tokio::spawn(async move { called.call::<Value>("run", ()).await });
        counted.reaches([number, number - 1, number - 1]).await;
        assert_eq!(in_flight(&object).await, 1);
        call.abort();
        counted.reaches([number; 3]).await;
    }
    // Every instance of a call to all of them.
    let all = object.clone();
    let call = tokio::spawn(async move { all.request("run").all().await });
    counted.reaches([3, 2, 2]).await;
    call.abort();
    counted.reaches([3; 3]).await;
    // At QoS 0 too: the cancellation does not overtake the request.
    let lossy = object.clone().qos(rantai_client::session::QoS::AtMostOnce);
    assert!(tokio::time::timeout(Duration::from_millis(1), lossy.call::<Value>("run", ())).await.is_err());
    counted.reaches([4; 3]).await;
    assert_eq!(in_flight(&object).await, 0);
    assert_eq!(client.in_flight(), 0);
}

/// As the ledger does: what it had begun when it stopped goes on, and is asked for again.
#[tokio::test]
async fn a_call_whose_identity_was_given_goes_on() {
    let bus = bus().await;
    let (_node, counted, client) = endless(&bus).await;
    let (object, identity) = (client.object("endless").deadline(PATIENCE), Uuid::now_v7());
    let called = object.clone();
    let call = tokio::spawn(async move { called.request("run").identity(identity).send().await });
    counted.reaches([1, 0, 0]).await;
    call.abort();
    // Sent after whatever the end of that call could have sent.
    let call = object.clone();
    let call = tokio::spawn(async move { call.call::<Value>("run", ()).await });
    counted.reaches([2, 0, 0]).await;
    call.abort();
    counted.reaches([2, 1, 1]).await;
    assert_eq!(in_flight(&object).await, 1);
}

#[tokio::test]
async fn what_is_carried_out_once_is_told_and_answers() {
    let bus = bus().await;
    let folder = tempfile::tempdir().expect("a folder");
    let builder = Node::builder(bus.address.clone()).root(bus.root.clone());
    let node = builder.journal(folder.path().join("once.redb")).connect().await.expect("a node");
    let counted = Endless::default();
    node.serve("endless", counted.clone()).await.expect("served");
    let client = bus.client().await;
    let object = client.object("endless").deadline(PATIENCE);
    let called = object.clone();
    let call = tokio::spawn(async move { called.call::<Value>("lend", ()).await });
    counted.reaches([1, 0, 0]).await;
    call.abort();
    // Dropped because it has answered.
    counted.reaches([1; 3]).await;
    let stats: Value = object.call("rpc.stats", ()).await.expect("an answer");
    assert_eq!(
        (&stats["methods"]["lend"]["calls"], &stats["methods"]["lend"]["errors"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn calls_on_behalf_of_a_call_end_with_it() {
    let bus = bus().await;
    let (_node, counted, client) = endless(&bus).await;
    let middle = bus.node().await;
    let relay = Run(move |call: Call| async move {
        let answer: Value = call.context.call("endless", "run", ()).await?;
        Answer::value(&answer)
    });
    middle.serve("middle", relay).await.expect("served");
    let outer = client.object("middle").deadline(PATIENCE);
    let call = tokio::spawn(async move { outer.call::<Value>("run", ()).await });
    counted.reaches([1, 0, 0]).await;
    call.abort();
    counted.reaches([1; 3]).await;
}

#[tokio::test]
async fn a_call_whose_time_is_over_is_told_too() {
    let bus = bus().await;
    let (_node, counted, client) = endless(&bus).await;
    let object = client.object("endless").deadline(Duration::from_millis(200));
    let error = object.call::<Value>("run", ()).await.expect_err("it never ends");
    assert_eq!(error.code(), Some(Code::TIMED_OUT));
    counted.reaches([1; 3]).await;
}
