//! Protection of the object by which the broker is administered.

use super::Connection;
use crate::access::Denial;
use crate::bus::BusTopic;
use crate::peer::{Identity, Reach};

impl Connection {
    /// Checks whether this client may publish on a topic that is about the administrative object, and returns whether the
    /// message is a request to that object.
    ///
    /// With access rules, requests are for users who may write `$CONTROL/rantai/admin`, as the role admin may. Without
    /// them they are for programs on the broker's machine. They come from the connection of the admin itself: not from a
    /// gateway, a ledger or an object in the broker's process, all of which do what others ask them to. Entries and
    /// events of the object come from the broker's process alone.
    ///
    /// # Errors
    ///
    /// The refusal for the client.
    pub(super) fn check_administration(&self, topic: &BusTopic<'_>) -> Result<bool, Denial> {
        let shared = &self.hub.shared;
        let Some(object) = shared.config.administrative_object.as_deref() else { return Ok(false) };
        if !topic.is_about(object) {
            return Ok(false);
        }
        let principal = &*self.link.principal;
        if !topic.asks(object) {
            return if principal.local {
                Ok(false)
            } else {
                let text = format!("the broker itself serves {object}; serve yours by another name");
                Err(Denial::not_authorized(&text))
            };
        }
        if principal.local || self.link.peer.reach == Reach::Process {
            return Err(not_for_others());
        }
        if shared.access.generation() == 0 && !self.link.peer.reach.is_near() {
            return Err(Denial::not_authorized(
                "without users the broker is administered from its own machine alone, by a loopback address or a unix \
                 socket and not by WebSocket; add [[users]], one of them with roles = [\"admin\"]",
            ));
        }
        shared.access.authorize_administration(Identity { principal, client_id: &self.session.client_id })?;
        Ok(true)
    }
}

/// Returns the refusal of a request to the administrative object on behalf of somebody else.
pub(super) fn not_for_others() -> Denial {
    Denial::not_authorized(
        "an admin administers the broker by a connection of its own, not through gateways, tasks or other objects; use \
         `rantai admin`",
    )
}
