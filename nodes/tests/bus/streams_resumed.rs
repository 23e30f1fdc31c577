//! Streams whose callers lose their connections.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::Client;
use rantai_nodes::Node;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::streams::{CounterObject, CounterProxy, Made, counter, nothing_is_left, proxy};
use super::support::{Bus, PATIENCE, bus};
use super::users::{CALLING, SERVING};

/// A relay before the broker, whose connections are cut whenever that is wished.
async fn relay(bus: &Bus) -> (u16, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // It passes on the bytes of whatever transport it is.
    let (place, cut) = (bus.place.bare(), Arc::new(Notify::new()));
    let told = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (mut server, cut) = (place.open().await.expect("the broker is there"), cut.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    () = cut.notified() => {}
                }
            });
        }
    });
    (port, told)
}

#[tokio::test]
async fn a_stream_goes_on_where_its_callers_connection_was_lost() {
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

/// A client behind a relay, and what cuts its connection.
async fn cuttable(bus: &Bus) -> (Client, Arc<Notify>) {
    let (port, cut) = relay(bus).await;
    let builder = Client::builder(bus.through(port, CALLING)).root(bus.root.clone());
    (builder.connect().await.expect("a client"), cut)
}

/// The node had sent everything, and forgotten it.
#[tokio::test]
async fn a_stream_that_ends_while_its_caller_has_no_connection_is_sent_again() {
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

/// Its caller keeps its connection, and hears that the node is lost before it is back.
#[tokio::test]
async fn a_stream_goes_on_where_its_nodes_connection_was_lost() {
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

/// A request that was sent again attached to the running stream, and did not get its first items.
#[tokio::test]
async fn a_stream_whose_caller_was_cut_off_before_its_first_item_begins_again() {
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
