//! Cancelling: a caller that gives up ends the method at the node, with everything that it waits for.
//!
//! `cargo run -p rantai --example cancel`

use std::time::Duration;

use rantai::broker::Config;
use rantai::{Broker, Client, Code, Context, Fault, Node, interface};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Work that takes as long as it takes.
#[interface]
pub trait Work {
    /// Does not end by itself.
    async fn endless(&self, context: Context) -> Result<(), Fault>;
}

/// Tells what becomes of the calls.
struct Worker {
    events: mpsc::UnboundedSender<&'static str>,
}

/// Is dropped with the future of the method.
struct Running(mpsc::UnboundedSender<&'static str>);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.send("method dropped");
    }
}

impl Work for Worker {
    async fn endless(&self, context: Context) -> Result<(), Fault> {
        let _ = self.events.send("method started");
        let _running = Running(self.events.clone());
        // Work that does not end with the method's future, such as a task or a thread, has to ask.
        let events = self.events.clone();
        tokio::spawn(async move {
            context.cancelled().await;
            let _ = events.send("task told");
        });
        std::future::pending().await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let node = Node::connect(&address).await?;
    let (sender, mut events) = mpsc::unbounded_channel();
    node.serve("work", WorkObject(Worker { events: sender })).await?;
    let mut next = async || timeout(Duration::from_secs(10), events.recv()).await.ok().flatten();

    let client = Client::connect(&address).await?;
    let work = WorkProxy::new(&client, "work");

    // Dropping the future of a call cancels it, whatever drops it: `select!`, a timeout, or the end of a task.
    let call = tokio::spawn(async move { work.endless().await });
    assert_eq!(next().await, Some("method started"));
    call.abort();
    let mut ended = [next().await, next().await];
    ended.sort_unstable();
    assert_eq!(ended, [Some("method dropped"), Some("task told")]);
    println!("given up: {ended:?}");

    // So does the time limit of a call.
    let hurried = WorkProxy::from(client.object("work").deadline(Duration::from_millis(300)));
    let error = hurried.endless().await.expect_err("a time limit");
    assert_eq!(error.code(), Some(Code::TIMED_OUT));
    assert_eq!(next().await, Some("method started"));
    let mut ended = [next().await, next().await];
    ended.sort_unstable();
    assert_eq!(ended, [Some("method dropped"), Some("task told")]);
    println!("{error}: {ended:?}");
    Ok(())
}
