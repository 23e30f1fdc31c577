//! Chain of three links on two nodes, and trips through it.

use std::sync::Arc;

use rantai_client::wire::name::ObjectName;
use rantai_nodes::chain::{Chain, ChainLink};

/// Links in their order, with the suffixes of the names of the nodes that serve them. The last one leads to the first
/// again.
const LINKS: [(&str, &str); 3] = [("satu", "-a"), ("dua", "-b"), ("tiga", "-a")];
const PREFIX: &str = "ring.";

/// Returns the name of a link's object.
fn object(link: &str) -> String {
    format!("{PREFIX}{link}")
}

/// Returns the names of all links' objects.
pub(crate) fn objects() -> [String; LINKS.len()] {
    LINKS.map(|(link, _)| object(link))
}

/// Returns the links that a node serves.
pub(crate) fn links_of(node: &str) -> Vec<(String, Chain)> {
    let mut links = Vec::new();
    for (number, (name, end)) in LINKS.into_iter().enumerate() {
        if !node.ends_with(end) {
            continue;
        }
        let (next, _) = LINKS[(number + 1) % LINKS.len()];
        let link = ChainLink {
            prefix: PREFIX.to_owned(),
            name: name.to_owned(),
            next: next.to_owned(),
            replica: false,
            methods: vec!["process".to_owned()],
            trail: None,
            started: None,
            passing: "{name} to {next}".to_owned(),
            closing: "{name} ends".to_owned(),
            passing_lines: Vec::new(),
            closing_lines: Vec::new(),
        };
        let next = ObjectName::new(&object(next)).expect("a name");
        links.push((object(name), Chain::new(link, next, Arc::new(|_| {}))));
    }
    links
}

/// Draws a trip: the first object, the last link, and the expected result.
pub(crate) fn trip(random: &mut fastrand::Rng) -> (String, &'static str, Vec<String>) {
    let (first, count) = (random.usize(0..LINKS.len()), random.usize(0..LINKS.len()));
    let link = |number: usize| LINKS[(first + number) % LINKS.len()].0;
    let mut result: Vec<_> = (0..count).map(|hop| format!("{} to {}", link(hop), link(hop + 1))).collect();
    result.push(format!("{} ends", link(count)));
    (object(link(0)), link(count), result)
}
