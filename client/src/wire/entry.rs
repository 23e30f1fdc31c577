//! Registry entries and node states, which are retained messages.

use serde::{Deserialize, Serialize};

use super::json::typed;
use super::name::{ClientId, ObjectName};

/// Version of the contract.
pub const VERSION: u32 = 1;
/// Message Expiry Interval of entries and states, in seconds.
pub const LIFETIME: u32 = 24 * 60 * 60;
/// Maximum size of an entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = 16 << 10;

/// Form of an entry whose object understands requests in JSON-RPC form only.
pub const JSON_RPC_FORM: &str = "json-rpc";

/// Number of nodes that may serve a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One node.
    #[default]
    Exclusive,
    /// Any number of nodes, if all of them use this mode.
    Replica,
}

/// Entry of one object on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of the contract.
    pub v: u32,
    /// Object name; the one in the topic takes precedence.
    pub object: String,
    /// Node; the one in the topic takes precedence.
    pub node: String,
    /// Random text, new at every start of the node, and compared for equality.
    pub epoch: String,
    /// Whether other nodes may serve the name too.
    #[serde(default)]
    pub mode: Mode,
    /// Whether the claim to the name has been won.
    #[serde(default)]
    pub settled: bool,
    /// The only form of requests that the object understands; `None` for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// Version of the object.
    #[serde(default)]
    pub version: String,
    /// Description in one line, for people.
    #[serde(default)]
    pub summary: String,
    /// Search tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Methods, without the built-in ones.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Events.
    #[serde(default)]
    pub events: Vec<String>,
}

/// State of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The node serves its objects.
    Ready,
    /// The node finishes running calls, and accepts no new ones.
    Draining,
    /// The node is gone: this is its will.
    Lost,
}

/// State of a node, as it is retained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Version of the contract.
    pub v: u32,
    /// State.
    pub state: State,
    /// Epoch of the node's start.
    pub epoch: String,
}

/// Error of parsing an entry or state, which then counts as absent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Larger than [`MAX_ENTRY_BYTES`].
    #[error("an entry of {0} bytes; {MAX_ENTRY_BYTES} are the most")]
    TooLarge(usize),
    /// Unsupported version of the contract.
    #[error("version {0} of the contract; this is {VERSION}")]
    Version(u32),
    /// The payload is not JSON of the expected form.
    #[error("not a registry entry")]
    Json(#[from] serde_json::Error),
}

impl Entry {
    /// Parses an entry; the names in the topic take precedence over those in the payload.
    ///
    /// # Errors
    ///
    /// The payload is too large, of another version, or not an entry.
    pub fn read(object: &ObjectName, node: &ClientId, payload: &[u8]) -> Result<Self, EntryError> {
        if payload.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLarge(payload.len()));
        }
        let mut entry: Self = typed(serde_json::from_slice(payload)?)?;
        if entry.v != VERSION {
            return Err(EntryError::Version(entry.v));
        }
        entry.object = object.to_string();
        entry.node = node.to_string();
        Ok(entry)
    }

    /// Serializes an entry.
    ///
    /// # Errors
    ///
    /// The entry is too large: schemas belong into `rpc.discover`.
    pub fn write(&self) -> Result<Vec<u8>, EntryError> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// Returns whether the entry is served now, according to the state of its node: ready, and with the same epoch.
    pub fn is_served(&self, node: Option<&NodeState>) -> bool {
        node.is_some_and(|n| n.state == State::Ready && n.epoch == self.epoch)
    }

    /// Returns whether the object understands requests in JSON-RPC form only.
    pub fn takes_json_rpc_only(&self) -> bool {
        self.form.as_deref() == Some(JSON_RPC_FORM)
    }

    /// Returns whether this claim of an exclusive name wins over another: settled over unsettled, and of equal ones the one with
    /// the lower (epoch, node).
    pub fn beats(&self, other: &Self) -> bool {
        let rank = |entry: &Self| (!entry.settled, entry.epoch.clone(), entry.node.clone());
        rank(self) < rank(other)
    }
}

impl NodeState {
    /// Creates the state of a start with this epoch.
    pub fn new(state: State, epoch: &str) -> Self {
        Self { v: VERSION, state, epoch: epoch.to_owned() }
    }

    /// Parses a state.
    ///
    /// # Errors
    ///
    /// The payload is of another version, or not a state.
    pub fn read(payload: &[u8]) -> Result<Self, EntryError> {
        let state: Self = typed(serde_json::from_slice(payload)?)?;
        if state.v == VERSION { Ok(state) } else { Err(EntryError::Version(state.v)) }
    }

    /// Serializes a state.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state is plain JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Example of PROTOCOL.md.
    const GOLDEN: &str = r#"{"v":1,"object":"calculator","node":"pi-east","epoch":"0192f7c4","mode":"exclusive","settled":true,"version":"1.2.0","summary":"Arithmetic","tags":["math"],"methods":["add","sub"],"events":["changed"]}"#;

    fn read(payload: &str) -> Result<Entry, EntryError> {
        let (object, node) = (ObjectName::new("calculator").unwrap(), ClientId::new("pi-east").unwrap());
        Entry::read(&object, &node, payload.as_bytes())
    }

    #[test]
    fn an_entry_is_this_json() {
        let entry = read(GOLDEN).unwrap();
        assert_eq!(String::from_utf8(entry.write().unwrap()).unwrap(), GOLDEN);
        let protocol = include_str!("../../../PROTOCOL.md");
        assert!(protocol.contains(GOLDEN), "the example in PROTOCOL.md");
    }

    #[test]
    fn names_of_the_topic_take_precedence_and_unknown_members_are_ignored() {
        let entry = read(r#"{"v":1,"object":"other","node":"other","epoch":"1","later":{"a":1}}"#).unwrap();
        assert_eq!((&*entry.object, &*entry.node, entry.mode), ("calculator", "pi-east", Mode::Exclusive));
        // Some languages write every number with a fraction.
        assert!(read(r#"{"v":1.0,"object":"a","node":"b","epoch":"1"}"#).is_ok());
        assert_eq!(NodeState::read(br#"{"v":1.0,"state":"ready","epoch":"1"}"#).unwrap().state, State::Ready);
        assert!(matches!(
            read(r#"{"v":2,"object":"a","node":"b","epoch":"1"}"#),
            Err(EntryError::Version(2))
        ));
        assert!(matches!(read(&" ".repeat(MAX_ENTRY_BYTES + 1)), Err(EntryError::TooLarge(_))));
        assert!(matches!(read("[]"), Err(EntryError::Json(_))));
    }

    #[test]
    fn entry_is_served_if_its_node_is_ready_with_the_same_epoch() {
        let entry = read(GOLDEN).unwrap();
        let state = |state, epoch| NodeState::new(state, epoch);
        assert!(entry.is_served(Some(&state(State::Ready, "0192f7c4"))));
        assert!(!entry.is_served(Some(&state(State::Ready, "another"))));
        assert!(!entry.is_served(Some(&state(State::Lost, "0192f7c4"))));
        assert!(!entry.is_served(Some(&state(State::Draining, "0192f7c4"))));
        assert!(!entry.is_served(None));
    }

    #[test]
    fn of_two_claims_exactly_one_wins() {
        let one = read(GOLDEN).unwrap();
        let unsettled = Entry { settled: false, epoch: "0".into(), ..one.clone() };
        let later = Entry { epoch: "0192f7c5".into(), ..one.clone() };
        let elsewhere = Entry { node: "pi-west".into(), ..one.clone() };
        for other in [unsettled, later, elsewhere] {
            assert!(one.beats(&other) && !other.beats(&one));
        }
    }
}
