//! What the broker does about messages of a bus.

use super::Connection;
use crate::caller;
use crate::message::Message;

impl Connection {
    /// Sets who calls: the user of this connection, or the one that it may act for.
    pub(super) fn say_who_calls(&self, message: &mut Message) {
        let principal = &self.principal;
        match caller::acted_for(principal, &message.properties.user) {
            Some(user) => caller::stamp(message, Some(&user), principal.name()),
            None => caller::stamp(message, principal.user.as_ref(), None),
        }
    }
}
