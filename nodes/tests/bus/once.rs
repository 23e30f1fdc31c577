//! Methods marked `once` are executed once, whatever happens between a request and its repeat.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rantai_client::object::{Answer, Call, Description, Method, Object};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::ClientId;
use rantai_client::{Client, Response};
use rantai_nodes::{Node, NodeError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::{Bus, PATIENCE, bus, until};

/// Object that counts executions of its methods, of which some never end.
#[derive(Clone, Default)]
struct Ledger {
    begun: Arc<AtomicUsize>,
}

impl Object for Ledger {
    fn description(&self) -> Description {
        let method = |name: &str, once| Method { name: name.to_owned(), once, ..Method::default() };
        Description { methods: vec![method("lend", true), method("stick", true)], ..Description::default() }
    }

    fn call(self: Arc<Self>, call: Call) -> rantai_client::object::Answering {
        Box::pin(async move {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            match call.method.as_str() {
                "stick" => std::future::pending().await,
                _ if call.params == rantai_client::wire::request::Params::None => {
                    Err(Fault::failed("no_book", "which book?"))
                }
                _ => Ok(Answer::Value(json!(number))),
            }
        })
    }
}

async fn node(bus: &Bus, name: &ClientId, journal: &Path, ledger: &Ledger) -> Node {
    let builder = Node::builder(bus.address.clone()).root(bus.root.clone()).name(name.clone());
    let node = builder.journal(journal.to_owned()).connect().await.expect("a node");
    node.serve("ledger", ledger.clone()).await.expect("served");
    node
}

async fn lend(client: &Client, identity: Uuid, method: &str, book: &str) -> Response {
    let ledger = client.object("ledger").deadline(Duration::from_secs(2));
    let mut request = ledger.request(method).identity(identity);
    if !book.is_empty() {
        request = request.payload(book.to_owned());
    }
    until_sent(request).await
}

async fn until_sent(request: rantai_client::Request) -> Response {
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn repeat_after_a_restart_gets_the_recorded_result() {
    let bus = bus().await;
    let directory = tempfile::tempdir().expect("a directory");
    let journal = directory.path().join("once.redb");
    let (ledger, name) = (Ledger::default(), rantai_client::client::random_id("pi"));
    let client = bus.client().await;
    let (first, failed, new) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let before = node(&bus, &name, &journal, &ledger).await;
    let response = lend(&client, first, "lend", "Dune").await;
    assert!(!response.repeated);
    assert_eq!(response.read::<usize>().expect("a number"), 1);
    assert!(lend(&client, failed, "lend", "").await.read::<Value>().is_err());
    drop(before);

    let after = loop {
        // The file is unlocked when the last task of the previous node ends.
        let builder = Node::builder(bus.address.clone()).root(bus.root.clone()).name(name.clone());
        match builder.journal(journal.clone()).connect().await {
            Ok(node) => break node,
            Err(NodeError::Journal { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    };
    after.serve("ledger", ledger.clone()).await.expect("served");
    let response = lend(&client, first, "lend", "Dune").await;
    assert!(response.repeated, "it says that it is the answer of then");
    assert_eq!(response.read::<usize>().expect("a number"), 1);
    let response = lend(&client, failed, "lend", "").await;
    assert!(response.repeated);
    let error = response.read::<Value>().expect_err("it failed then");
    assert_eq!(error.fault().expect("its own").data["kind"], "no_book");
    let error = lend(&client, first, "lend", "Emma").await.read::<Value>().expect_err("another book");
    assert_eq!(error.code(), Some(Code::IDENTITY_REUSED));
    assert_eq!(lend(&client, new, "lend", "Dune").await.read::<usize>().expect("a number"), 3);
    assert_eq!(ledger.begun.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn once_call_interrupted_by_the_nodes_end_is_not_executed_again() {
    let bus = bus().await;
    let directory = tempfile::tempdir().expect("a directory");
    let journal = directory.path().join("once.redb");
    let (ledger, name) = (Ledger::default(), rantai_client::client::random_id("pi"));
    let client = bus.client().await;
    let identity = Uuid::now_v7();
    let before = node(&bus, &name, &journal, &ledger).await;
    let object = client.object("ledger").deadline(PATIENCE);
    let stuck =
        tokio::spawn(async move { object.request("stick").identity(identity).payload("Dune").send().await });
    until("it has begun", async || ledger.begun.load(Ordering::SeqCst) == 1).await;
    // State after a crash: a copy of the file during the call.
    let left = directory.path().join("left.redb");
    std::fs::copy(&journal, &left).expect("copied");
    drop(before);
    stuck.abort();
    let _after = node(&bus, &name, &left, &ledger).await;
    let response = lend(&client, identity, "stick", "Dune").await;
    let error = response.read::<Value>().expect_err("nobody knows");
    assert_eq!(error.fault().expect("a fault").data["kind"], "outcome_unknown");
    assert_eq!(ledger.begun.load(Ordering::SeqCst), 1, "not a second time");
}

#[tokio::test]
async fn requests_without_an_identity_are_each_executed() {
    let bus = bus().await;
    let node = bus.node().await;
    let ledger = Ledger::default();
    node.serve("ledger", ledger.clone()).await.expect("served");
    let client = bus.client().await;
    let topic = format!("{}/call/ledger/lend", bus.root);
    for _ in 0..3 {
        client.publish(rantai_client::session::Publish::new(&*topic, "Dune")).await.expect("taken");
    }
    until("each was carried out", async || ledger.begun.load(Ordering::SeqCst) == 3).await;
}
