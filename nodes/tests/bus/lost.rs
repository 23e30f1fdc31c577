//! Calls whose node is lost, or ends, while it executes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rantai_client::object::{Answer, Call, Forward};
use rantai_client::session::Filter;
use rantai_client::wire::accepted::Accepted;
use rantai_client::wire::entry::Mode;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::{MethodName, ObjectName};
use rantai_client::wire::request::Params;
use rantai_client::{CallError, Client, Proxy};
use rantai_nodes::{Node, ServeOptions};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::support::{Bus, PATIENCE, Run, bus, until};

/// Time limit for a call to fail. The goal is a second, but machines are busy.
const SOON: Duration = Duration::from_secs(20);

type Begun = Arc<AtomicUsize>;

/// Creates an object whose calls never end, and a counter of the calls that have begun.
fn endless() -> (impl rantai_client::object::Object, Begun) {
    let begun = Begun::default();
    let counted = begun.clone();
    let object = Run(move |_: Call| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<Answer, Fault>>()
    });
    (object, begun)
}

async fn has_begun(begun: &Begun, count: usize) {
    until("the call has begun", async || begun.load(Ordering::SeqCst) == count).await;
}

fn calling(object: &Proxy) -> JoinHandle<Result<Value, CallError>> {
    let object = object.clone();
    tokio::spawn(async move { object.call::<Value>("run", ()).await })
}

/// Returns the fault that ends a call within [`SOON`].
async fn fault_soon(call: JoinHandle<Result<Value, CallError>>) -> Fault {
    let ended = timeout(SOON, call).await.expect("before its deadline").expect("no panic");
    ended.expect_err("nobody has answered").fault().expect("with a code").clone()
}

async fn serve(bus: &Bus, mode: Mode) -> (Node, Begun) {
    let (node, (object, begun)) = (bus.node().await, endless());
    let options = ServeOptions { mode, ..ServeOptions::default() };
    node.serve_with("endless", Arc::new(object), options).await.expect("served");
    (node, begun)
}

fn of(client: &Client) -> Proxy {
    client.object("endless").deadline(PATIENCE * 5)
}

#[tokio::test]
async fn a_call_ends_with_its_node_and_says_that_it_may_have_been_carried_out() {
    let bus = bus().await;
    let client = bus.client().await;
    // Before the node has published that it has the call, and after.
    for wait in [Duration::ZERO, Duration::from_millis(600)] {
        for on_this_node in [false, true] {
            let (node, begun) = serve(&bus, Mode::Exclusive).await;
            let object = of(&client);
            let call = calling(&if on_this_node { object.at(node.name().clone()) } else { object });
            has_begun(&begun, 1).await;
            sleep(wait).await;
            let name = node.name().to_string();
            drop(node);
            let fault = fault_soon(call).await;
            assert_eq!((fault.code, fault.maybe_executed()), (Code::LOST_OBJECT, true), "{fault:?}");
            assert_eq!(fault.data["node"], *name);
        }
    }
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn a_call_that_may_be_carried_out_twice_goes_to_another_replica() {
    let bus = bus().await;
    let client = bus.client().await;
    for in_order in [false, true] {
        let (first, begun) = serve(&bus, Mode::Replica).await;
        let call = calling(&of(&client).idempotent());
        has_begun(&begun, 1).await;
        let second = bus.node().await;
        let options = ServeOptions { mode: Mode::Replica, ..ServeOptions::default() };
        let answers = Run(|_| async { Answer::value(&"from the second") });
        second.serve_with("endless", Arc::new(answers), options).await.expect("served");
        if in_order {
            first.drain(Duration::from_millis(100)).await;
        } else {
            drop(first);
        }
        let answer = timeout(SOON, call).await.expect("before its deadline").expect("no panic");
        assert_eq!(answer.expect("answered"), "from the second");
        second.drain(PATIENCE).await;
    }
}

#[tokio::test]
async fn calls_of_other_replicas_continue() {
    let bus = bus().await;
    let client = bus.client().await;
    let nodes = [serve(&bus, Mode::Replica).await, serve(&bus, Mode::Replica).await];
    let calls: Vec<_> = (0..8).map(|_| calling(&of(&client))).collect();
    let begun = |number: usize| nodes[number].1.load(Ordering::SeqCst);
    until("all have begun", async || begun(0) + begun(1) == 8).await;
    let (lost, stays) = (begun(0), begun(1));
    assert!(lost > 0 && stays > 0, "{lost} and {stays}");
    let [(first, _), second] = nodes;
    drop(first);
    let ended = || calls.iter().filter(|call| call.is_finished()).count();
    until("those of the lost one have ended", async || ended() == lost).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ended(), lost, "those of the other go on");
    drop(second);
    until("all have ended", async || ended() == 8).await;
}

