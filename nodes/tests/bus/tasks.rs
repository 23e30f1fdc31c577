//! The ledger of tasks, with nodes that come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rantai_client::Client;
use rantai_client::object::{Answer, Answering, Call, Description, Method, Object};
use rantai_client::session::Filter;
use rantai_client::wire::entry::Mode;
use rantai_client::wire::name::ClientId;
use rantai_nodes::{Node, ServeOptions};
use rantai_systems::echo::{EchoObject, Plain};
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::options::Options;
use rantai_tasks::task::State;
use rantai_tasks::{Ledger, Limits};
use serde_json::{Value, json};

use super::support::{Bus, PATIENCE, bus, until};

/// Object with one method marked `once`, which does not end.
#[derive(Clone, Default)]
struct Stuck {
    begun: Arc<AtomicUsize>,
}

impl Object for Stuck {
    fn description(&self) -> Description {
        let method = Method { name: "stick".to_owned(), once: true, ..Method::default() };
        Description { methods: vec![method], ..Description::default() }
    }

    fn call(self: Arc<Self>, _: Call) -> Answering {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }
}

async fn serve_ledger(bus: &Bus) -> Node {
    let ledger = Ledger::open(None, Limits::default()).expect("in memory");
    let client = Client::builder(bus.address.clone()).root(bus.root.clone());
    let node = bus.node().await;
    node.serve("tasks", ledger.start(client).await.expect("a ledger")).await.expect("free");
    node
}

#[tokio::test]
async fn task_waiting_for_its_node_does_not_block_others() {
    let bus = bus().await;
    let _ledger = serve_ledger(&bus).await;
    let client = bus.admin().await;
    let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    let replica = || ServeOptions { mode: Mode::Replica, ..ServeOptions::default() };
    let stuck = Stuck::default();
    let one = bus.node().await;
    one.serve_with("stuck", Arc::new(stuck.clone()), replica()).await.expect("served");
    let urgent = Options { priority: 9, ..Options::default() };
    let id = tasks.submit("stuck".into(), "stick".into(), None, Some(urgent)).await.expect("stored");
    until("it has begun", async || stuck.begun.load(Ordering::SeqCst) == 1).await;
    let two = bus.node().await;
    two.serve_with("stuck", Arc::new(stuck.clone()), replica()).await.expect("served");
    two.serve("echo", EchoObject(Plain)).await.expect("served");
    let asked = Filter::new(format!("{}/call/stuck/rpc.discover", bus.root));
    let mut asked = client.subscribe(vec![asked]).await.expect("granted");
    drop(one);
    asked.next().await.expect("whether it may be begun anew");
    let other = tasks.submit("echo".into(), "echo".into(), Some(json!(["x"])), None).await.expect("stored");
    let other = tasks.result(other, Some(5_000)).await.expect("known");
    assert_eq!((other.state, other.result), (State::Succeeded, Some(Value::from("x"))));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut more = 0;
    while asked.try_next().is_some() {
        more += 1;
    }
    assert!(more < 5, "the same is asked {more} times more");
    let task = tasks.get(id).await.expect("known");
    assert_eq!((task.state, task.runs, stuck.begun.load(Ordering::SeqCst)), (State::Running, 1, 1));
}

/// Number of runs in progress.
#[derive(Clone, Default)]
struct Going {
    now: Arc<AtomicUsize>,
}

struct Gone(Arc<AtomicUsize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Object for Going {
    fn description(&self) -> Description {
        let methods = vec![Method { name: "go".to_owned(), ..Method::default() }];
        Description { methods, ..Description::default() }
    }

    fn call(self: Arc<Self>, _: Call) -> Answering {
        self.now.fetch_add(1, Ordering::SeqCst);
        let gone = Gone(self.now.clone());
        Box::pin(async move {
            let _gone = gone;
            std::future::pending().await
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn task_cancelled_at_its_start_is_stopped() {
    let bus = bus().await;
    let _ledger = serve_ledger(&bus).await;
    let client = bus.client().await;
    let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    let (worker, going) = (bus.node().await, Going::default());
    worker.serve("going", going.clone()).await.expect("served");
    for number in 0..300 {
        let id = tasks.submit("going".into(), "go".into(), None, None).await.expect("stored");
        // At a different moment each time.
        let until = std::time::Instant::now() + Duration::from_micros(number % 30 * 20);
        while std::time::Instant::now() < until {
            tokio::task::yield_now().await;
        }
        assert!(tasks.cancel(id).await.expect("known"));
    }
    until("every run was told to stop", async || going.now.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn ledger_continues_after_its_connection_was_taken_over() {
    let bus = bus().await;
    let _ledger = serve_ledger(&bus).await;
    let client = bus.admin().await;
    let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    let worker = bus.node().await;
    worker.serve("echo", EchoObject(Plain)).await.expect("served");
    let calls = Filter::new(format!("{}/at/+/echo/echo", bus.root));
    let mut calls = client.subscribe(vec![calls]).await.expect("granted");
    let echo = async |text: &str| {
        let params = Some(json!([text]));
        tasks.submit("echo".into(), "echo".into(), params, None).await.expect("stored")
    };
    echo("x").await;
    let call = calls.next().await.expect("a call");
    let reply_to = call.properties.response_topic.expect("where the answer goes");
    let name = reply_to.rsplit('/').next().and_then(|name| ClientId::new(name).ok()).expect("its name");
    let builder = Client::builder(bus.address.clone()).root(bus.root.clone()).client_id(name);
    let thief = builder.connect().await.expect("taken over");
    let waiting = echo("y").await;
    thief.close().await;
    let task = tasks.result(waiting, Some(10_000)).await.expect("known");
    assert_eq!((task.state, task.result), (State::Succeeded, Some(Value::from("y"))));
}

/// Object that draws a password.
pub(super) struct Draws;

impl Object for Draws {
    fn description(&self) -> Description {
        let method = Method { name: "draw".to_owned(), secret: true, ..Method::default() };
        Description { methods: vec![method], ..Description::default() }
    }

    fn call(self: Arc<Self>, _: Call) -> Answering {
        Box::pin(std::future::ready(Ok(Answer::Value(json!({"password": "correct-horse"})))))
    }
}

/// Regression: a CHAP secret stayed readable in the ledger for a day.
#[tokio::test]
async fn secret_result_is_returned_once_and_never_on_disk() {
    let (bus, folder) = (bus().await, tempfile::tempdir().expect("a directory"));
    let file = folder.path().join("tasks.redb");
    let ledger = Ledger::open(Some(&file), Limits::default()).expect("a ledger");
    let client = Client::builder(bus.address.clone()).root(bus.root.clone());
    let node = bus.node().await;
    node.serve("tasks", ledger.start(client).await.expect("a ledger")).await.expect("free");
    node.serve("draws", Draws).await.expect("free");
    let client = bus.client().await;
    let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    let id = tasks.submit("draws".into(), "draw".into(), None, None).await.expect("stored");
    let first = tasks.result(id.clone(), Some(10_000)).await.expect("known");
    assert_eq!((first.state, first.secret), (State::Succeeded, true));
    assert_eq!(first.result, Some(json!({"password": "correct-horse"})));
    let again = tasks.get(id).await.expect("known");
    assert_eq!((again.state, again.secret, again.result), (State::Succeeded, true, None));
    let kept = std::fs::read(&file).expect("the file of the ledger");
    assert!(!kept.windows(13).any(|window| window == b"correct-horse"), "it is on disk");
    let direct = client.object("draws").request("draw").send().await.expect("an answer");
    assert!(direct.secret, "the reply itself says so");
}
