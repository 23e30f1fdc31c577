//! Errors of requests without a receiver, derived from the registry.

use super::view::View;
use crate::wire::entry::{Entry, JSON_RPC_FORM, NodeState, State};
use crate::wire::fault::{Code, Fault};
use crate::wire::name::{ClientId, ObjectName};
use crate::wire::topic::Target;

/// Key in the `data` of -32004 and -32003: repeating the request may succeed soon, because a node that is ready has an
/// entry of the object, or the broker has just been started.
pub const STARTING: &str = "starting";
/// Key in the `data` of -32004: the only form of requests that the object understands, as its entry says.
pub const FORM: &str = "form";
/// Sender of replies that the broker makes by itself, to requests without a receiver.
pub const BROKER_NODE: &str = "broker";
/// Maximum number of nodes that an error names.
const MAX_NAMED_NODES: usize = 5;

/// State of a registered node that has not received a request, according to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The node is ready: it claims the name, or has just started, ended or lost its connection.
    Starting,
    /// The node finishes running calls, and accepts no new ones.
    Ending,
    /// The node is gone.
    Lost,
}

impl Standing {
    fn of(entry: &Entry, state: Option<&NodeState>) -> Self {
        match state.filter(|state| state.epoch == entry.epoch).map(|state| state.state) {
            Some(State::Ready) => Self::Starting,
            Some(State::Draining) => Self::Ending,
            Some(State::Lost) | None => Self::Lost,
        }
    }
}

impl View {
    /// Returns the error of a request to `object` without a receiver: -32004 if the object is registered (on another node than the
    /// requested one, on a lost node, or on a node that is only starting to serve it), else -32003 with similar names.
    pub fn absence(&self, object: &ObjectName, target: &Target) -> Fault {
        let entries: Vec<(&ClientId, Standing)> =
            self.entries(object).map(|(node, entry)| (node, Standing::of(entry, self.state(node)))).collect();
        let of = |standing: Standing| -> Vec<&ClientId> {
            entries.iter().filter(|(_, other)| *other == standing).map(|(node, _)| *node).collect()
        };
        if *target == Target::Any
            && let Some(entry) = self.served(object).find(|entry| entry.takes_json_rpc_only())
        {
            let text = format!("{object} takes requests in JSON-RPC form only");
            let fault = Fault::new(Code::LOST_OBJECT, text).with("node", entry.node.as_str());
            return fault.with(FORM, JSON_RPC_FORM);
        }
        let asked = match target {
            Target::Node(wanted) => match entries.iter().find(|(node, _)| *node == wanted) {
                Some((node, standing)) => Some((vec![*node], *standing)),
                None => return self.elsewhere(object, wanted, &of),
            },
            Target::Any | Target::All => [Standing::Starting, Standing::Ending, Standing::Lost]
                .into_iter()
                .map(|standing| (of(standing), standing))
                .find(|(nodes, _)| !nodes.is_empty()),
        };
        let Some((nodes, standing)) = asked else {
            return unknown(object, self.did_you_mean(object.as_str()));
        };
        let named = named(&nodes);
        let fault = |text: String| Fault::new(Code::LOST_OBJECT, text).with("node", nodes[0].as_str());
        let (its, are) = if nodes.len() == 1 { ("its node", "is") } else { ("its nodes", "are") };
        match standing {
            Standing::Starting => {
                fault(format!("{object} is being registered by {named}; try again")).with(STARTING, true)
            }
            Standing::Ending => fault(format!("{object} is registered, but {its} {named} {are} ending")),
            Standing::Lost => fault(format!("{object} is registered, but {its} {named} {are} lost")),
        }
    }

    /// Returns the error of a request to a node that has no entry of the object.
    fn elsewhere<'a>(
        &self,
        object: &ObjectName,
        wanted: &ClientId,
        of: &impl Fn(Standing) -> Vec<&'a ClientId>,
    ) -> Fault {
        let (living, gone) = (of(Standing::Starting), [of(Standing::Ending), of(Standing::Lost)].concat());
        let text = match (living.is_empty(), gone.is_empty()) {
            (true, true) => return unknown(object, self.did_you_mean(object.as_str())),
            (true, false) => {
                format!(
                    "{object} is not on node {wanted}; it was on {}, and is served by nobody",
                    named(&gone)
                )
            }
            (false, _) => format!("{object} is not on node {wanted}; it is on {}", named(&living)),
        };
        let node = living.first().or(gone.first()).map_or("", |node| node.as_str());
        Fault::new(Code::LOST_OBJECT, text).with("node", node)
    }
}

