//! Registry entries of the examined object, and of an object that the examiner plays.

use std::collections::HashMap;
use std::time::Duration;

use rantai_client::client::random_id;
use rantai_client::session::{Filter, Publish, Session, Unsent, Will};
use rantai_client::wire::entry::{NodeState, State};
use rantai_client::wire::name::{ClientId, ObjectName, Root};
use rantai_client::wire::topic::{RegistryTopic, call_filters};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::error::ExamineError;
use crate::wire::Wire;

/// Time limit for an object to be served: more than a claim takes.
const SERVED_WITHIN: Duration = Duration::from_secs(5);
/// Form of an entry whose object understands requests in JSON-RPC form only.
const JSON_RPC: &str = "json-rpc";

/// Examined object.
pub(crate) struct Served {
    pub(crate) node: ClientId,
    /// Whether it understands requests in JSON-RPC form only.
    pub(crate) json_rpc: bool,
    pub(crate) epoch: String,
}

/// Waits until a node serves the object.
pub(crate) async fn served(
    wire: &mut Wire,
    root: &Root,
    object: &ObjectName,
    wanted: Option<&ClientId>,
) -> Result<Served, ExamineError> {
    let (entries, nodes) = (RegistryTopic::entries_of(root, object), RegistryTopic::nodes(root));
    wire.subscribe(vec![Filter::new(entries.clone()), Filter::new(nodes.clone())]).await?;
    let (mut found, mut states) = (HashMap::new(), HashMap::new());
    let limit = Instant::now() + SERVED_WITHIN;
    let is_ready = |entry: &Value, state: Option<&Value>| {
        entry["settled"] == true
            && state.is_some_and(|state| state["state"] == "ready" && state["epoch"] == entry["epoch"])
    };
    loop {
        let left = limit.saturating_duration_since(Instant::now());
        // Retained messages arrive at once, so that the entries are complete after this time.
        let quiet = Duration::from_millis(200).min(left);
        let message = wire.next(quiet).await;
        if let Some(message) = message {
            let value: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            match RegistryTopic::parse(root, &message.topic) {
                Some(RegistryTopic::Name(_, node)) => drop(found.insert(node, value)),
                Some(RegistryTopic::Node(node)) => drop(states.insert(node, value)),
                None => {}
            }
            continue;
        }
        let ready = |node: &&ClientId| {
            wanted.is_none_or(|wanted| wanted == *node)
                && found.get(*node).is_some_and(|entry| is_ready(entry, states.get(*node)))
        };
        let mut serving: Vec<&ClientId> = found.keys().filter(ready).collect();
        serving.sort_unstable_by_key(|node| node.as_str());
        match serving[..] {
            [node] => {
                wire.unsubscribe(vec![entries, nodes]).await;
                let entry = &found[node];
                let epoch = entry["epoch"].as_str().unwrap_or_default().to_owned();
                return Ok(Served { node: node.clone(), json_rpc: entry["form"] == JSON_RPC, epoch });
            }
            [] if left.is_zero() => {
                let state = format!("{root}/node/{}", wanted.map_or("+", ClientId::as_str));
                return Err(ExamineError::NotServed { object: object.to_string(), entry: entries, state });
            }
            [] => {}
            _ => {
                let nodes = serving.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(ExamineError::SeveralNodes { object: object.to_string(), nodes });
            }
        }
    }
}

/// Object that the examiner plays, on its own node.
pub(crate) struct Presented {
    session: Session,
    root: Root,
    object: ObjectName,
    node: ClientId,
    epoch: String,
    form: Option<String>,
}

impl Presented {
    pub(crate) fn new(
        root: &Root,
        object: &ObjectName,
        wire: &Wire,
        epoch: String,
        form: Option<String>,
    ) -> Self {
        let (root, object, node) = (root.clone(), object.clone(), wire.id.clone());
        Self { session: wire.session(), root, object, node, epoch, form }
    }

    /// Draws an epoch.
    pub(crate) fn epoch() -> String {
        random_id("e").as_str()[2..].to_owned()
    }

    /// Returns the will of the object's node.
    pub(crate) fn will(root: &Root, node: &ClientId, epoch: &str) -> Will {
        Will {
            topic: RegistryTopic::Node(node.clone()).format(root),
            payload: NodeState::new(State::Lost, epoch).write().into(),
            expiry: Some(60),
        }
    }

    /// Subscribes to the calls of the object, and publishes that it is served.
    pub(crate) async fn appear(&self) -> Result<(), ExamineError> {
        let filters = self.filters().into_iter().map(|filter| Filter::new(filter).live());
        self.session.subscribe(filters.collect()).await?;
        let state = NodeState::new(State::Ready, &self.epoch).write();
        let mut entry = json!({
            "v": 1, "object": self.object.as_str(), "node": self.node.as_str(), "epoch": self.epoch, "settled": true,
        });
        if let Some(form) = &self.form {
            entry["form"] = Value::from(form.as_str());
        }
        self.say(state, entry.to_string().into_bytes()).await.map_err(ExamineError::Publish)
    }

    /// Clears entry and state, and unsubscribes.
    pub(crate) async fn disappear(&self) -> Result<(), ExamineError> {
        // Without a connection there is no subscription either.
        let _ = self.session.unsubscribe(self.filters()).await;
        self.say(Vec::new(), Vec::new()).await.map_err(ExamineError::Publish)
    }

    /// Returns the filters of its calls. In JSON-RPC form only, those for requests in plain form are left out.
    fn filters(&self) -> Vec<String> {
        let (root, object) = (&self.root, &self.object);
        match &self.form {
            Some(_) => vec![format!("$share/{object}/{root}/call/{object}")],
            None => call_filters(root, &self.node, object).into(),
        }
    }

    async fn say(&self, state: Vec<u8>, entry: Vec<u8>) -> Result<(), Unsent> {
        let node = RegistryTopic::Node(self.node.clone()).format(&self.root);
        let name = RegistryTopic::Name(self.object.clone(), self.node.clone()).format(&self.root);
        for (topic, payload) in [(node, state), (name, entry)] {
            match self.session.publish(Publish::new(topic, payload).retain()).await {
                Ok(()) | Err(Unsent::NobodyThere) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
