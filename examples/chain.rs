//! A chain: each object passes the call on to the next one, and the last one answers the caller.
//!
//! Nobody waits on the way: a link publishes the request to the next link, with the caller's reply topic, and is done.
//!
//! `cargo run -p rantai --example chain`

use std::sync::Arc;

use rantai::broker::Config;
use rantai::client::object::{
    Answer, Answering, Arguments, Call, Description, Forward, Method, Parameter, no_such_method,
};
use rantai::client::wire::name::MethodName;
use rantai::{Broker, Client, Code, Node, Object, ObjectName};
use serde_json::json;

/// A stop of a journey. Passing a call on is more than an `#[interface]` says, so this implements the trait under it: an object
/// describes itself and answers calls.
struct Stop {
    name: &'static str,
    /// The next stop; `None` at the end of the line.
    next: Option<&'static str>,
}

impl Object for Stop {
    fn description(&self) -> Description {
        let travel = Method {
            name: "travel".to_owned(),
            summary: "Goes to the end of the line, and returns the stops.".to_owned(),
            params: vec![Parameter { name: "stops".to_owned(), ..Parameter::default() }],
            result: Some(json!({"type": "array", "items": {"type": "string"}})),
            idempotent: true,
            ..Method::default()
        };
        Description { summary: "A stop".to_owned(), methods: vec![travel], ..Description::default() }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        Box::pin(async move {
            if call.method.as_str() != "travel" {
                return Err(no_such_method(call.method.as_str(), &["travel"]));
            }
            let mut arguments = Arguments::new(call.params, &["stops"])?;
            let mut stops: Vec<String> = arguments.take_optional()?.unwrap_or_default();
            stops.push(self.name.to_owned());
            let Some(next) = self.next else { return Answer::value(&stops) };
            Ok(Answer::Forward(Forward {
                to: ObjectName::new(next).expect("a name"),
                method: MethodName::new("travel").expect("a name"),
                params: vec![json!(stops)],
                // Becomes part of the trail of the call, which bounds how often it is passed on.
                hop: json!({"node": self.name}),
            }))
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);

    // Each stop on a node of its own, as if on three machines.
    let mut nodes = Vec::new();
    for (name, next) in [("bandung", Some("lembang")), ("lembang", Some("subang")), ("subang", None)] {
        let node = Node::connect(&address).await?;
        node.serve(name, Stop { name, next }).await?;
        nodes.push(node);
    }

    let client = Client::connect(&address).await?;
    let stops: Vec<String> = client.object("bandung").call("travel", ()).await?;
    assert_eq!(stops, ["bandung", "lembang", "subang"]);
    println!("{}", stops.join(" -> "));

    // Who answered says the reply.
    let response = client.object("bandung").request("travel").send().await?;
    assert_eq!(response.node.as_deref(), Some(nodes[2].name().as_str()));

    // A chain with a missing link fails at once, and says which link it is.
    let stop = ObjectName::new("subang")?;
    nodes[2].withdraw(&stop, std::time::Duration::ZERO).await;
    let error = client.object("bandung").call::<Vec<String>>("travel", ()).await.expect_err("no end");
    let fault = error.fault().expect("an error with data");
    assert_eq!((fault.code, &fault.data["hop"]), (Code::DEAD_HOP, &json!("subang")));
    println!("without its end: {error}");
    Ok(())
}
