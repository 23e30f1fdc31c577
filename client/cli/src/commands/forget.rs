//! `rantai forget`: removes the retained messages of a node that is gone permanently.

use std::collections::BTreeSet;
use std::time::Duration;

use rantai_client::registry::BROKER_NODE;
use rantai_client::session::{Filter, Publish, Unsent};
use rantai_client::wire::entry::{NodeState, State};
use rantai_client::wire::name::{ClientId, ObjectName};
use rantai_client::wire::topic::{EventTopic, RegistryTopic};
use rantai_client::{CallError, Client, Response};
use serde_json::json;
use tokio::time::timeout;

use crate::connection::{Connection, log, note, print_json, run};
use crate::exit::{Exit, Failure};
use crate::terminal::print;

/// Time without a further retained message after which all have arrived.
const QUIET: Duration = Duration::from_millis(300);
/// Time limit for a node to answer a ping, as for the holder of a name.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum number of objects by which a node is pinged.
const MAX_OBJECTS_PINGED: usize = 3;

const EXAMPLES: &str = "\
Examples:
  rantai forget lamp-1              what a device without power has left: entries, claims, states and events it retained
  rantai forget lamp-1 --force      also where it answers; a node that is there publishes its entries again

Only admins may do this, and the user whose node it is.

Exit codes: 0 all of it is cleared, 1 the node is there, or something is left, 2 wrong command line, 3 no broker, \
4 not allowed, 5 it has left nothing.";

