//! At most once: a request that is repeated, even after the node was restarted, is not executed again.
//!
//! `cargo run -p rantai --example once`

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rantai::broker::Config;
use rantai::{Broker, Client, ClientId, Code, Fault, Node, NodeError, Response, interface};
use uuid::Uuid;

/// A shop.
#[interface]
pub trait Shop {
    /// Buys a book, and returns the number of the order. Marked `once`: the node writes down what it was asked before it begins,
    /// and what it answered.
    #[method(once)]
    async fn buy(&self, title: String) -> Result<u32, Fault>;
}

#[derive(Clone, Default)]
struct Bookshop {
    orders: Arc<AtomicU32>,
}

impl Shop for Bookshop {
    async fn buy(&self, _: String) -> Result<u32, Fault> {
        Ok(self.orders.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// Serves the shop on a node that keeps its journal in this file.
async fn open(address: &str, journal: &Path, shop: &Bookshop) -> Result<Node, Box<dyn std::error::Error>> {
    let node = loop {
        let builder = Node::builder(address.parse()?).name(ClientId::new("bookshop")?);
        match builder.journal(journal.to_owned()).connect().await {
            // The node before has not closed the file yet.
            Err(NodeError::Journal { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
            node => break node?,
        }
    };
    node.serve("shop", ShopObject(shop.clone())).await?;
    Ok(node)
}

async fn buy(client: &Client, order: Uuid, title: &str) -> Result<Response, rantai::CallError> {
    client.object("shop").request("buy").params((title,)).identity(order).send().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let (folder, shop) = (tempfile::tempdir()?, Bookshop::default());
    let journal = folder.path().join("once.redb");
    let node = open(&address, &journal, &shop).await?;

    // Every request has an identity. Who may have to repeat one, such as after a crash of its own, chooses it and keeps it.
    let client = Client::connect(&address).await?;
    let order = Uuid::now_v7();
    let first = buy(&client, order, "Laskar Pelangi").await?;
    assert!(!first.repeated);
    assert_eq!(first.read::<u32>()?, 1);

    // The node is restarted, and the client does not know whether its request was executed: it sends it again.
    node.drain(Duration::from_secs(5)).await;
    drop(node);
    let _node = open(&address, &journal, &shop).await?;
    let again = buy(&client, order, "Laskar Pelangi").await?;
    assert!(again.repeated, "the answer is the stored one");
    assert_eq!(again.read::<u32>()?, 1);
    assert_eq!(shop.orders.load(Ordering::SeqCst), 1);
    println!("asked twice, bought once");

    // The identity belongs to that request.
    let error = buy(&client, order, "Bumi Manusia").await?.read::<u32>().expect_err("another request");
    assert_eq!(error.code(), Some(Code::IDENTITY_REUSED));
    println!("another book for the same order: {error}");

    // Calls by a proxy get a new one each.
    assert_eq!(ShopProxy::new(&client, "shop").buy("Bumi Manusia".to_owned()).await?, 2);
    Ok(())
}
