//! `rantai watch`: prints an object's events as they arrive.

use rantai_client::Client;
use rantai_client::session::{Filter, Status};
use rantai_client::wire::json::read;
use rantai_client::wire::name::{ClientId, MethodName, ObjectName};
use rantai_client::wire::topic::EventTopic;
use serde_json::{Value, json};

use crate::completing;
use crate::connection::{Broker, log, note, print, print_json, run};
use crate::exit::{Exit, Failure};
use crate::signals::interrupted;

const EXAMPLES: &str = "\
Examples:
  rantai watch example.chainTopology.bandung          all its events, until Ctrl-C
  rantai watch example.chainTopology.bandung hop      one of them
  rantai up --config telemetry                        serves sister:
  rantai watch sister temp --count 1                  the present value of a state, and end

Exit codes: 0 ended by Ctrl-C or --count, 2 wrong command line, 3 no broker, 4 not allowed.";

/// Follow the events of an object.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Watch {
    /// The object
    #[arg(value_name = "OBJECT", value_parser = ObjectName::any, add = completing::objects())]
    object: ObjectName,
    /// One event instead of all
    #[arg(value_name = "EVENT")]
    event: Option<MethodName>,
    /// End after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

impl Watch {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::WARN);
        run(self.watch())
    }

    async fn watch(self) -> Result<(), Failure> {
        let root = self.broker.root()?;
        let client = Client::builder(self.broker.address()?).root(root.clone()).connect().await?;
        let filters = EventTopic::filters(&root, &self.object, self.event.as_ref());
        let mut events = client
            .subscribe(filters.into_iter().map(Filter::new).collect())
            .await
            .map_err(|error| Failure::from_call(&error, &self.broker.shown()))?;
        if let Some(doubt) = self.doubt(&client).await {
            note(&doubt);
        }
        let interrupted = interrupted().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        tokio::pin!(interrupted);
        note(&format!("watching {}", self.object));
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let message = tokio::select! {
                message = events.next() => message,
                () = &mut interrupted => break,
            };
            let Some(message) = message else {
                let reason = match &*client.status().borrow() {
                    Status::Ended(reason) => reason.clone(),
                    _ => "the connection has ended".to_owned(),
                };
                return Err(Failure::new(Exit::Unreachable, reason));
            };
            let Some(topic) = EventTopic::parse(&root, &message.topic) else { continue };
            left -= 1;
            self.show(&topic, &message.payload);
        }
        client.close().await;
        Ok(())
    }

    /// Returns a warning if the object, or its event, is not in the registry; it may be served later.
    async fn doubt(&self, client: &Client) -> Option<String> {
        let view = client.registry().list().await.ok()?;
        let object = self.object.as_str();
        let meant = |similar: &[&str]| match similar {
            [] => String::new(),
            similar => format!("; did you mean {}?", similar.join(" or ")),
        };
        let Some((entry, _)) = view.all().find(|(entry, _)| entry.object == object) else {
            let meant = meant(&view.did_you_mean(object));
            return Some(format!("no object {object:?} on {} yet{meant}", self.broker.shown()));
        };
        let event = self.event.as_ref()?.as_str();
        // The entry of a simple device may list neither methods nor events.
        let lists_nothing = entry.events.is_empty() && entry.methods.is_empty();
        if lists_nothing || entry.events.iter().any(|known| known == event) {
            return None;
        }
        let events = if entry.events.is_empty() { "none".to_owned() } else { entry.events.join(", ") };
        Some(format!("{object} has no event {event:?}; it has {events}"))
    }

    fn show(&self, topic: &EventTopic, payload: &[u8]) {
        let value =
            read(payload).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(payload).into_owned()));
        let client = topic.client.as_ref().map(ClientId::as_str);
        if self.json {
            let line = json!({"object": topic.object.as_str(), "event": topic.event.as_str(), "client": client, "value": value});
            print_json(&line);
        } else {
            let to = client.map(|client| format!(" to {client}")).unwrap_or_default();
            print(&format!("{}{to} {value}", topic.event));
        }
    }
}
