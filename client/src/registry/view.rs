//! View of the registry, built from its retained messages.

use std::collections::BTreeMap;

use super::similar::similar;
use crate::wire::entry::{Entry, EntryError, NodeState, State};
use crate::wire::name::{ClientId, ObjectName, Root};
use crate::wire::topic::RegistryTopic;

/// View of the registry, as far as its retained messages have arrived.
///
/// Feed it with [`apply`](Self::apply); all methods refer to the messages applied so far.
#[derive(Debug, Default)]
pub struct View {
    root: Root,
    entries: BTreeMap<ObjectName, BTreeMap<ClientId, Entry>>,
    nodes: BTreeMap<ClientId, NodeState>,
}

/// Change of the view by a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The entries of an object have changed.
    Object(ObjectName),
    /// The state of a node has changed, and with it the objects that it serves.
    Node(ClientId),
}

impl View {
    /// Creates an empty view.
    pub fn new(root: Root) -> Self {
        Self { root, ..Self::default() }
    }

    /// Applies a message of the registry; returns the change, if any. An empty payload removes the entry or state, and so does
    /// an invalid payload, which is also an error. Messages on other topics are ignored.
    ///
    /// # Errors
    ///
    /// The payload is not an entry or state.
    pub fn apply(&mut self, topic: &str, payload: &[u8]) -> Result<Option<Change>, EntryError> {
        match RegistryTopic::parse(&self.root, topic) {
            None => Ok(None),
            Some(RegistryTopic::Name(object, node)) => {
                let read = (!payload.is_empty()).then(|| Entry::read(&object, &node, payload));
                let (entry, problem) = split(read);
                let entries = self.entries.entry(object.clone()).or_default();
                let old = match entry {
                    Some(entry) if entries.get(&node) == Some(&entry) => return Ok(None),
                    Some(entry) => {
                        entries.insert(node, entry);
                        true
                    }
                    None => entries.remove(&node).is_some(),
                };
                if entries.is_empty() {
                    self.entries.remove(&object);
                }
                problem.map_or(Ok(old.then_some(Change::Object(object))), Err)
            }
            Some(RegistryTopic::Node(node)) => {
                let (state, problem) = split((!payload.is_empty()).then(|| NodeState::read(payload)));
                let changed = match state {
                    Some(state) if self.nodes.get(&node) == Some(&state) => false,
                    Some(state) => {
                        self.nodes.insert(node.clone(), state);
                        true
                    }
                    None => self.nodes.remove(&node).is_some(),
                };
                problem.map_or(Ok(changed.then_some(Change::Node(node))), Err)
            }
        }
    }

    /// Returns the entries of an object that is served now: settled, of a ready node with the same epoch.
    pub fn served(&self, object: &ObjectName) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.get(object).into_iter().flatten();
        entries
            .filter(|(node, entry)| entry.settled && entry.is_served(self.nodes.get(*node)))
            .map(|(_, e)| e)
    }

    /// Returns whether a node serves the object now, or is draining and finishes its calls.
    pub fn is_served(&self, object: &ObjectName) -> bool {
        self.finishers(object).next().is_some()
    }

    /// Returns the nodes that serve an object now, or are draining and finish their calls.
    pub fn finishers(&self, object: &ObjectName) -> impl Iterator<Item = &ClientId> {
        let entries = self.entries.get(object).into_iter().flatten().filter(|(_, entry)| entry.settled);
        let finishes = |(node, entry): &(&ClientId, &Entry)| {
            let state = self.nodes.get(*node);
            entry.is_served(state)
                || state.is_some_and(|s| s.state == State::Draining && s.epoch == entry.epoch)
        };
        entries.filter(finishes).map(|(node, _)| node)
    }

    /// Returns all claims to an object, settled or not, and whether the node of each is ready and has the same epoch.
    pub fn claims(&self, object: &ObjectName) -> impl Iterator<Item = (&Entry, bool)> {
        let entries = self.entries.get(object).into_iter().flatten();
        entries.map(|(node, entry)| (entry, entry.is_served(self.nodes.get(node))))
    }

    /// Returns all entries of an object, served or not.
    pub fn entries(&self, object: &ObjectName) -> impl Iterator<Item = (&ClientId, &Entry)> {
        self.entries.get(object).into_iter().flatten()
    }

    /// Returns the state of a node.
    pub fn state(&self, node: &ClientId) -> Option<&NodeState> {
        self.nodes.get(node)
    }

    /// Returns whether an object is registered, served or not.
    pub fn is_registered(&self, object: &ObjectName) -> bool {
        self.entries.contains_key(object)
    }

    /// Returns all entries, and whether each is served now, sorted by object and node.
    pub fn all(&self) -> impl Iterator<Item = (&Entry, bool)> {
        let entries = self.entries.values().flatten();
        entries.map(|(node, entry)| (entry, entry.settled && entry.is_served(self.nodes.get(node))))
    }

    /// Returns the nodes whose will was published.
    pub fn lost(&self) -> impl Iterator<Item = &ClientId> {
        self.nodes.iter().filter(|(_, state)| state.state == State::Lost).map(|(node, _)| node)
    }

    /// Returns the registered objects that `name` may be a typo of.
    pub fn did_you_mean(&self, name: &str) -> Vec<&str> {
        similar(name, self.entries.keys().map(ObjectName::as_str))
    }
}

