//! A service: an object with an interface, served on the bus, described by itself and withdrawn in order.
//!
//! `cargo run -p rantai --example service`

use std::time::Duration;

use rantai::broker::Config;
use rantai::{Broker, Client, Code, Fault, Node, interface};
use serde_json::{Value, json};

// The interface is a trait. Its doc comments are what the object says of itself on the bus, and the types of parameters and
// results become JSON schemas. The attribute also generates `CalculatorObject`, which serves what implements the trait, and
// `CalculatorProxy`, which calls it (see client.rs).
/// Arithmetic on two numbers.
#[interface(version = "1.0.0", tags("math"))]
pub trait Calculator {
    /// The sum of `a` and `b`.
    #[method(read_only)]
    async fn add(&self, a: f64, b: f64) -> Result<f64, Fault>;

    /// `a` divided by `b`; fails with kind `division_by_zero`.
    #[method(read_only)]
    async fn div(&self, a: f64, b: f64) -> Result<f64, Fault>;
}

struct Exact;

impl Calculator for Exact {
    async fn add(&self, a: f64, b: f64) -> Result<f64, Fault> {
        Ok(a + b)
    }

    async fn div(&self, a: f64, b: f64) -> Result<f64, Fault> {
        if b == 0.0 {
            // The kind is for programs, the text for people.
            return Err(Fault::failed("division_by_zero", "b is 0"));
        }
        Ok(a / b)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A broker within this program, on a free port of this machine. With `rantai up` or mosquitto running, the address would be
    // "mqtt://localhost".
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);

    // A node is a connection that serves objects. `serve` returns once callers can find the object by its name.
    let node = Node::connect(&address).await?;
    node.serve("calculator", CalculatorObject(Exact)).await?;
    println!("serving calculator on node {}", node.name());

    // Any client may call it, knowing no more than the name: parameters and results are JSON.
    let client = Client::connect(&address).await?;
    let calculator = client.object("calculator");
    let sum: Value = calculator.call("add", (2, 3)).await?;
    assert_eq!(sum, json!(5));
    println!("2 + 3 = {sum}");

    let error = calculator.call::<f64>("div", (1, 0)).await.expect_err("a division by zero");
    let fault = error.fault().expect("the object's own error");
    assert_eq!((fault.code, &fault.data["kind"]), (Code::FAILED, &json!("division_by_zero")));
    println!("1 / 0: {error}");

    // Parameters are checked before the method sees them.
    let error = calculator.call::<f64>("add", ("two", 3)).await.expect_err("a wrong parameter");
    assert_eq!(error.code(), Some(Code::WRONG_PARAMETERS));
    println!("\"two\" + 3: {error}");

    // Every object describes itself, as an OpenRPC document.
    let description: Value = calculator.call("rpc.discover", ()).await?;
    assert_eq!(description["info"]["description"], "Arithmetic on two numbers.");
    assert_eq!(description["methods"][0]["summary"], "The sum of `a` and `b`.");
    assert_eq!(description["methods"][0]["params"][1]["name"], "b");

    // Ends the node in order: running calls may finish, and the registry forgets the object.
    node.drain(Duration::from_secs(5)).await;
    let error = calculator.call::<f64>("add", (2, 3)).await.expect_err("a call of nobody");
    assert_eq!(error.code(), Some(Code::UNKNOWN_OBJECT));
    println!("after the node has ended: {error}");
    Ok(())
}
