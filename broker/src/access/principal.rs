//! Principals (identities of clients) and actions.

use bytestring::ByteString;

use crate::caller::NOBODY;

/// User name of connections from the broker's own process, also used in the records of their sessions.
pub(crate) const LOCAL_USER: &str = "$local";

/// Identity of a client: created once at CONNECT, and carried by its session and everything it publishes, including its
/// will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Principal {
    /// User that the client has logged in as; `None` for an anonymous client and for the broker's own process.
    pub(crate) user: Option<ByteString>,
    /// Whether this is the broker's own process, which may do everything and acts for everyone.
    pub(crate) local: bool,
    /// Whether the user name was not verified. Without users, any name is accepted; it is ignored if rules are added
    /// later.
    pub(crate) claimed: bool,
}

impl Principal {
    /// Returns the principal of a client that has logged in as a user.
    pub(crate) fn of_user(user: ByteString) -> Self {
        Self { user: Some(user), ..Self::default() }
    }

    /// Returns the user name; `None` if it was not verified.
    pub(crate) fn checked_user(&self) -> Option<&str> {
        self.caller().map(|user| &**user)
    }

    /// Returns the user whose messages they are; `None` if the name was not verified.
    pub(crate) fn caller(&self) -> Option<&ByteString> {
        self.user.as_ref().filter(|_| !self.claimed)
    }

    /// Returns the value of `caller` for the client's own messages.
    pub(crate) fn caller_or_nobody(&self) -> &str {
        self.checked_user().unwrap_or(NOBODY)
    }

    /// Returns the user name for the stored record of a session; `None` for an anonymous client.
    pub(crate) fn recorded(&self) -> Option<ByteString> {
        if self.local {
            return Some(ByteString::from_static(LOCAL_USER));
        }
        self.user.clone().filter(|_| !self.claimed)
    }

    /// Creates the principal from the stored record of a session. A record without a user belongs to an anonymous
    /// client.
    pub(crate) fn of_record(user: Option<ByteString>) -> Self {
        let local = user.as_deref() == Some(LOCAL_USER);
        Self { user: user.filter(|_| !local), local, claimed: false }
    }

    /// Returns the user name for a log line.
    pub(crate) fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("-")
    }
}

/// Action on a topic or a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Publish to a topic, now or by a will.
    Publish,
    /// Subscribe to a filter, now or by a session restored from disk.
    Subscribe,
    /// Receive a message on a topic that the client has subscribed to.
    Receive,
    /// Name a topic as the Response Topic of a request.
    ReplyTo,
}
