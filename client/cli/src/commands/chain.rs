//! `rantai chain`: a trip through a chain, from one of its links to the link that ends it.

use rantai_client::session::Filter;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::Root;
use rantai_client::wire::topic::EventTopic;
use rantai_client::{CallError, Client, Content, Subscription};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::connection::{Connection, log, note, print, print_json, run};
use crate::exit::{EXIT_CODES, Exit, Failure};
use crate::prompt::ask;

const EXAMPLES: &str = "\
Examples:
  rantai chain example.chainTopology.bandung subang      the trip ends at subang
  rantai chain example.chainTopology.bandung             asks for the stop
  rantai chain example.chainTopology.bandung '' --trace  prints every hop as it happens
";

/// Send a trip through a chain.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Chain {
    /// The object the trip enters at
    #[arg(value_name = "ENTRY")]
    entry: String,
    /// The name of the link it ends at; any other text goes all the way round. Asked for when it is left out
    #[arg(value_name = "STOP")]
    stop: Option<String>,
    /// The question
    #[arg(long, value_name = "TEXT", default_value = "Kota Awal ? ")]
    prompt: String,
    /// Print every hop as it happens
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Hop of a trip, as reported by its link.
#[derive(Clone, Debug)]
struct Hop {
    node: String,
    next: Option<String>,
    us: u64,
}

impl Chain {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        let stop = match &self.stop {
            Some(stop) => stop.clone(),
            None => ask(&self.prompt, "STOP")?,
        };
        run(self.travel(stop))
    }

    async fn travel(self, stop: String) -> Result<(), Failure> {
        let root = self.connection.broker.root()?;
        let client = self.connection.client().await?;
        let identity = Uuid::now_v7();
        // Subscribed before the trip begins, as its first hop would be missed otherwise.
        let mut hops = Trip::follow(&client, &root, identity).await;
        let call = client
            .object(&self.entry)
            .deadline(self.connection.timeout())
            .request("process")
            .identity(identity)
            .params((json!([stop]),))
            .send();
        tokio::pin!(call);
        let mut seen: Vec<Hop> = Vec::new();
        let result = loop {
            tokio::select! {
                result = &mut call => break result,
                hop = hops.next() => self.passed(&mut seen, hop),
            }
        };
        while let Some(hop) = hops.waiting() {
            self.passed(&mut seen, hop);
        }
        client.close().await;
        match result {
            Ok(response) => match response.outcome {
                Ok(Content::Value(value)) => {
                    self.show(&value);
                    Ok(())
                }
                Ok(Content::Binary(_)) => Err(Failure::new(Exit::Failed, "the result is binary")),
                Err(fault) => Err(self.failed(&CallError::Fault(fault))),
            },
            Err(error) => Err(self.failed(&lost(error, seen.last()))),
        }
    }

    fn passed(&self, seen: &mut Vec<Hop>, hop: Hop) {
        if self.trace {
            match &hop.next {
                Some(next) => note(&format!("{} -> {next}  ({} us)", hop.node, hop.us)),
                None => note(&format!("{} ends it  ({} us)", hop.node, hop.us)),
            }
        }
        seen.push(hop);
    }

    fn failed(&self, error: &CallError) -> Failure {
        self.connection.failed(error)
    }

    fn show(&self, value: &Value) {
        match value.as_array().filter(|_| !self.connection.json) {
            Some(items) => items.iter().for_each(|item| print(item.as_str().unwrap_or(&item.to_string()))),
            None => print_json(value),
        }
    }
}

/// Adds the last hop seen to the error of a trip that timed out.
fn lost(error: CallError, last: Option<&Hop>) -> CallError {
    match (error, last) {
        (CallError::Fault(fault), Some(Hop { node, next, .. })) if fault.code == Code::TIMED_OUT => {
            let text = match next {
                Some(next) => {
                    format!("no answer in time; the trip was last seen on its way from {node} to {next}")
                }
                None => format!("no answer in time, although {node} ended the trip"),
            };
            Fault::new(Code::TIMED_OUT, text).with("hop", next.clone()).into()
        }
        (error, _) => error,
    }
}

/// Subscription to the hops of one trip.
struct Trip {
    events: Option<Subscription>,
    root: Root,
    identity: Uuid,
}

impl Trip {
    /// Subscribes to the hops; if the broker refuses the subscription, the trip is made without them.
    async fn follow(client: &Client, root: &Root, identity: Uuid) -> Self {
        let filter = Filter::new(EventTopic::every(root, "hop")).live();
        let events = client.subscribe(vec![filter]).await.ok();
        Self { events, root: root.clone(), identity }
    }

    async fn next(&mut self) -> Hop {
        while let Some(events) = &mut self.events
            && let Some(message) = events.next().await
        {
            if let Some(hop) = hop(&self.root, self.identity, &message) {
                return hop;
            }
        }
        std::future::pending().await
    }

    fn waiting(&mut self) -> Option<Hop> {
        while let Some(message) = self.events.as_mut()?.try_next() {
            if let Some(hop) = hop(&self.root, self.identity, &message) {
                return Some(hop);
            }
        }
        None
    }
}

fn hop(root: &Root, identity: Uuid, message: &rantai_client::session::Message) -> Option<Hop> {
    EventTopic::parse(root, &message.topic)?;
    if message.properties.correlation.as_deref() != Some(identity.as_bytes()) {
        return None;
    }
    let value: Value = serde_json::from_slice(&message.payload).ok()?;
    Some(Hop {
        node: value["node"].as_str()?.to_owned(),
        next: value["next"].as_str().map(ToOwned::to_owned),
        us: value["us"].as_u64().unwrap_or_default(),
    })
}
