//! Streams whose callers lose their connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rantai_client::wire::entry::Mode;
use rantai_client::wire::fault::Code;
use rantai_client::wire::name::ClientId;
use rantai_client::{Client, Items};
use rantai_nodes::{Node, ServeOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::streams::{CounterObject, CounterProxy, Made, counter, nothing_is_left, proxy};
use super::support::{Bus, PATIENCE, bus};
use super::users::{CALLING, SERVING};

/// Longer than a third of the deadline of these calls, after which a caller sends `rpc.more` anyway.
const SOON: Duration = Duration::from_secs(8);

/// Starts a relay in front of the broker, whose connections are cut at each notification.
async fn relay(bus: &Bus) -> (u16, Arc<Notify>) {
    let (port, cut, _) = deafening_relay(bus).await;
    (port, cut)
}

/// Starts a relay that forwards nothing from the broker while the returned flag is set, as if its client were stopped.
async fn deafening_relay(bus: &Bus) -> (u16, Arc<Notify>, Arc<AtomicBool>) {
    let deaf = Arc::new(AtomicBool::new(false));
    let is_deaf = deaf.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // The relay forwards the bytes of any transport.
    let (place, cut) = (bus.place.bare(), Arc::new(Notify::new()));
    let told = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (server, cut) = (place.open().await.expect("the broker is there"), cut.clone());
            let deaf = is_deaf.clone();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = tokio::io::split(server);
                let back = async {
                    let mut bytes = vec![0; 1 << 16];
                    while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                        if !deaf.load(Ordering::SeqCst) && to_client.write_all(&bytes[..count]).await.is_err()
                        {
                            break;
                        }
                    }
                };
                tokio::select! {
                    _ = copy(&mut from_client, &mut to_server) => {}
                    () = back => {}
                    () = cut.notified() => {}
                }
            });
        }
    });
    (port, told, deaf)
}

#[tokio::test]
async fn stream_resumes_after_its_callers_connection_was_lost() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let (port, cut) = relay(&bus).await;
    let builder = Client::builder(bus.through(port, CALLING)).root(bus.root.clone());
    let client = builder.connect().await.expect("a client");
    let mut items = proxy(&client).count(1_000_000).await.expect("a stream");
    for expected in 0..1_000_000_u64 {
        if expected % 200_000 == 100_000 {
            cut.notify_waiters();
        }
        assert_eq!(items.next().await.expect("another").expect("a number"), expected);
    }
    assert!(items.next().await.is_none());
    nothing_is_left(&node, &client, &made).await;
}

/// Connects a client through a relay; notifying the returned handle cuts its connection.
async fn cuttable(bus: &Bus) -> (Client, Arc<Notify>) {
    let (port, cut) = relay(bus).await;
    let builder = Client::builder(bus.through(port, CALLING)).root(bus.root.clone());
    (builder.connect().await.expect("a client"), cut)
}

/// Regression: the node had sent everything, and forgotten the stream.
#[tokio::test]
async fn stream_that_ended_while_its_caller_was_offline_is_retransmitted() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let (client, cut) = cuttable(&bus).await;
    for (to, pause) in [(20, 5), (20, 0), (200, 1), (2_000, 0)] {
        let mut items = proxy(&client).slowly(to, pause).await.expect("a stream");
        for expected in 0..to {
            if expected == 3 {
                cut.notify_waiters();
            }
            let item = items.next().await.expect("another");
            assert_eq!(item.expect("a number"), expected, "of {to} at {pause} ms");
        }
        assert!(items.next().await.is_none());
    }
    nothing_is_left(&node, &client, &made).await;
}

/// The caller keeps its connection, and notices that the node is lost before the node is back.
#[tokio::test]
async fn stream_resumes_after_its_nodes_connection_was_lost() {
    let bus = bus().await;
    let (port, cut) = relay(&bus).await;
    let builder = Node::builder(bus.through(port, SERVING)).root(bus.root.clone());
    let (node, made) = (builder.connect().await.expect("a node"), Made::default());
    node.serve("counter", CounterObject(made.clone())).await.expect("served");
    let client = bus.client().await;
    let counter = CounterProxy::from(client.object("counter").deadline(Duration::from_secs(6)));
    for (to, pause) in [(20_000, 0), (100, 20)] {
        let mut items = counter.slowly(to, pause).await.expect("a stream");
        for expected in 0..to {
            if expected == to / 2 || expected == to - 5 {
                cut.notify_waiters();
            }
            let item = items.next().await.expect("another");
            assert_eq!(item.expect("a number"), expected, "of {to} at {pause} ms");
        }
        assert!(items.next().await.is_none());
    }
    nothing_is_left(&node, &client, &made).await;
}