#[tokio::test]
async fn a_node_that_ends_in_order_finishes_its_calls() {
    let bus = bus().await;
    let (node, client) = (bus.node().await, bus.client().await);
    let slow = Run(|_| async {
        sleep(Duration::from_secs(2)).await;
        Answer::value(&"done")
    });
    node.serve("endless", slow).await.expect("served");
    let call = calling(&of(&client));
    sleep(Duration::from_millis(500)).await;
    node.drain(PATIENCE).await;
    assert_eq!(call.await.expect("no panic").expect("answered"), "done");
}

/// Streams may have no end, and calls may take longer than a node waits when it shuts down.
#[tokio::test]
async fn calls_that_outlast_their_node_fail_with_its_end() {
    let bus = bus().await;
    let client = bus.client().await;
    let (node, begun) = serve(&bus, Mode::Exclusive).await;
    let call = calling(&of(&client));
    has_begun(&begun, 1).await;
    let draining = tokio::spawn(async move { node.drain(Duration::from_secs(1)).await });
    let fault = fault_soon(call).await;
    assert_eq!((fault.code, fault.maybe_executed()), (Code::LOST_OBJECT, true), "{fault:?}");
    draining.await.expect("no panic");
}

/// The event `accepted` tells a caller which node to follow.
#[tokio::test]
async fn a_call_that_waits_is_accepted_once_and_a_quick_one_is_not() {
    let bus = bus().await;
    let (node, client) = (bus.node().await, bus.client().await);
    let waits = Run(|call: Call| async move {
        let Params::One { value, .. } = call.params else { unreachable!("one number") };
        let ms = value.as_u64().expect("one number");
        sleep(Duration::from_millis(ms)).await;
        Answer::value(&ms)
    });
    node.serve("waits", waits).await.expect("served");
    let filter = format!("{}/event/waits/accepted/{}", bus.root, client.id());
    let mut events = client.subscribe(vec![Filter::new(filter)]).await.expect("granted");
    let object = client.object("waits");
    for ms in [0_u64, 1, 1_000] {
        assert_eq!(object.call::<u64>("run", ms).await.expect("answered"), ms);
    }
    let event = timeout(PATIENCE, events.next()).await.expect("in time").expect("it lives");
    let accepted = Accepted::read(&event.payload).expect("an event of the contract");
    assert_eq!(accepted.node, *node.name());
    assert_eq!(event.properties.correlation.as_deref().map(<[u8]>::len), Some(16));
    // A broker may send it once for each matching filter of the client; no other call may cause it.
    while let Some(again) = events.try_next() {
        assert_eq!(again.properties.correlation, event.properties.correlation);
    }
}

/// Creates a link of a chain that forwards everything to the object `next`.
fn link_to(next: &'static str) -> impl rantai_client::object::Object {
    Run(move |_: Call| async move {
        Ok(Answer::Forward(Forward {
            to: ObjectName::new(next).expect("a name"),
            method: MethodName::new("run").expect("a name"),
            params: Vec::new(),
            hop: json!({"node": "link"}),
        }))
    })
}

/// Regression: the caller followed the link that it had called, which was not lost.
#[tokio::test]
async fn trip_fails_when_a_link_is_lost_before_it_accepted() {
    let bus = bus().await;
    let client = bus.client().await;
    let first = bus.node().await;
    first.serve("first", link_to("endless")).await.expect("served");
    // The first link does not know the next one yet; later it does.
    for wait in [500, 0, 0, 100] {
        let (node, begun) = serve(&bus, Mode::Exclusive).await;
        let call = calling(&client.object("first").deadline(PATIENCE * 5));
        has_begun(&begun, 1).await;
        sleep(Duration::from_millis(wait)).await;
        let name = node.name().to_string();
        let lost = Instant::now();
        drop(node);
        let fault = fault_soon(call).await;
        assert_eq!((fault.code, fault.maybe_executed()), (Code::LOST_OBJECT, true), "{wait}: {fault:?}");
        assert_eq!(fault.data["node"], *name);
        eprintln!("told after {:?}", lost.elapsed());
    }
}

/// As in the test above, but another link already had the call.
#[tokio::test]
async fn trip_continues_when_a_link_is_lost_after_forwarding() {
    let bus = bus().await;
    let client = bus.client().await;
    let (link, second, third) = (bus.node().await, bus.node().await, bus.node().await);
    link.serve("first", link_to("second")).await.expect("served");
    second.serve("second", link_to("third")).await.expect("served");
    let begun = Begun::default();
    let counted = begun.clone();
    let slow = Run(move |_| {
        let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            sleep(Duration::from_secs(if is_first { 1 } else { 3 })).await;
            Answer::value(&"from the third")
        }
    });
    third.serve("third", slow).await.expect("served");
    let first = client.object("first").deadline(PATIENCE * 5);
    assert_eq!(first.call::<String>("run", ()).await.expect("answered"), "from the third");
    let call = calling(&first);
    has_begun(&begun, 2).await;
    drop(second);
    assert_eq!(call.await.expect("no panic").expect("answered"), "from the third");
}
