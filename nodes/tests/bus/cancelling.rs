//! Calls that are cancelled by their callers.

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

/// Object whose calls never end; counts their states.
#[derive(Clone, Default)]
struct Endless {
    begun: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    /// Number of independent tasks that were notified of the cancellation of their call.
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
    /// Returns the numbers of calls that have begun, that were dropped, and whose independent task was notified.
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
async fn dropped_call_is_cancelled_at_its_node() {
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
    // Calls to all instances, each of which is cancelled.
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

/// The ledger does so: its calls continue after it stops, and it calls again with the same identities.
#[tokio::test]
async fn dropped_call_with_a_given_identity_continues() {
    let bus = bus().await;
    let (_node, counted, client) = endless(&bus).await;
    let (object, identity) = (client.object("endless").deadline(PATIENCE), Uuid::now_v7());
    let called = object.clone();
    let call = tokio::spawn(async move { called.request("run").identity(identity).send().await });
    counted.reaches([1, 0, 0]).await;
    call.abort();
    // Sent after any message that the end of that call could have caused.
    let call = object.clone();
    let call = tokio::spawn(async move { call.call::<Value>("run", ()).await });
    counted.reaches([2, 0, 0]).await;
    call.abort();
    counted.reaches([2, 1, 1]).await;
    assert_eq!(in_flight(&object).await, 1);
}

#[tokio::test]
async fn once_method_is_notified_of_cancellation_and_answers() {
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
    // Dropped because it has been answered.
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
async fn call_is_notified_at_its_deadline() {
    let bus = bus().await;
    let (_node, counted, client) = endless(&bus).await;
    let object = client.object("endless").deadline(Duration::from_millis(200));
    let error = object.call::<Value>("run", ()).await.expect_err("it never ends");
    assert_eq!(error.code(), Some(Code::TIMED_OUT));
    counted.reaches([1; 3]).await;
}
