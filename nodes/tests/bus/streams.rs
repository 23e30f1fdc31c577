//! Streamed results.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream;
use rantai_client::object::Stream;
use rantai_client::session::{Publish, QoS};
use rantai_client::wire::Properties;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{CallError, Client, Opened, interface};
use rantai_nodes::Node;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::support::{Bus, PATIENCE, bus, until};

/// Object with streams of numbers and texts.
#[interface]
pub(crate) trait Counter {
    /// Streams the numbers below `to`, which may be very large.
    #[method(read_only)]
    async fn count(&self, to: u64) -> Result<impl Stream<Item = u64>, Fault>;

    /// Streams texts of this length, with this interval in milliseconds.
    async fn texts(&self, bytes: usize, pause: u64) -> Result<impl Stream<Item = String>, Fault>;

    /// Streams this many numbers, and then an error.
    async fn fails(&self, after: u64) -> Result<impl Stream<Item = Result<u64, Fault>>, Fault>;

    /// Streams the numbers below `to`, with this interval in milliseconds.
    #[method(read_only)]
    async fn slowly(&self, to: u64, pause: u64) -> Result<impl Stream<Item = u64>, Fault>;

    /// Returns one number.
    async fn one(&self) -> Result<u64, Fault>;
}

/// Number of items made, and number of running streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    items: Arc<AtomicU64>,
    streams: Arc<AtomicUsize>,
}

struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Made {
    fn guard(&self) -> Guard {
        self.streams.fetch_add(1, Ordering::SeqCst);
        Guard(self.streams.clone())
    }

    fn items(&self) -> u64 {
        self.items.load(Ordering::SeqCst)
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}

impl Counter for Made {
    async fn count(&self, to: u64) -> Result<impl Stream<Item = u64>, Fault> {
        if to == 13 {
            return Err(Fault::failed("unlucky", "not to 13"));
        }
        let (made, guard) = (self.items.clone(), self.guard());
        Ok(stream::iter((0..to).inspect(move |_| {
            let _ = &guard;
            made.fetch_add(1, Ordering::SeqCst);
        })))
    }

    async fn texts(&self, bytes: usize, pause: u64) -> Result<impl Stream<Item = String>, Fault> {
        let (made, guard) = (self.items.clone(), self.guard());
        Ok(stream::unfold(guard, move |guard| {
            let made = made.clone();
            async move {
                sleep(Duration::from_millis(pause)).await;
                made.fetch_add(1, Ordering::SeqCst);
                Some(("x".repeat(bytes), guard))
            }
        }))
    }

    async fn fails(&self, after: u64) -> Result<impl Stream<Item = Result<u64, Fault>>, Fault> {
        let items = (0..after).map(Ok).chain([Err(Fault::failed("over", "no more")), Ok(7)]);
        Ok(stream::iter(items))
    }

    async fn slowly(&self, to: u64, pause: u64) -> Result<impl Stream<Item = u64>, Fault> {
        let guard = self.guard();
        Ok(stream::unfold((0, guard), move |(next, guard)| async move {
            if next == to {
                return None;
            }
            sleep(Duration::from_millis(pause)).await;
            Some((next, (next + 1, guard)))
        }))
    }

    async fn one(&self) -> Result<u64, Fault> {
        Ok(1)
    }
}

pub(crate) async fn counter(bus: &Bus) -> (Node, Made) {
    let (node, made) = (bus.node().await, Made::default());
    node.serve("counter", CounterObject(made.clone())).await.expect("served");
    (node, made)
}

pub(crate) fn proxy(client: &Client) -> CounterProxy {
    CounterProxy::from(client.object("counter").deadline(PATIENCE))
}

/// Waits until neither the node nor the client has any state of a stream left.
pub(crate) async fn nothing_is_left(node: &Node, client: &Client, made: &Made) {
    until("no stream is left", async || made.streams() == 0 && node.objects()[0].running() == 0).await;
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn items_arrive_completely_in_order() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let client = bus.client().await;
    for to in [0, 1, 2, 100_000] {
        let mut items = proxy(&client).count(to).await.expect("a stream");
        for expected in 0..to {
            assert_eq!(items.next().await.expect("another").expect("a number"), expected);
        }
        assert!(items.next().await.is_none() && items.next().await.is_none(), "{to}");
    }
    nothing_is_left(&node, &client, &made).await;
}

#[tokio::test]
async fn call_without_a_stream_gets_one_list_within_the_limit() {
    let bus = bus().await;
    let (_node, _) = counter(&bus).await;
    let client = bus.client().await;
    let object = client.object("counter");
    assert_eq!(object.call::<Vec<u64>>("count", 3).await.expect("a list"), [0, 1, 2]);
    let fault = object.call::<Value>("count", u64::MAX >> 12).await.expect_err("too many");
    let fault = fault.fault().expect("a fault").clone();
    assert!(fault.code == Code::TOO_LARGE && fault.message.contains("ask for a stream"), "{fault}");
    let document: Value = object.call("rpc.discover", ()).await.expect("a description");
    let method = &document["methods"][0];
    assert_eq!((&method["x-stream"], &method["result"]["schema"]["type"]), (&json!(true), &json!("array")));
}

#[tokio::test]
async fn stream_request_to_an_ordinary_method_gets_an_ordinary_reply() {
    let bus = bus().await;
    let (_node, _) = counter(&bus).await;
    let client = bus.client().await;
    let object = client.object("counter");
    match object.request("one").open().await.expect("an answer") {
        Opened::Whole(response) => assert_eq!(response.read::<u64>().expect("a number"), 1),
        Opened::Items(_) => panic!("one number"),
    }
    let error = object.request("one").stream::<u64>().await.expect_err("no list");
    assert!(matches!(error, CallError::Result(_)), "{error:?}");
    let error = object.request("nope").stream::<u64>().await.expect_err("no such method");
    assert_eq!(error.code(), Some(Code::NO_SUCH_METHOD));
    let error = client.object("nobody").request("x").stream::<u64>().await.expect_err("nobody");
    assert_eq!(error.code(), Some(Code::UNKNOWN_OBJECT));
}

#[tokio::test]
async fn errors_are_returned_before_the_first_item_and_after_the_last() {
    let bus = bus().await;
    let (_node, _) = counter(&bus).await;
    let client = bus.client().await;
    let fault = proxy(&client).count(13).await.expect_err("before the first");
    assert_eq!(fault.fault().expect("a fault").data["kind"], "unlucky");
    for after in [0, 1, 30_000] {
        let mut items = match proxy(&client).fails(after).await {
            Ok(items) => items,
            Err(error) => {
                assert_eq!((after, &error.fault().expect("a fault").data["kind"]), (0, &json!("over")));
                continue;
            }
        };
        for expected in 0..after {
            assert_eq!(items.next().await.expect("another").expect("a number"), expected);
        }
        let error = items.next().await.expect("the error").expect_err("no number");
        assert_eq!(error.fault().expect("a fault").data["kind"], "over");
        assert!(items.next().await.is_none());
    }
}

#[tokio::test]
async fn slow_reader_slows_the_object_down() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let client = bus.client().await;
    let mut items = proxy(&client).texts(1_000, 0).await.expect("a stream");
    items.next().await.expect("another").expect("a text");
    // On a busy machine it may take a while until the object has to wait.
    loop {
        let early = made.items();
        sleep(Duration::from_secs(1)).await;
        // Bounded by the window, the part after it, and the items that wait for the next part.
        assert!(made.items() < 400, "{} of 1,000 bytes, and nobody takes any", made.items());
        if early > 100 && made.items() == early {
            break;
        }
    }
    for _ in 0..2_000 {
        items.next().await.expect("another").expect("a text");
    }
    assert!(made.items() > 2_000);
    drop(items);
    nothing_is_left(&node, &client, &made).await;
}

#[tokio::test]
async fn hundred_dropped_streams_leave_no_state() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let client = bus.client().await;
    let mut streams = Vec::new();
    for number in 0..100 {
        let mut items = proxy(&client).texts(1_000, number % 3).await.expect("a stream");
        items.next().await.expect("another").expect("a text");
        streams.push(items);
    }
    assert_eq!(made.streams(), 100);
    drop(streams);
    nothing_is_left(&node, &client, &made).await;
}

#[tokio::test]
async fn stream_without_items_ends_normally() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let client = bus.client().await;
    let quiet = CounterProxy::from(client.object("counter").deadline(Duration::from_secs(2)));
    let hour = 3_600_000;
    let mut items = timeout(PATIENCE, quiet.texts(1, hour)).await.expect("at once").expect("a stream");
    // Longer than the deadline of the call, while the caller waits for an item.
    assert!(timeout(Duration::from_secs(5), items.next()).await.is_err(), "no item");
    assert_eq!(made.streams(), 1);
    // The caller reads nothing for longer than the deadline, so the node ends the stream and reports that.
    until("the node has given it up", async || made.streams() == 0).await;
    let error = timeout(PATIENCE, items.next()).await.expect("told").expect("an error").expect_err("no item");
    assert!(matches!(error.code(), Some(Code::TIMED_OUT | Code::MISMATCH | Code::LOST_OBJECT)), "{error:?}");
    drop(items);
    nothing_is_left(&node, &client, &made).await;
}

