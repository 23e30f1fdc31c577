//! Answers to requests for objects that no node serves. The broker itself knows nothing about objects, and calls this
//! handler.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rantai_broker::{Unserved, UnservedHandler, UnservedReply};
use rantai_client::registry::{BROKER_NODE, STARTING, View, similar, unknown};
use rantai_client::wire::Properties;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::features::BrokerFeatures;
use rantai_client::wire::name::{ObjectName, Root};
use rantai_client::wire::reply::{Outcome, Reply};
use rantai_client::wire::request::{ReplyTo, Request};
use rantai_client::wire::topic::{CallTopic, RegistryTopic};

/// Maximum number of registry entries that are searched for similar names.
const MAX_SEARCHED_ENTRIES: usize = 256;
/// Time after the start of the broker within which nodes may still be reconnecting.
const RECONNECT_TIME: Duration = Duration::from_secs(5);

/// Creates a handler that answers at once from the registry, with -32003 or -32004, as
/// [`Proxy`](rantai_client::Proxy) does for its callers.
///
/// `is_restored` is whether the broker has kept the registry of an earlier start.
pub(crate) fn handler(is_restored: bool) -> UnservedHandler {
    let began = Instant::now();
    UnservedHandler::new(move |unserved| answer(unserved, is_restored && began.elapsed() < RECONNECT_TIME))
}

/// Answers a request; `is_new` if the broker has just been started, so that its nodes may still be reconnecting.
fn answer(unserved: &Unserved<'_>, is_new: bool) -> Option<UnservedReply> {
    let root = Root::new(unserved.root()).ok()?;
    let topic = CallTopic::parse(&root, unserved.topic()).ok()?;
    let owned = |text: Option<&str>| text.map(Into::into);
    let properties = Properties {
        content_type: owned(unserved.content_type()),
        response_topic: owned(unserved.response_topic()),
        correlation: unserved.correlation().map(Bytes::copy_from_slice),
        expiry: None,
        user: unserved.user().collect(),
    };
    // Under access rules, replies go to the Response Topic only.
    let features = BrokerFeatures::read(if unserved.has_rules() { "caller,grants" } else { "" });
    let request = Request::read(&root, &topic, unserved.payload(), &properties, features).ok()?;
    let ReplyTo::Topic(reply_to) = &request.reply_to else { return None };
    // A forwarded request is left to the link of the chain that forwarded it, which reports the dead hop. A cancellation has
    // no reply.
    if !request.trail.is_empty() || request.ttl_ms == 0 || request.method.as_str() == "rpc.cancel" {
        return None;
    }
    let fault = match absence(unserved, &root, &topic) {
        // The states of nodes that have not reconnected yet are lost, and reconnecting nodes claim their names again.
        fault if is_new => fault.with(STARTING, true),
        fault => fault,
    };
    let node = BROKER_NODE.into();
    let correlation = request.correlation.as_ref();
    let reply = Reply::write(Outcome::Fault(fault), &request.form, correlation, &node, usize::MAX);
    Some(UnservedReply {
        topic: reply_to.as_str().to_owned(),
        user: reply
            .properties()
            .user
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        payload: reply.payload.into(),
    })
}

/// Returns the error for an object that is not served, according to the registry; reads no more of it than needed.
fn absence(unserved: &Unserved<'_>, root: &Root, topic: &CallTopic) -> Fault {
    let mut view = View::new(root.clone());
    let mut nodes = Vec::new();
    let own = format!("{root}/name/{}", topic.object);
    for (entry, payload) in unserved.retained(&own) {
        // An entry that cannot be parsed is ignored.
        let _ = view.apply(&entry, &payload);
        if let Some(RegistryTopic::Name(_, node)) = RegistryTopic::parse(root, &entry) {
            nodes.push(node);
        }
    }
    if nodes.is_empty() {
        let registry = format!("{root}/name");
        let entries = unserved.scan(&registry, MAX_SEARCHED_ENTRIES);
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
