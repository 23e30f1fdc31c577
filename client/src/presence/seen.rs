//! Decides from the registry whether the node of a call is lost. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{ACCEPT_TIMEOUT, PendingCall};
use crate::registry::View;
use crate::wire::accepted::Accepted;
use crate::wire::entry::{Entry, Mode, NodeState, State};
use crate::wire::name::{ClientId, ObjectName};
use crate::wire::topic::Target;

/// Resolution of Message Expiry Intervals, from which the age of a retained state is computed.
const ROUNDING: Duration = Duration::from_secs(1);

/// Time of a node's start or loss.
#[derive(Clone, Copy, Debug)]
pub(super) enum Since {
    /// Observed at this time.
    Seen(Instant),
    /// Computed from a retained message: at this time, or up to [`ROUNDING`] earlier.
    Retained(Instant),
}

impl Since {
    /// Returns whether it may be later than `instant`.
    fn may_be_after(self, instant: Instant) -> bool {
        match self {
            Self::Seen(at) => at >= instant,
            Self::Retained(at) => at + ROUNDING >= instant,
        }
    }
}

/// Registry entries and node states of one object.
#[derive(Debug, Default)]
pub(super) struct ObjectState {
    pub(super) view: View,
    /// Time of each node's start or loss, if known.
    pub(super) since: BTreeMap<ClientId, Since>,
}

impl ObjectState {
    /// Returns whether the object is served by a node that takes requests in JSON-RPC form only.
    pub(super) fn takes_json_rpc_only(&self, object: &ObjectName) -> bool {
        self.view.served(object).any(Entry::takes_json_rpc_only)
    }
}

/// Reason to expect no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// The node that has, or may have, the call is lost, or runs with another epoch.
    Lost(ClientId),
    /// The node removed its state or the object's entry.
    Cleared(ClientId),
    /// The node was started after the request was sent, so it does not have the call.
    Restarted(ClientId),
    /// The object is registered and not served.
    NotServed,
    /// The object is not registered.
    Unknown,
}

/// Registry observations of one call.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Nodes that have served the object since the call is monitored.
    served: BTreeMap<ClientId, Mode>,
    /// Nodes whose state was readable at least once.
    known: BTreeSet<ClientId>,
    /// Epoch of the node that sends the stream.
    epoch: Option<String>,
}

impl Seen {
    /// Returns the current suspicion, if any.
    pub(super) fn suspicion(
        &mut self,
        watched: &ObjectState,
        call: &PendingCall<'_>,
        accepted: Option<&Accepted>,
        now: Instant,
    ) -> Option<Suspicion> {
        if let Some(accepted) = accepted {
            return self.of_node(watched, accepted);
        }
        if let Some(sender) = call.sender {
            return self.of_sender(watched, sender);
        }
        let view = &watched.view;
        let is_asked = |node: &ClientId| match call.target {
            Target::Node(asked) => asked == node,
            Target::Any | Target::All => true,
        };
        let finishes: BTreeSet<&ClientId> =
            view.finishers(call.object).filter(|node| is_asked(node)).collect();
        for (node, entry) in view.entries(call.object).filter(|(node, _)| finishes.contains(node)) {
            self.served.insert(node.clone(), entry.mode);
        }
        let is_late = now >= call.sent + ACCEPT_TIMEOUT;
        // An exclusive name has one server; if no node serves the name now, that server had the call.
        let had_it = |mode: Mode| mode == Mode::Exclusive && finishes.is_empty() || is_late;
        let gone = self.served.iter().find(|(node, mode)| !finishes.contains(node) && had_it(**mode));
        if let Some((node, _)) = gone {
            let is_cleared = view.state(node).is_none_or(|state| state.state != State::Lost);
            return Some(if is_cleared {
                Suspicion::Cleared(node.clone())
            } else {
                Suspicion::Lost(node.clone())
            });
        }
        let is_new = |node: &ClientId| watched.since.get(node).is_some_and(|at| at.may_be_after(call.sent));
        let was_seen = |node: &ClientId| matches!(watched.since.get(node), Some(Since::Seen(_)));
        let entries = || view.entries(call.object).filter(|(node, entry)| is_asked(node) && entry.settled);
        let is_lost = |node: &ClientId| view.state(node).is_some_and(|state| state.state == State::Lost);
        let lost = entries().find(|(node, entry)| is_lost(node) && is_new(node) && had_it(entry.mode));
        if let Some((node, _)) = lost {
            return Some(Suspicion::Lost(node.clone()));
        }
        // A node that has the call would have published `accepted` by now; one that was just started does not have the call.
        let is_alone = |node: &ClientId| finishes.iter().all(|other| *other == node);
        let mut claims = view
            .entries(call.object)
            .filter(|(node, entry)| is_asked(node) && is_new(node) && entry.is_served(view.state(node)));
        // Settling an exclusive name takes a second, longer than a call waits before it is monitored.
        let new = claims.find(|(node, entry)| match entry.mode {
            Mode::Exclusive => is_alone(node) && (!entry.settled || was_seen(node)),
            Mode::Replica => is_late,
        });
        if let Some((node, _)) = new {
            return Some(Suspicion::Restarted(node.clone()));
        }
        match (finishes.is_empty(), view.is_registered(call.object)) {
            (false, _) => None,
            (true, true) => Some(Suspicion::NotServed),
            (true, false) => Some(Suspicion::Unknown),
        }
    }

