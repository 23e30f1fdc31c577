//! Requests to objects that are not there: the broker is told what to answer, as it knows nothing of objects.

use rantai_broker::{Unserved, UnservedHandler, UnservedReply};
use rantai_client::registry::{View, similar, unknown};
use rantai_client::wire::Properties;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::features::BrokerFeatures;
use rantai_client::wire::name::{ClientId, ObjectName, Root};
use rantai_client::wire::reply::{Outcome, Reply};
use rantai_client::wire::request::{ReplyTo, Request};
use rantai_client::wire::topic::{CallTopic, RegistryTopic};

/// Names that are looked at for those that may have been meant.
const NAMES: usize = 256;
/// Who says it.
const NODE: &str = "broker";

/// Answers with what the registry says, as [`Proxy`](rantai_client::Proxy) does for its callers: -32003 or -32004, at once.
pub(crate) fn handler() -> UnservedHandler {
    UnservedHandler::new(answer)
}

fn answer(unserved: &Unserved<'_>) -> Option<UnservedReply> {
    let root = Root::new(unserved.root()).ok()?;
    let topic = CallTopic::parse(&root, unserved.topic()).ok()?;
    let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
    let properties = Properties {
        content_type: owned(unserved.content_type()),
        response_topic: owned(unserved.response_topic()),
        correlation: unserved.correlation().map(ToOwned::to_owned),
        expiry: None,
        user: unserved.user().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    // With rules the Response Topic alone says where replies go.
    let features = BrokerFeatures::read(if unserved.has_rules() { "caller,grants" } else { "" });
    let request = Request::read(&root, &topic, unserved.payload(), &properties, features).ok()?;
    let ReplyTo::Topic(reply_to) = &request.reply_to else { return None };
    // The link of a chain that has passed it on says which hop is dead. To a cancellation nobody listens.
    if !request.trail.is_empty() || request.ttl_ms == 0 || request.method.as_str() == "rpc.cancel" {
        return None;
    }
    let fault = absence(unserved, &root, &topic);
    let node = ClientId::new(NODE).expect("letters");
    let correlation = request.correlation.as_deref();
    let reply = Reply::write(Outcome::Fault(fault), &request.form, correlation, &node, usize::MAX);
    Some(UnservedReply {
        topic: reply_to.as_str().to_owned(),
        payload: reply.payload,
        user: reply.properties.user,
    })
}

/// What the registry says, of which no more is read than the answer needs.
fn absence(unserved: &Unserved<'_>, root: &Root, topic: &CallTopic) -> Fault {
    let mut view = View::new(root.clone());
    let mut nodes = Vec::new();
    let own = format!("{root}/name/{}", topic.object);
    for (entry, payload) in unserved.retained(&own) {
        // One that cannot be read is none.
        let _ = view.apply(&entry, &payload);
        if let Some(RegistryTopic::Name(_, node)) = RegistryTopic::parse(root, &entry) {
            nodes.push(node);
        }
    }
    if nodes.is_empty() {
        let registry = format!("{root}/name");
        let entries = unserved.scan(&registry, NAMES);
        let mut names: Vec<ObjectName> = entries
            .filter_map(|(entry, _)| match RegistryTopic::parse(root, &entry)? {
                RegistryTopic::Name(object, _) => Some(object),
                RegistryTopic::Node(_) => None,
            })
            .collect();
        names.dedup();
        return unknown(&topic.object, similar(topic.object.as_str(), names.iter().map(ObjectName::as_str)));
    }
    for node in nodes {
        let node = RegistryTopic::Node(node).format(root);
        for (state, payload) in unserved.retained(&node) {
            let _ = view.apply(&state, &payload);
        }
    }
    view.absence(&topic.object, &topic.target)
}
