//! Who calls: the user properties `caller` and `via` of messages on a bus, which are the broker's word and never a client's.

use bytestring::ByteString;

use crate::access::Principal;
use crate::message::Message;

/// The user that a message is from; none for a client that did not log in.
const CALLER: &str = "caller";
/// The user that has passed a message on for the user who called.
const VIA: &str = "via";

type UserProperties = Vec<(ByteString, ByteString)>;

/// Sets `caller` and `via` of a message, and removes what its client has sent of them.
pub(crate) fn stamp(message: &mut Message, caller: Option<&ByteString>, via: Option<&ByteString>) {
    let user = &mut message.properties.user;
    user.retain(|(key, _)| key != CALLER && key != VIA);
    let mut set = |key: &'static str, value: Option<&ByteString>| {
        user.extend(value.map(|value| (ByteString::from_static(key), value.clone())));
    };
    set(CALLER, caller);
    set(VIA, via);
}

/// The user that a client says it acts for: its one `caller`, if it may act for that user.
pub(crate) fn acted_for(principal: &Principal, user: &UserProperties) -> Option<ByteString> {
    let mut sent = user.iter().filter(|(key, _)| key == CALLER);
    let (_, caller) = sent.next()?;
    (sent.next().is_none() && principal.acts_for(caller)).then(|| caller.clone())
}

/// The caller of a message that was stamped before.
pub(crate) fn of(message: &Message) -> Option<&ByteString> {
    message.properties.user.iter().find(|(key, _)| key == CALLER).map(|(_, caller)| caller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Properties;

    fn message(user: &[(&'static str, &'static str)]) -> Message {
        let user = user.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        Message { properties: Properties { user, ..Properties::default() }, ..Message::default() }
    }

    #[test]
    fn what_a_client_says_of_itself_is_replaced_and_the_rest_keeps_its_order() {
        let sent = [("a", "1"), ("caller", "root"), ("b", "2"), ("via", "x"), ("caller", "me"), ("a", "3")];
        let rest = [("a", "1"), ("b", "2"), ("a", "3")];
        let mut stamped = message(&sent);
        stamp(&mut stamped, None, None);
        assert_eq!(stamped, message(&rest));
        let mut stamped = message(&sent);
        stamp(&mut stamped, Some(&"ada".into()), Some(&"gateway".into()));
        assert_eq!(stamped, message(&[&rest[..], &[("caller", "ada"), ("via", "gateway")]].concat()));
        assert_eq!(of(&stamped), Some(&"ada".into()));
    }

    #[test]
    fn a_client_acts_for_one_user_and_only_where_it_may() {
        let local = Principal { local: true, ..Principal::default() };
        let acted_for = |principal: &Principal, sent: &[(&'static str, &'static str)]| {
            acted_for(principal, &message(sent).properties.user).map(|user| user.to_string())
        };
        assert_eq!(acted_for(&local, &[("a", "b"), ("caller", "ada")]).as_deref(), Some("ada"));
        assert_eq!(acted_for(&local, &[("caller", "ada"), ("caller", "bob")]), None, "which of them?");
        assert_eq!(acted_for(&local, &[("a", "b")]), None);
        assert_eq!(acted_for(&Principal::default(), &[("caller", "ada")]), None);
    }
}
