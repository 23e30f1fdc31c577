//! Distinction between receivers of a request on a bus and subscribers that only monitor it.

use std::sync::Arc;

use bytestring::ByteString;

use crate::bus::{BusKind, BusRoots};
use crate::session::Session;
use crate::subscriptions::Target;
use crate::topic;

/// Subscribers that can receive a request as its server: by `{root}/call/{object}/#` with or without the object's
/// shared group, or by `{root}/at/{node}/#`. A subscription with a wildcard at the level of the object or node only
/// monitors requests, whatever its other levels and its group are.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestReceivers<'a> {
    /// Name of the object. Its shared group receives requests by any filter.
    group: Option<&'a str>,
    /// Number of levels of the topic up to the object or node.
    levels: usize,
}

impl<'a> RequestReceivers<'a> {
    /// Returns the receivers of a topic; `None` if it is not a topic of requests to one instance.
    pub(super) fn of(roots: &BusRoots, topic: &'a str) -> Option<Self> {
        let bus = roots.topic(topic)?;
        let group = match bus.kind {
            BusKind::Call => Some(bus.object),
            BusKind::At => None,
            _ => return None,
        };
        Some(Self { group, levels: topic::levels(bus.root) + 2 })
    }

    /// Returns whether at least one of `targets` is a receiver.
    pub(super) fn are_in(self, targets: &[Target<Arc<Session>>]) -> bool {
        targets.iter().any(|target| self.have(target))
    }

    /// Returns whether `target` is a receiver.
    pub(super) fn have(self, target: &Target<Arc<Session>>) -> bool {
        let is_of_object = |filter: &ByteString| {
            topic::shared(filter).flatten().is_some_and(|group| Some(group.name) == self.group)
        };
        target.named.leading >= self.levels || target.shared.as_ref().is_some_and(is_of_object)
    }
}