    /// Checks the node that sends a stream. A node that restarted before its state was read does not have the stream,
    /// and says so itself.
    fn of_sender(&mut self, watched: &ObjectState, sender: &ClientId) -> Option<Suspicion> {
        let epoch = match &self.epoch {
            Some(epoch) => epoch.clone(),
            None => watched.view.state(sender)?.epoch.clone(),
        };
        self.epoch = Some(epoch.clone());
        self.of_node(watched, &Accepted { node: sender.clone(), epoch, trail: 0, passed_on: false })
    }

    /// Checks the node that accepted the call. A node whose state was never seen may be one whose state is not readable.
    fn of_node(&mut self, watched: &ObjectState, accepted: &Accepted) -> Option<Suspicion> {
        let node = &accepted.node;
        let is_there = |state: &NodeState| state.state != State::Lost && state.epoch == accepted.epoch;
        match watched.view.state(node) {
            Some(state) => {
                self.known.insert(node.clone());
                (!is_there(state)).then(|| Suspicion::Lost(node.clone()))
            }
            None => self.known.contains(node).then(|| Suspicion::Cleared(node.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::QoS;
    use crate::wire::name::ObjectName;

    struct World {
        watched: ObjectState,
        seen: Seen,
        object: ObjectName,
        target: Target,
        sender: Option<ClientId>,
        sent: Instant,
    }

    fn id(node: &str) -> ClientId {
        ClientId::new(node).expect("an id")
    }

    impl World {
        fn new() -> Self {
            Self {
                watched: ObjectState::default(),
                seen: Seen::default(),
                object: ObjectName::new("echo").expect("a name"),
                target: Target::Any,
                sender: None,
                sent: Instant::now() + Duration::from_secs(100),
            }
        }

        fn entry(&mut self, node: &str, mode: &str) {
            let text =
                format!(r#"{{"v":1,"object":"x","node":"x","epoch":"1","mode":"{mode}","settled":true}}"#);
            self.told(&format!("rantai/name/echo/{node}"), text.as_bytes());
        }

        fn state(&mut self, node: &str, state: State, epoch: &str) {
            self.told(&format!("rantai/node/{node}"), &NodeState::new(state, epoch).write());
        }

        fn told(&mut self, topic: &str, payload: &[u8]) {
            self.watched.view.apply(topic, payload).expect("the registry's");
        }

        /// Returns the suspicion `ms` milliseconds after sending.
        fn suspicion(&mut self, ms: u64, accepted: Option<(&str, &str)>) -> Option<Suspicion> {
            let accepted = accepted.map(|(node, epoch)| Accepted {
                node: id(node),
                epoch: epoch.to_owned(),
                trail: 0,
                passed_on: false,
            });
            let (object, target) = (&self.object, &self.target);
            let call = PendingCall {
                key: 1,
                object,
                target,
                sender: self.sender.as_ref(),
                qos: QoS::AtLeastOnce,
                sent: self.sent,
                is_plain: true,
            };
            let now = self.sent + Duration::from_millis(ms);
            self.seen.suspicion(&self.watched, &call, accepted.as_ref(), now)
        }
    }

    #[test]
    fn the_only_server_was_lost_since_the_request_was_sent() {
        let mut world = World::new();
        world.entry("pi", "exclusive");
        world.state("pi", State::Lost, "1");
        assert_eq!(world.suspicion(260, None), Some(Suspicion::NotServed), "when it was lost is not known");
        world.watched.since.insert(id("pi"), Since::Retained(world.sent - Duration::from_secs(5)));
        assert_eq!(world.suspicion(260, None), Some(Suspicion::NotServed), "long ago");
        world.watched.since.insert(id("pi"), Since::Retained(world.sent - Duration::from_millis(900)));
        assert_eq!(world.suspicion(260, None), Some(Suspicion::Lost(id("pi"))));
        world.target = Target::Node(id("pi"));
        assert_eq!(world.suspicion(260, None), Some(Suspicion::Lost(id("pi"))));
        world.target = Target::Node(id("other"));
        assert_eq!(world.suspicion(260, None), Some(Suspicion::NotServed), "it was not asked");
    }

    #[test]
    fn a_server_that_was_started_again_has_no_call_from_before() {
        let mut world = World::new();
        for node in ["one", "two"] {
            world.entry(node, "replica");
            world.state(node, State::Ready, "1");
        }
        world.watched.since.insert(id("one"), Since::Retained(world.sent + Duration::from_millis(100)));
        world.watched.since.insert(id("two"), Since::Retained(world.sent - Duration::from_mins(1)));
        assert_eq!(world.suspicion(260, None), None, "the other may have it");
        assert_eq!(world.suspicion(750, Some(("two", "1"))), None);
        assert_eq!(world.suspicion(750, None), Some(Suspicion::Restarted(id("one"))));
        let mut world = World::new();
        world.entry("pi", "exclusive");
        world.state("pi", State::Ready, "1");
        world.watched.since.insert(id("pi"), Since::Retained(world.sent + Duration::from_millis(100)));
        assert_eq!(world.suspicion(800, None), None, "it has settled, and had done so before");
        world.watched.since.insert(id("pi"), Since::Seen(world.sent + Duration::from_millis(900)));
        assert_eq!(world.suspicion(1_900, None), Some(Suspicion::Restarted(id("pi"))));
        assert_eq!(world.suspicion(260, Some(("pi", "1"))), None, "it has said so itself");
        world.watched.since.insert(id("pi"), Since::Retained(world.sent - Duration::from_millis(1_100)));
        assert_eq!(world.suspicion(800, None), None, "a node that accepts nothing");
        let mut world = World::new();
        world.state("pi", State::Ready, "1");
        let claim = br#"{"v":1,"object":"x","node":"x","epoch":"1","settled":false}"#;
        world.told("rantai/name/echo/pi", claim);
        world.watched.since.insert(id("pi"), Since::Retained(world.sent + Duration::from_millis(100)));
        assert_eq!(world.suspicion(260, None), Some(Suspicion::Restarted(id("pi"))), "it claims the name");
    }

    #[test]
    fn a_server_goes_away_while_the_call_waits() {
        for (gone, cleared) in [(Some(State::Lost), false), (None, true)] {
            let mut world = World::new();
            world.entry("pi", "exclusive");
            world.state("pi", State::Ready, "1");
            assert_eq!(world.suspicion(260, None), None);
            world.state("pi", State::Draining, "1");
            assert_eq!(world.suspicion(270, None), None, "it finishes what it has");
            match gone {
                Some(state) => world.state("pi", state, "1"),
                None => world.told("rantai/node/pi", b""),
            }
            let expected = if cleared { Suspicion::Cleared(id("pi")) } else { Suspicion::Lost(id("pi")) };
            assert_eq!(world.suspicion(280, None), Some(expected));
            world.state("pi", State::Ready, "1");
            assert_eq!(world.suspicion(290, None), None, "it had lost its connection");
        }
    }

    #[test]
    fn silent_replicas_do_not_have_the_call_after_the_accept_timeout() {
        let mut world = World::new();
        for node in ["one", "two"] {
            world.entry(node, "replica");
            world.state(node, State::Ready, "1");
        }
        assert_eq!(world.suspicion(260, None), None);
        world.state("one", State::Lost, "1");
        assert_eq!(world.suspicion(300, None), None, "the other may have it");
        assert_eq!(world.suspicion(750, None), Some(Suspicion::Lost(id("one"))), "which would have said so");
        assert_eq!(world.suspicion(750, Some(("two", "1"))), None);
        world.state("two", State::Draining, "1");
        assert_eq!(world.suspicion(800, Some(("two", "1"))), None);
        assert_eq!(
            world.suspicion(800, Some(("two", "0"))),
            Some(Suspicion::Lost(id("two"))),
            "of another start"
        );
    }

    #[test]
    fn a_node_that_accepted_is_followed_and_no_other() {
        let mut world = World::new();
        world.entry("pi", "exclusive");
        world.state("pi", State::Lost, "1");
        // The call was forwarded to the next link of a chain.
        assert_eq!(world.suspicion(300, Some(("next", "7"))), None, "its state is not readable");
        world.state("next", State::Ready, "7");
        assert_eq!(world.suspicion(300, Some(("next", "7"))), None);
        world.told("rantai/node/next", b"");
        assert_eq!(world.suspicion(300, Some(("next", "7"))), Some(Suspicion::Cleared(id("next"))));
        world.state("next", State::Ready, "8");
        assert_eq!(world.suspicion(300, Some(("next", "7"))), Some(Suspicion::Lost(id("next"))));
    }

    #[test]
    fn a_node_that_sends_a_stream_may_come_back_and_is_followed_and_no_other() {
        let mut world = World::new();
        world.sender = Some(id("pi"));
        assert_eq!(world.suspicion(300, None), None, "its state is not read yet");
        world.entry("pi", "exclusive");
        world.state("pi", State::Ready, "1");
        assert_eq!(world.suspicion(300, None), None);
        world.state("pi", State::Lost, "1");
        assert_eq!(world.suspicion(310, None), Some(Suspicion::Lost(id("pi"))));
        world.state("pi", State::Ready, "1");
        world.watched.since.insert(id("pi"), Since::Seen(world.sent + Duration::from_millis(320)));
        assert_eq!(world.suspicion(900, None), None, "it had lost its connection");
        world.state("pi", State::Ready, "2");
        assert_eq!(world.suspicion(910, None), Some(Suspicion::Lost(id("pi"))), "it was started again");
    }

    #[test]
    fn an_object_that_nobody_serves_is_not_served_or_not_known() {
        let mut world = World::new();
        assert_eq!(world.suspicion(260, None), Some(Suspicion::Unknown));
        world.entry("pi", "exclusive");
        assert_eq!(world.suspicion(260, None), Some(Suspicion::NotServed));
        world.state("pi", State::Ready, "1");
        assert_eq!(world.suspicion(260, None), None);
    }
}
