//! Access checks for the object that administers the broker.

use super::Connection;
use crate::access::Denial;
use crate::bus::BusTopic;
use crate::peer::{Identity, Reach};

impl Connection {
    /// Checks whether this client may publish on a topic of the administrative object. Returns whether the message is
    /// a request to that object.
    ///
    /// With access rules, requests require the right to write `$CONTROL/rantai/admin`, which the role admin has.
    /// Without rules, only programs on the broker's machine may send them. They must come from the admin's own
    /// connection, not from a gateway, a ledger, an object in the broker's process or a bridge, which act for others.
    /// Only the broker's process may publish entries and events of the object.
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
        if principal.local || self.link.peer.reach == Reach::Process || self.link.peer.bridge {
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

/// Returns the refusal of a request to the administrative object on behalf of another user.
pub(super) fn not_for_others() -> Denial {
    Denial::not_authorized(
        "an admin administers the broker by a connection of its own, not through gateways, bridges, tasks or other objects; use \
         `rantai admin`",
    )
}