/// Clear what a node that is gone has left on the bus
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Forget {
    /// The node, as `rantai ls` shows it
    #[arg(value_name = "NODE")]
    node: String,
    /// Clear it also if the node answers
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Retained messages of a node.
struct NodeTraces {
    /// Topics of its entries, of the retained events of its objects, and of its state, in this order.
    topics: Vec<String>,
    objects: Vec<ObjectName>,
    state: Option<NodeState>,
    /// Whether the user may not read the events of its objects.
    hides_events: bool,
}

impl Forget {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.forget())
    }

    async fn forget(self) -> Result<(), Failure> {
        let node = ClientId::new(&self.node).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        let client = self.connection.client().await?;
        let left = self.connection.within(self.left(&client, &node)).await?;
        if left.topics.is_empty() {
            let text = format!("node {node} has left nothing on {}", self.connection.broker.shown());
            return Err(Failure::new(Exit::NotFound, text));
        }
        if !self.force
            && let Some(object) = answering(&client, &node, &left).await
        {
            let text = format!(
                "node {node} is there: it answers as {object}; stop it first, or clear what it has with --force"
            );
            return Err(Failure::new(Exit::Failed, text));
        }
        let mut writer = client.clone();
        for topic in &left.topics {
            let mut cleared = self.connection.within(self.clear(&writer, topic)).await;
            if cleared.as_ref().is_err_and(|denied| denied.is(Exit::Denied)) && writer.id() != &node {
                // Access rules allow a node's topics to its own client id, which only its user may use.
                match self.connected_as(&node).await {
                    Ok(own) => writer = own,
                    Err(_) => return cleared,
                }
                cleared = self.connection.within(self.clear(&writer, topic)).await;
            }
            cleared?;
        }
        if writer.id() == &node {
            writer.close().await;
        }
        // A broker may refuse silently, and a running node repairs its entries.
        let rest = self.connection.within(self.left(&client, &node)).await?.topics;
        client.close().await;
        if self.connection.json {
            print_json(&json!({"node": node.as_str(), "cleared": left.topics, "left": rest}));
        } else {
            left.topics.iter().filter(|topic| !rest.contains(topic)).for_each(|topic| print(topic));
        }
        if left.hides_events {
            note(
                "retained events of its objects are left, which this user may not read: an admin can clear them",
            );
        }
        if rest.is_empty() {
            note(&format!("node {node} is forgotten"));
            return Ok(());
        }
        let text = format!(
            "{} is there again: the node publishes it, or the broker did not allow it to be cleared; stop the node, and \
             log in as an admin",
            rest.join(", ")
        );
        Err(if self.connection.json {
            Failure::new(Exit::Failed, text).shown()
        } else {
            Failure::new(Exit::Failed, text)
        })
    }

    /// Connects with the client id of the node.
    async fn connected_as(&self, node: &ClientId) -> Result<Client, Failure> {
        let broker = &self.connection.broker;
        let builder = Client::builder(broker.address()?).root(broker.root()?).client_id(node.clone());
        self.connection.within(async { Ok(builder.connect().await?) }).await
    }

    /// Reads the retained messages of the node, and of the objects that have entries of no other node.
    async fn left(&self, client: &Client, node: &ClientId) -> Result<NodeTraces, Failure> {
        let root = client.root();
        let state_topic = RegistryTopic::Node(node.clone()).format(root);
        let own =
            self.retained(client, vec![RegistryTopic::entries_on(root, node), state_topic.clone()]).await?;
        let mut left =
            NodeTraces { topics: Vec::new(), objects: Vec::new(), state: None, hides_events: false };
        let mut states = Vec::new();
        for (topic, payload) in own {
            if let Some(RegistryTopic::Name(object, _)) = RegistryTopic::parse(root, &topic) {
                left.topics.push(topic);
                left.objects.push(object);
            } else {
                left.state = NodeState::read(&payload).ok();
                states.push(topic);
            }
        }
        let filters = left.objects.iter().map(|object| RegistryTopic::entries_of(root, object)).collect();
        let all = if left.objects.is_empty() { Vec::new() } else { self.retained(client, filters).await? };
        let shared: BTreeSet<ObjectName> = all
            .into_iter()
            .filter_map(|(topic, _)| match RegistryTopic::parse(root, &topic)? {
                RegistryTopic::Name(object, other) if other != *node => Some(object),
                _ => None,
            })
            .collect();
        let only: Vec<&ObjectName> = left.objects.iter().filter(|object| !shared.contains(object)).collect();
        if !only.is_empty() {
            let filters =
                only.iter().map(|object| EventTopic::filters(root, object, None)[0].clone()).collect();
            match self.retained(client, filters).await {
                Ok(events) => left.topics.extend(events.into_iter().map(|(topic, _)| topic)),
                // A user of the role `node` removes its own messages; only an admin sees other retained messages.
                Err(failure) if failure.is(Exit::Denied) => left.hides_events = true,
                Err(failure) => return Err(failure),
            }
        }
        left.topics.extend(states);
        Ok(left)
    }

    /// Reads the retained messages of these filters, sorted by topic.
    async fn retained(
        &self,
        client: &Client,
        filters: Vec<String>,
    ) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let filters = filters.into_iter().map(Filter::new).collect();
        let subscribed = client.subscribe(filters).await;
        let mut messages = subscribed.map_err(|error| self.connection.failed(&error))?;
        let mut found = Vec::new();
        while let Ok(Some(message)) = timeout(QUIET, messages.next()).await {
            if message.retain && !message.payload.is_empty() {
                found.push((message.topic.to_string(), message.payload.to_vec()));
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn clear(&self, client: &Client, topic: &str) -> Result<(), Failure> {
        match client.publish(Publish::new(topic.to_owned(), Vec::new()).retain()).await {
            Ok(()) | Err(Unsent::NobodyThere) => Ok(()),
            Err(Unsent::Denied { why }) => {
                let text = format!(
                    "cannot clear {topic}: only admins and the user whose node it is may do this: {why}"
                );
                Err(Failure::new(Exit::Denied, text))
            }
            Err(error) => Err(Failure::from_error(Exit::Failed, &error).and_then_say(&format!(" ({topic})"))),
        }
    }
}

/// Returns the name of an object by which the node answers. A node that is lost, or has no state, is not pinged.
async fn answering(client: &Client, node: &ClientId, left: &NodeTraces) -> Option<String> {
    if left.state.as_ref().is_none_or(|state| state.state == State::Lost) {
        return None;
    }
    let is_node = |answered: Result<Response, CallError>| {
        answered.is_ok_and(|response| match response.node.as_deref() {
            // Devices may leave the property `node` out.
            None => true,
            Some(other) => other != BROKER_NODE && other == node.as_str(),
        })
    };
    let mut names: Vec<&str> = left.objects.iter().map(ObjectName::as_str).take(MAX_OBJECTS_PINGED).collect();
    if names.is_empty() {
        // A node without objects answers a request for any name with an error.
        names.push("node");
    }
    for name in names {
        let ping = client.object(name).deadline(PING_TIMEOUT);
        // A device does not serve `at`; an error counts as an answer too.
        let (at, call) = (ping.clone().at(node.clone()).request("rpc.ping"), ping.request("rpc.ping"));
        let (at, call) = tokio::join!(at.send(), call.send());
        if is_node(at) || is_node(call) {
            return Some(name.to_owned());
        }
    }
    None
}
