//! The background task of an object runs on the node that holds its name, and on no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rantai_broker::Config;
use rantai_client::object::{Emitter, Unasked};
use rantai_client::session::Filter;
use rantai_nodes::{Node, ServeOptions};
use rantai_systems::echo::{EchoObject, Plain};

use super::support::{PATIENCE, again, embedded, until};

/// Number of starts, and number of running tasks.
#[derive(Clone, Default)]
struct Counted {
    begun: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Counted {
    fn object(&self) -> Unasked<EchoObject<Plain>> {
        let counted = self.clone();
        Unasked::new(EchoObject(Plain), move |emitter| counted.clone().go_on(emitter))
    }

    async fn go_on(self, emitter: Emitter) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(self.running);
        emitter.emit("alive", &true).expect("a name and a value");
        std::future::pending::<()>().await;
    }

    fn is(&self, begun: usize, running: usize) -> bool {
        (self.begun.load(Ordering::SeqCst), self.running.load(Ordering::SeqCst)) == (begun, running)
    }
}

async fn take_over(node: &Node, counted: &Counted) {
    let options = ServeOptions { replace: true, ..ServeOptions::default() };
    node.serve_with("echo", Arc::new(counted.object()), options).await.expect("it is given up");
}

#[tokio::test]
async fn background_task_follows_the_name_and_restarts_with_the_connection() {
    let mut bus = embedded(Config::on_free_port()).await;
    let client = bus.client().await;
    let events = Filter::new(format!("{}/event/echo/alive", bus.root));
    let mut events = client.subscribe(vec![events]).await.expect("granted");
    let (first, second) = (Counted::default(), Counted::default());
    let (one, two) = (bus.node().await, bus.node().await);
    one.serve("echo", first.object()).await.expect("free");
    until("it has begun", async || first.is(1, 1)).await;
    assert_eq!(&*events.next().await.expect("an event").payload, b"true");
    assert_eq!(client.object("echo").call::<String>("echo", "x").await.expect("it answers too"), "x");
    take_over(&two, &second).await;
    until("one is over and two has begun", async || first.is(1, 0) && second.is(1, 1)).await;
    bus.broker.take().expect("ours").shutdown().await;
    until("nothing is done without a connection", async || second.is(1, 0)).await;
    let _broker = again(&bus).await;
    until("one of them has it again", async || first.is(2, 1) != second.is(2, 1)).await;
    one.drain(PATIENCE).await;
    two.drain(PATIENCE).await;
    until("nothing is done after the end", async || {
        first.running.load(Ordering::SeqCst) + second.running.load(Ordering::SeqCst) == 0
    })
    .await;
}
