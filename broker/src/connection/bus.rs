//! What the broker does about messages of a bus.

use super::Connection;
use crate::caller;
use crate::message::Message;

impl Connection {
    /// Sets who calls: the user of this connection, or the one that it may act for.
    pub(super) fn say_who_calls(&self, message: &mut Message) {
        let (principal, access) = (&self.principal, &self.hub.shared.access);
        let sent = caller::acted_for(&message.properties.user);
        match sent.filter(|user| access.may_act_for(principal, user)) {
            Some(user) => caller::stamp(message, Some(&user), principal.user.as_ref()),
            None => caller::stamp(message, principal.user.as_ref(), None),
        }
    }
}
