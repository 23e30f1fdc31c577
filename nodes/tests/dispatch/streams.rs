//! Streams, as far as they depend on the send queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use rantai_client::object::{Answering, Call, Description, Method, Object};
use rantai_client::wire::name::ObjectName;
use rantai_nodes::dispatch::{Limits, Served};
use tokio::task::yield_now;

use super::{Room, message, room};

const ITEMS: usize = 200;

/// Object that streams texts of 100 bytes, and counts the items that it has made.
struct Counting(Arc<AtomicUsize>);

impl Object for Counting {
    fn description(&self) -> Description {
        let method = Method { name: "texts".to_owned(), ..Method::default() };
        Description { methods: vec![method], ..Description::default() }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        Box::pin(async move {
            let text = |_| {
                self.0.fetch_add(1, Ordering::Relaxed);
                "x".repeat(100)
            };
            call.context.stream(stream::iter((0..ITEMS).map(text))).await
        })
    }
}

/// Begins a stream while the send queue is not written; also returns the number of items made.
fn streaming() -> (Room, Arc<AtomicUsize>) {
    let room = room(Limits::default());
    let made = Arc::<AtomicUsize>::default();
    let name = ObjectName::new("counting").expect("a name");
    let counting = Arc::new(Counting(made.clone()));
    assert!(room.dispatcher.add(Served::new(name, counting, Limits::default())));
    room.outside.backlog.store(1_000, Ordering::Relaxed);
    let mut request = message("rantai/call/counting/texts", "", &[("stream", "1000000")]);
    request.properties.correlation = Some(Bytes::from_static(&[7; 16]));
    room.dispatcher.message(&request);
    (room, made)
}

/// Regression: the first item of a stream arrived only after 200 had been made.
#[tokio::test(start_paused = true)]
async fn next_items_are_made_when_the_first_part_is_written() {
    let (room, made) = streaming();
    let made = || made.load(Ordering::Relaxed);
    let sent = || room.outside.said.lock().len();
    for _ in 0..20 {
        yield_now().await;
        assert_eq!((sent(), made()), (1, 10), "nine items are the first part");
    }
    room.outside.backlog.store(0, Ordering::Relaxed);
    while sent() < 2 {
        yield_now().await;
    }
    assert_eq!(made(), 29, "the second part has nineteen");
    while made() < ITEMS {
        yield_now().await;
    }
}

/// A send queue that never becomes empty does not hold a stream back for long.
#[tokio::test(start_paused = true)]
async fn stream_continues_though_the_send_queue_is_never_empty() {
    let (_room, made) = streaming();
    for _ in 0..200 {
        yield_now().await;
    }
    assert_eq!(made.load(Ordering::Relaxed), ITEMS);
}