/// Returns the names of nodes as an enumeration.
fn named(nodes: &[&ClientId]) -> String {
    let shown: Vec<&str> = nodes.iter().take(MAX_NAMED_NODES).map(|node| node.as_str()).collect();
    let shown = shown.join(", ");
    match nodes.len().saturating_sub(MAX_NAMED_NODES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Returns the error of a call whose node is lost and may have executed it: -32004 with `maybe_executed`.
pub(crate) fn lost(object: &ObjectName, node: &ClientId) -> Fault {
    let text = format!(
        "{object}: its node {node} was lost while the call waited; the method may have been carried out"
    );
    Fault::new(Code::LOST_OBJECT, text).with("node", node.as_str()).with_maybe_executed()
}

/// Returns the error of a request to an unregistered object: -32003 with similar names ([`similar`](super::similar)).
pub fn unknown(object: &ObjectName, did_you_mean: Vec<&str>) -> Fault {
    let fault = Fault::new(Code::UNKNOWN_OBJECT, format!("no object {:?}", object.as_str()));
    fault.with("object", object.as_str()).with("did_you_mean", did_you_mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: &str) -> ClientId {
        ClientId::new(node).expect("an id")
    }

    /// Nodes with an entry of `echo`: name, state, and whether the entry is settled.
    fn view(nodes: &[(&str, Option<&str>, bool)]) -> View {
        let mut view = View::default();
        for (node, state, settled) in nodes {
            let entry =
                format!(r#"{{"v":1,"object":"echo","node":"{node}","epoch":"1","settled":{settled}}}"#);
            view.apply(&format!("rantai/name/echo/{node}"), entry.as_bytes()).expect("an entry");
            if let Some(state) = state {
                let state = format!(r#"{{"v":1,"state":"{state}","epoch":"1"}}"#);
                view.apply(&format!("rantai/node/{node}"), state.as_bytes()).expect("a state");
            }
        }
        view
    }

    fn text(nodes: &[(&str, Option<&str>, bool)], target: &Target) -> String {
        view(nodes).absence(&ObjectName::new("echo").expect("a name"), target).message
    }

    #[test]
    fn absence_names_ready_nodes_before_lost_ones() {
        let (lost, ready, draining) = (Some("lost"), Some("ready"), Some("draining"));
        let at = |node: &str| Target::Node(id(node));
        for (nodes, target, expected) in [
            (&[][..], Target::Any, "no object \"echo\""),
            (&[], at("zz"), "no object \"echo\""),
            (&[("a2", lost, true)], Target::Any, "echo is registered, but its node a2 is lost"),
            (&[("a2", None, true)], Target::Any, "echo is registered, but its node a2 is lost"),
            (
                &[("a2", lost, true), ("b1", lost, true)],
                Target::Any,
                "echo is registered, but its nodes a2, b1 are lost",
            ),
            // A claim that is not settled yet.
            (
                &[("a2", lost, true), ("q3", ready, false)],
                Target::Any,
                "echo is being registered by q3; try again",
            ),
            (&[("q3", draining, true)], Target::Any, "echo is registered, but its node q3 is ending"),
            (&[("a2", lost, true), ("q3", ready, true)], at("zz"), "echo is not on node zz; it is on q3"),
            (
                &[("a2", lost, true)],
                at("q3"),
                "echo is not on node q3; it was on a2, and is served by nobody",
            ),
            (
                &[("a2", lost, true), ("q3", ready, true)],
                at("a2"),
                "echo is registered, but its node a2 is lost",
            ),
            (
                &[("a2", lost, true), ("q3", ready, true)],
                at("q3"),
                "echo is being registered by q3; try again",
            ),
        ] {
            assert_eq!(text(nodes, &target), expected, "{nodes:?} {target:?}");
        }
        let many: Vec<String> = (0..7).map(|number| format!("n{number}")).collect();
        let many: Vec<_> = many.iter().map(|node| (node.as_str(), Some("lost"), true)).collect();
        assert!(text(&many, &Target::Any).contains("n3, n4 and 2 more are lost"));
    }

    #[test]
    fn only_a_node_that_is_ready_is_starting() {
        let object = ObjectName::new("echo").expect("a name");
        for (state, settled, expected) in
            [(Some("ready"), false, true), (Some("ready"), true, true), (Some("lost"), true, false)]
        {
            let fault = view(&[("q3", state, settled)]).absence(&object, &Target::Any);
            assert_eq!(fault.data.contains_key(STARTING), expected, "{state:?} {settled}");
            assert!(!fault.maybe_executed());
        }
    }
}
