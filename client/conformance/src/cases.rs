//! Cases of docs/protocol/cases, which are embedded in the program.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Files of the cases, by name.
const FILES: [(&str, &str); 7] = [
    ("device", include_str!("../cases/device.json")),
    ("requests", include_str!("../cases/requests.json")),
    ("json-rpc", include_str!("../cases/json-rpc.json")),
    ("waiting", include_str!("../cases/waiting.json")),
    ("strict-json", include_str!("../cases/strict-json.json")),
    ("callers", include_str!("../cases/callers.json")),
    ("chains", include_str!("../cases/chains.json")),
];

/// Kind of implementation that is examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Node that serves the object of the cases.
    Node,
    /// Program that makes calls.
    Caller,
    /// Link of a chain.
    Chain,
}

/// Level of PROTOCOL.md that a node implements; each level includes those below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Small program with one object.
    Device,
    /// Program that serves any objects beside other nodes.
    #[default]
    Node,
    /// Everything in PROTOCOL.md.
    Full,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Node => "node",
            Self::Full => "full",
        })
    }
}

/// Conformance case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Name of its file, without `.json`.
    #[serde(skip)]
    pub file: &'static str,
    /// Name of the case, unique in its file.
    pub name: String,
    /// Lowest level that must pass it.
    #[serde(default)]
    pub level: Level,
    /// Part of the sentence of PROTOCOL.md that it tests: verbatim, and unique in the document.
    pub rule: String,
    /// Steps of a node's or a chain's case, with placeholders.
    #[serde(default)]
    pub(crate) steps: Vec<Value>,
    /// Call that a caller must make.
    #[serde(default)]
    pub(crate) call: Value,
    /// Request that the caller must send.
    #[serde(default)]
    pub(crate) request: Value,
    /// Replies that the caller gets.
    #[serde(default)]
    pub(crate) reply: Vec<Value>,
    /// Outcome that the caller must report.
    #[serde(default)]
    pub(crate) outcome: Value,
    /// Request form that the object's entry names.
    #[serde(default)]
    pub(crate) form: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    role: Role,
    #[serde(rename = "about")]
    _about: String,
    cases: Vec<Case>,
}

/// Returns the cases of a role, in the order of their files.
pub fn cases(role: Role) -> Vec<Case> {
    let read = |(file, text): &(&'static str, &str)| {
        let read: File = serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}.json: {error}"));
        let role_of = read.role;
        read.cases.into_iter().map(move |case| (role_of, Case { file, ..case })).collect::<Vec<_>>()
    };
    FILES.iter().flat_map(read).filter(|(of, _)| *of == role).map(|(_, case)| case).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::contract::places;

    #[test]
    fn every_case_has_a_unique_name_and_quotes_one_sentence_of_the_contract() {
        let mut names = HashSet::new();
        for role in [Role::Node, Role::Caller, Role::Chain] {
            let cases = cases(role);
            assert!(!cases.is_empty(), "{role:?}");
            for case in cases {
                let name = format!("{}: {}", case.file, case.name);
                let found = places(&case.rule);
                assert_eq!(found.len(), 1, "{name}: PROTOCOL.md has {:?} in {found:#?}", case.rule);
                assert!(names.insert(name.clone()), "two cases {name}");
            }
        }
    }
}
