//! Who takes a request on a bus, and who only looks on.

use std::sync::Arc;

use bytestring::ByteString;

use crate::bus::{BusKind, BusRoots};
use crate::session::Session;
use crate::subscriptions::Target;
use crate::topic;

/// Those who may take the requests on one topic: whoever serves subscribes to `{root}/call/{object}/#`, mostly in the group of
/// the object, or to `{root}/at/{node}/#`. Who has a wildcard in place of the object, or of the node, looks on, also where the
/// filter names the method, and in whatever group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takers<'a> {
    /// The object, where its group takes requests by any filter.
    group: Option<&'a str>,
    /// How many levels at the beginning of the topic name the object, or the node.
    levels: usize,
}

impl<'a> Takers<'a> {
    /// Those of a topic; `None` for one that is not for requests to one instance.
    pub(super) fn of(roots: &BusRoots, topic: &'a str) -> Option<Self> {
        let bus = roots.topic(topic)?;
        let group = match bus.kind {
            BusKind::Call => Some(bus.object),
            BusKind::At => None,
            BusKind::All | BusKind::Reply | BusKind::Other => return None,
        };
        Some(Self { group, levels: topic::levels(bus.root) + 2 })
    }

    /// Whether one of them is among those a message goes to.
    pub(super) fn are_in(self, targets: &[Target<Arc<Session>>]) -> bool {
        targets.iter().any(|target| self.have(target))
    }

    /// Whether this is one of them.
    pub(super) fn have(self, target: &Target<Arc<Session>>) -> bool {
        let is_of_object = |filter: &ByteString| {
            topic::shared(filter).flatten().is_some_and(|group| Some(group.name) == self.group)
        };
        target.named.leading >= self.levels || target.shared.as_ref().is_some_and(is_of_object)
    }
}
