//! Who a client is, and what it wants to do.

use bytestring::ByteString;

use crate::caller::NOBODY;

/// The user name of connections from the broker's own process, also in the records of their sessions.
pub(crate) const LOCAL_USER: &str = "$local";

/// Who a client is: made once, at CONNECT, and carried by its session and by everything it publishes, its will
/// included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The user it logged in as; none for a client that did not, and for the broker's own process.
    pub(crate) user: Option<ByteString>,
    /// Whether it is the broker's own process, which may do everything and acts for everybody.
    pub(crate) local: bool,
    /// Nobody has checked the user name: without users any name is taken for what it says. It counts for nothing once
    /// there are rules.
    pub(crate) claimed: bool,
}

impl Principal {
    /// Whoever has logged in as a user.
    pub(crate) fn of_user(user: ByteString) -> Self {
        Self { user: Some(user), ..Self::default() }
    }

    /// The user that it is; none where nobody has checked the name.
    pub(crate) fn checked_user(&self) -> Option<&str> {
        self.caller().map(|user| &**user)
    }

    /// The user that its messages are from; none where nobody has checked the name.
    pub(crate) fn caller(&self) -> Option<&ByteString> {
        self.user.as_ref().filter(|_| !self.claimed)
    }

    /// What it would send as the `caller` of its own messages.
    pub(crate) fn caller_or_nobody(&self) -> &str {
        self.checked_user().unwrap_or(NOBODY)
    }

    /// The name in the record of a session; none for nobody.
    pub(crate) fn recorded(&self) -> Option<ByteString> {
        if self.local {
            return Some(ByteString::from_static(LOCAL_USER));
        }
        self.user.clone().filter(|_| !self.claimed)
    }

    /// From the record of a session. One that was written without a user is nobody's.
    pub(crate) fn of_record(user: Option<ByteString>) -> Self {
        let local = user.as_deref() == Some(LOCAL_USER);
        Self { user: user.filter(|_| !local), local, claimed: false }
    }

    /// Its user name for a log line.
    pub(crate) fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("-")
    }
}

/// What a client wants to do with a topic or a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Publish to a topic, now or by its will.
    Publish,
    /// Subscribe to a filter, now or by a session that was kept on disk.
    Subscribe,
    /// Get a message on a topic that it has subscribed to.
    Receive,
    /// Ask for a reply on a topic.
    ReplyTo,
}
