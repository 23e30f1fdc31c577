//! Callers: the user properties `caller` and `via` of bus messages, which are set by the broker and never by a client.

use bytestring::ByteString;

use crate::message::Message;
use crate::user_properties::UserProperties;

/// Key of the user on whose behalf a message is sent; absent for a client that did not log in.
const CALLER: &str = "caller";
/// Key of the user that sent a message on behalf of its caller.
const VIA: &str = "via";

/// Value of `caller` on behalf of a client that did not log in: the message has the rights of such a client, not those
/// of the connection.
pub(crate) const NOBODY: &str = "";

/// Key that is `1` if a request is to be refused when its connection may not act for its `caller`, instead of being
/// sent with the connection's own caller.
const ACTING: &str = "acting";

/// Sets `caller` and `via` of a message, replacing those sent by the client.
pub(crate) fn stamp(user: &mut UserProperties, caller: Option<&ByteString>, via: Option<&ByteString>) {
    user.set([(CALLER, caller.map(|caller| &**caller)), (VIA, via.map(|via| &**via))]);
}

/// Returns the user that a client claims to act for, or [`NOBODY`]: its `caller`, if there is exactly one.
pub(crate) fn sent(user: &UserProperties) -> Option<ByteString> {
    let mut sent = user.values(CALLER);
    let caller = sent.next()?;
    sent.next().is_none().then(|| user.share(caller))
}

/// Returns whether a request is to be refused if its connection may not act for its `caller`.
pub(crate) fn is_acting(user: &UserProperties) -> bool {
    user.values(ACTING).any(|value| value == "1")
}

/// Returns the caller of a message that was stamped earlier.
pub(crate) fn of(message: &Message) -> Option<ByteString> {
    sent(&message.properties.user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Properties;

    fn message(user: &[(&'static str, &'static str)]) -> Message {
        let user = user.iter().copied().collect();
        Message { properties: Properties { user, ..Properties::default() }, ..Message::default() }
    }

    #[test]
    fn a_caller_sent_by_the_client_is_replaced_and_other_properties_keep_their_order() {
        let sent = [("a", "1"), ("caller", "root"), ("b", "2"), ("via", "x"), ("caller", "me"), ("a", "3")];
        let rest = [("a", "1"), ("b", "2"), ("a", "3")];
        let mut stamped = message(&sent);
        stamp(&mut stamped.properties.user, None, None);
        assert_eq!(stamped, message(&rest));
        let mut stamped = message(&sent);
        stamp(&mut stamped.properties.user, Some(&"ada".into()), Some(&"gateway".into()));
        assert_eq!(stamped, message(&[&rest[..], &[("caller", "ada"), ("via", "gateway")]].concat()));
        assert_eq!(of(&stamped), Some("ada".into()));
    }

    #[test]
    fn two_callers_count_as_none() {
        let said = |user: &[(&'static str, &'static str)]| sent(&message(user).properties.user);
        assert_eq!(said(&[("a", "b"), ("caller", "ada")]).as_deref(), Some("ada"));
        assert_eq!(said(&[("caller", "ada"), ("caller", "bob")]), None, "which of them?");
        assert_eq!(said(&[("a", "b")]), None);
    }
}
