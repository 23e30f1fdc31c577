//! A program that serves one object: `cargo run -p rantai-nodes --example greeter -- mqtt://localhost`.

use rantai_client::interface;
use rantai_client::wire::fault::Fault;
use rantai_nodes::Node;

/// Greets people.
#[interface(version = "1.0.0")]
pub trait Greeter {
    /// A greeting for `name`.
    #[method(idempotent)]
    async fn greet(&self, name: String) -> Result<String, Fault>;
}

struct Polite;

impl Greeter for Polite {
    async fn greet(&self, name: String) -> Result<String, Fault> {
        Ok(format!("Halo, {name}!"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://localhost".to_owned());
    let node = Node::connect(&url).await?;
    node.serve("greeter", GreeterObject(Polite)).await?;
    println!("serving greeter on node {}", node.name());
    std::future::pending::<()>().await;
    Ok(())
}