fn split<T>(read: Option<Result<T, EntryError>>) -> (Option<T>, Option<EntryError>) {
    match read {
        None => (None, None),
        Some(Ok(value)) => (Some(value), None),
        Some(Err(error)) => (None, Some(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectName {
        ObjectName::new(name).expect("a name")
    }

    fn entry(epoch: &str) -> Vec<u8> {
        format!(r#"{{"v":1,"object":"x","node":"x","epoch":"{epoch}","settled":true}}"#).into_bytes()
    }

    fn state(state: State, epoch: &str) -> Vec<u8> {
        NodeState::new(state, epoch).write()
    }

    fn served(view: &View, name: &str) -> Vec<String> {
        view.served(&object(name)).map(|e| e.node.clone()).collect()
    }

    #[test]
    fn draining_node_still_finishes_its_calls() {
        let mut view = View::default();
        view.apply("rantai/name/echo/pi", &entry("1")).expect("an entry");
        for (said, serves, finishes) in [
            (state(State::Ready, "1"), true, true),
            (state(State::Draining, "1"), false, true),
            (state(State::Draining, "2"), false, false),
            (state(State::Lost, "1"), false, false),
        ] {
            view.apply("rantai/node/pi", &said).expect("a state");
            let echo = object("echo");
            assert_eq!((!served(&view, "echo").is_empty(), view.is_served(&echo)), (serves, finishes));
        }
    }

    #[test]
    fn object_is_served_while_its_node_is_ready_with_the_same_epoch() {
        let mut view = View::default();
        let changed = view.apply("rantai/name/echo/pi", &entry("1")).expect("an entry");
        assert_eq!(changed, Some(Change::Object(object("echo"))));
        assert!(served(&view, "echo").is_empty() && view.is_registered(&object("echo")), "no state yet");
        for (said, expected) in [
            (state(State::Ready, "1"), 1),
            (state(State::Ready, "2"), 0),
            (state(State::Ready, "1"), 1),
            (state(State::Draining, "1"), 0),
            (state(State::Lost, "1"), 0),
            (Vec::new(), 0),
        ] {
            view.apply("rantai/node/pi", &said).expect("a state");
            assert_eq!(served(&view, "echo").len(), expected, "{}", String::from_utf8_lossy(&said));
        }
    }

    #[test]
    fn unsettled_claims_and_other_topics_do_not_change_what_is_served() {
        let mut view = View::default();
        view.apply("rantai/node/pi", &state(State::Ready, "1")).expect("a state");
        let claim = br#"{"v":1,"object":"echo","node":"pi","epoch":"1","settled":false}"#;
        view.apply("rantai/name/echo/pi", claim).expect("an entry");
        assert!(served(&view, "echo").is_empty());
        for other in ["rantai/event/echo/changed", "home/door", "rantai/name/echo", "rantai/name/a b/pi"] {
            assert_eq!(view.apply(other, b"{}").expect("passed over"), None, "{other}");
        }
    }

    #[test]
    fn invalid_entry_is_an_error_and_removes_the_previous_one() {
        let mut view = View::default();
        view.apply("rantai/name/echo/pi", &entry("1")).expect("an entry");
        assert!(view.apply("rantai/name/echo/pi", b"rubbish").is_err());
        assert!(!view.is_registered(&object("echo")));
        view.apply("rantai/node/pi", &state(State::Lost, "1")).expect("a state");
        assert_eq!(view.lost().count(), 1);
        assert!(view.apply("rantai/node/pi", b"{}").is_err());
        assert_eq!(view.lost().count(), 0);
    }

    #[test]
    fn repeated_entry_is_not_a_change() {
        let mut view = View::new(Root::new("acme/rantai").expect("a root"));
        assert!(view.apply("acme/rantai/name/echo/pi", &entry("1")).expect("an entry").is_some());
        assert_eq!(view.apply("acme/rantai/name/echo/pi", &entry("1")).expect("an entry"), None);
        assert_eq!(view.apply("rantai/name/echo/pi", &entry("2")).expect("another root"), None);
        assert!(view.apply("acme/rantai/name/echo/pi", b"").expect("cleared").is_some());
        assert_eq!(view.apply("acme/rantai/name/echo/pi", b"").expect("cleared"), None);
        assert_eq!(view.all().count(), 0);
    }

    #[test]
    fn all_replicas_are_served_and_typos_get_suggestions() {
        let mut view = View::default();
        for node in ["one", "two"] {
            view.apply(&format!("rantai/name/calculator/{node}"), &entry("1")).expect("an entry");
            view.apply(&format!("rantai/node/{node}"), &state(State::Ready, "1")).expect("a state");
        }
        assert_eq!(served(&view, "calculator"), ["one", "two"]);
        assert_eq!(view.did_you_mean("calculater"), ["calculator"]);
        assert!(view.all().all(|(_, served)| served));
    }
}