/// Regression: one message made a node send a megabyte, and many of them kept it from accepting other calls.
#[tokio::test]
async fn repeated_retransmission_requests_do_not_block_other_calls() {
    let bus = bus().await;
    let (node, _) = counter(&bus).await;
    let (client, greedy) = (bus.client().await, bus.client().await);
    let reply_to = format!("{}/reply/counter/{}", bus.root, greedy.id());
    let properties = |user: &[(&str, &str)]| Properties {
        response_topic: Some(reply_to.clone().into()),
        correlation: Some(vec![7; 16].into()),
        expiry: Some(60),
        user: user.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Properties::default()
    };
    let asked = |method: &str, payload: &str, user: &[(&str, &str)]| {
        let topic = format!("{}/at/{}/counter/{method}", bus.root, node.name());
        Publish::new(topic, payload.to_owned()).properties(properties(user))
    };
    greedy.publish(asked("texts", "[100000,0]", &[("stream", "1048576")])).await.expect("taken");
    let one = client.object("counter").deadline(PATIENCE);
    for _ in 0..40 {
        for _ in 0..5 {
            greedy.publish(asked("rpc.more", "[0,1048576,true]", &[])).await.expect("taken");
        }
        assert_eq!(one.call::<u64>("one", ()).await.expect("an answer to each"), 1);
    }
}

#[tokio::test]
async fn stream_request_to_all_instances_returns_lists() {
    let bus = bus().await;
    let (_node, _) = counter(&bus).await;
    let client = bus.client().await;
    let object = client.object("counter").deadline(Duration::from_secs(2));
    let all = object.request("count").params(3).property("stream", "100000").all().await.expect("sent");
    let [response] = <[_; 1]>::try_from(all).expect("one instance");
    assert_eq!(response.read::<Vec<u64>>().expect("a list"), [0, 1, 2]);
}

/// Also if replies need a grant, which expires with the request.
#[tokio::test]
async fn a_stream_lasts_longer_than_the_deadline_of_its_call() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let client = bus.client().await;
    let slow = CounterProxy::from(client.object("counter").deadline(Duration::from_secs(2)));
    let mut items = slow.texts(10, 700).await.expect("a stream");
    for _ in 0..10 {
        items.next().await.expect("another").expect("a text");
    }
    drop(items);
    nothing_is_left(&node, &client, &made).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_node() {
    let bus = bus().await;
    let (node, _) = counter(&bus).await;
    let client = bus.client().await;
    let mut items = proxy(&client).texts(10, 100).await.expect("a stream");
    for _ in 0..6 {
        items.next().await.expect("another").expect("a text");
    }
    drop(node);
    let error = timeout(PATIENCE, async {
        loop {
            if let Err(error) = items.next().await.expect("an error at the end") {
                return error;
            }
        }
    });
    let error = error.await.expect("soon");
    let fault = error.fault().expect("a fault");
    assert_eq!((fault.code, fault.maybe_executed()), (Code::LOST_OBJECT, true), "{fault:?}");
    assert!(items.next().await.is_none());
}

#[tokio::test]
async fn endless_stream_does_not_delay_the_shutdown_of_its_node() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let client = bus.client().await;
    let mut items = proxy(&client).texts(10, 100).await.expect("a stream");
    items.next().await.expect("another").expect("a text");
    let draining = tokio::spawn(async move { node.drain(PATIENCE * 5).await });
    let error = loop {
        if let Err(error) = items.next().await.expect("an error at the end") {
            break error;
        }
    };
    assert_eq!(error.code(), Some(Code::LOST_OBJECT), "{error:?}");
    timeout(PATIENCE, draining).await.expect("soon").expect("no panic");
    assert_eq!(made.streams(), 0);
}

#[tokio::test]
async fn stream_works_on_a_named_node_and_at_qos_0() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let client = bus.client().await;
    let object = client.object("counter").at(node.name().clone()).qos(QoS::AtMostOnce);
    let mut items = object.request("count").params(50_000).stream::<u64>().await.expect("a stream");
    for expected in 0..50_000 {
        assert_eq!(items.next().await.expect("another").expect("a number"), expected);
    }
    nothing_is_left(&node, &client, &made).await;
}