/// Regression: a request that was sent again was attached to the running stream, and did not get its first items.
#[tokio::test]
async fn stream_restarts_if_its_caller_was_cut_off_before_the_first_item() {
    let bus = bus().await;
    let (node, made) = counter(&bus).await;
    let (client, cut) = cuttable(&bus).await;
    for pause in [0, 1, 2, 5, 20] {
        let counter = CounterProxy::from(client.object("counter").deadline(PATIENCE));
        let opened = tokio::spawn(async move { counter.slowly(50, 2).await });
        sleep(Duration::from_millis(pause)).await;
        cut.notify_waiters();
        let mut items = opened.await.expect("no panic").expect("a stream");
        for expected in 0..50 {
            assert_eq!(
                items.next().await.expect("another").expect("a number"),
                expected,
                "cut after {pause} ms"
            );
        }
        assert!(items.next().await.is_none());
    }
    nothing_is_left(&node, &client, &made).await;
}

/// Cuts the caller's connection, so that it requests missing items again, and the broker sends the request to a node
/// that never reads it.
async fn cut_while_the_node_is_deaf(items: &mut Items<u64>, cut: &Notify, deaf: &AtomicBool) {
    deaf.store(true, Ordering::SeqCst);
    cut.notify_waiters();
    // The caller has a new connection, and has sent the request there.
    let asked = timeout(Duration::from_secs(2), async {
        while let Some(item) = items.next().await {
            item.expect("made before the cut");
        }
    });
    asked.await.expect_err("the stream goes on");
}

/// Regression: the request for the missing items was lost with the node's connection, and the caller waited forever.
#[tokio::test]
async fn stream_resumes_after_the_request_for_missing_items_was_lost() {
    let bus = bus().await;
    let (port, cut_node, deaf) = deafening_relay(&bus).await;
    let builder = Node::builder(bus.through(port, SERVING)).root(bus.root.clone());
    let node = builder.connect().await.expect("a node");
    node.serve("counter", CounterObject(Made::default())).await.expect("served");
    let (client, cut) = cuttable(&bus).await;
    // All items are in transit or made before the request is repeated, so that no later item reveals that some are
    // missing.
    let mut items = proxy(&client).slowly(50, 5).await.expect("a stream");
    assert_eq!(items.next().await.expect("another").expect("a number"), 0);
    cut_while_the_node_is_deaf(&mut items, &cut, &deaf).await;
    deaf.store(false, Ordering::SeqCst);
    cut_node.notify_waiters();
    let rest = timeout(SOON, async {
        while let Some(item) = items.next().await {
            item.expect("another");
        }
    });
    rest.await.expect("it ends");
}

/// As in the test above, but the node is restarted: the stream is lost with it, and its registry entry looks as before.
#[tokio::test]
async fn stream_fails_if_its_node_restarted_before_reading_the_request() {
    let bus = bus().await;
    let (port, cut_node, deaf) = deafening_relay(&bus).await;
    let start = async || {
        let builder = Node::builder(bus.through(port, SERVING)).root(bus.root.clone());
        let node = builder.name(ClientId::new("again").expect("a name")).connect().await.expect("a node");
        let options = ServeOptions { mode: Mode::Replica, ..ServeOptions::default() };
        node.serve_with("counter", Arc::new(CounterObject(Made::default())), options).await.expect("served");
        node
    };
    let node = start().await;
    let (client, cut) = cuttable(&bus).await;
    let mut items = proxy(&client).slowly(1_000_000, 5).await.expect("a stream");
    assert_eq!(items.next().await.expect("another").expect("a number"), 0);
    cut_while_the_node_is_deaf(&mut items, &cut, &deaf).await;
    drop(node);
    cut_node.notify_waiters();
    deaf.store(false, Ordering::SeqCst);
    let _node = start().await;
    let end = timeout(SOON, async {
        loop {
            if let Err(error) = items.next().await.expect("no end without an error") {
                return error;
            }
        }
    });
    let fault = end.await.expect("it ends").fault().expect("with a code").clone();
    assert_eq!((fault.code, fault.maybe_executed()), (Code::LOST_OBJECT, true), "{fault:?}");
}
