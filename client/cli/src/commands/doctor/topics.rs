//! Topics of an examination: those of objects, nodes and callers that do not exist, below one root.

use rantai_client::client::random_id;
use rantai_client::wire::name::{ClientId, MethodName, ObjectName, Root};
use rantai_client::wire::topic::{CallTopic, RegistryTopic, ReplyTopic, Target, call_filters, requests_at};

/// Root, and the topics of PROTOCOL.md below it.
#[derive(Clone)]
pub(super) struct Topics {
    root: Root,
}

impl Topics {
    pub(super) fn new(root: Root) -> Self {
        Self { root }
    }

    /// Topic of requests to any instance of an object.
    pub(super) fn call(&self, object: &ObjectName) -> String {
        self.request(Target::Any, object)
    }

    /// Topic of requests to an object on a node, which is the client with this id and reads them at [`inbox`](Self::inbox).
    pub(super) fn at(&self, node: &ClientId, object: &ObjectName) -> String {
        self.request(Target::Node(node.clone()), object)
    }

    /// Filter for all requests to a node.
    pub(super) fn inbox(&self, node: &ClientId) -> String {
        requests_at(&self.root, node)
    }

    /// Filter of the shared subscription by which an object is served.
    pub(super) fn group(&self, node: &ClientId, object: &ObjectName) -> String {
        let [group, ..] = call_filters(&self.root, node, object);
        group
    }

    /// Filter for all requests to an object, without a shared subscription.
    pub(super) fn calls(&self, object: &ObjectName) -> String {
        let group = self.group(&random_id("doctor"), object);
        group
            .split_once('/')
            .and_then(|(_, rest)| rest.split_once('/'))
            .map_or(group.clone(), |(_, filter)| filter.to_owned())
    }

    /// Topic of an object's entry in the registry.
    pub(super) fn entry(&self, object: &ObjectName, node: &ClientId) -> String {
        RegistryTopic::Name(object.clone(), node.clone()).format(&self.root)
    }

    /// Filter for the entries of one object.
    pub(super) fn entries_of(&self, object: &ObjectName) -> String {
        RegistryTopic::entries_of(&self.root, object)
    }

    /// Filter for the entries of one node.
    pub(super) fn entries_on(&self, node: &ClientId) -> String {
        RegistryTopic::entries_on(&self.root, node)
    }

    /// Topic of a node's state.
    pub(super) fn state(&self, node: &ClientId) -> String {
        RegistryTopic::Node(node.clone()).format(&self.root)
    }

    /// Topic of replies of an object to a client.
    pub(super) fn reply(&self, object: &ObjectName, client: &ClientId) -> String {
        ReplyTopic::to(&self.root, object, client).to_string()
    }

    /// Filter for all replies to a client.
    pub(super) fn replies(&self, client: &ClientId) -> String {
        ReplyTopic::filter(&self.root, client)
    }

    fn request(&self, target: Target, object: &ObjectName) -> String {
        let method = MethodName::new("examine").expect("an identifier");
        CallTopic { target, object: object.clone(), method: Some(method) }.format(&self.root)
    }
}
