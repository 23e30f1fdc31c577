//! Errors of requests without a receiver, derived from the registry.

use super::view::View;
use crate::wire::fault::{Code, Fault};
use crate::wire::name::{ClientId, ObjectName};
use crate::wire::topic::Target;

impl View {
    /// Returns the error of a request to `object` without a receiver: -32004 if the object is registered (on another node than the
    /// requested one, on a lost node, or on a node that is only starting to serve it), else -32003 with similar names.
    pub fn absence(&self, object: &ObjectName, target: &Target) -> Fault {
        if let Some((entry, is_served)) = self.all().find(|(entry, _)| entry.object == object.as_str()) {
            let node = &entry.node;
            let text = match target {
                Target::Node(wanted) if wanted.as_str() != node => {
                    format!("{object} is not on node {wanted}; it is on {node}")
                }
                _ if is_served => format!("{object} is being registered by node {node}; try again"),
                _ => format!("{object} is registered, but its node {node} is lost"),
            };
            return Fault::new(Code::LOST_OBJECT, text).with("node", node.clone());
        }
        unknown(object, self.did_you_mean(object.as_str()))
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
