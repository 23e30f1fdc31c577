//! Owners of tasks, and callers of the ledger.
//!
//! A task belongs to the user that submitted it, as stamped by the broker in `caller`, or to no user. Other callers that
//! are not admins receive an error as if the task did not exist. Clients without a user see the tasks that belong to no
//! user: with a broker that does not stamp callers, these are all tasks.

use rantai_client::object::Context;
use rantai_client::shares::CallerKey;
use serde::{Deserialize, Serialize};

/// Share that a task or schedule counts against. Stored on disk, and never returned to callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) caller: String,
    /// Bytes that count against the caller's share. 0 for tasks that earlier versions created for schedules, which do not
    /// count.
    pub(crate) bytes: u64,
}

impl Owner {
    /// Returns the user of a row written by an earlier version, which contains it only in the name of the share.
    pub(crate) fn user(&self) -> Option<String> {
        serde_json::from_str(self.caller.strip_prefix("user ")?).ok()
    }
}

/// Caller of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    /// User of the caller, as stamped by the broker.
    pub(crate) user: Option<String>,
    /// Whether the caller may see and change the tasks of all users.
    pub(crate) is_admin: bool,
    /// Share that submissions count against.
    pub(crate) share_of: CallerKey,
}

impl Asking {
    /// Returns the caller of a method; users named in `admins` are admins.
    pub(crate) fn of(context: &Context, admins: &[String]) -> Self {
        let user = context.caller().map(ToString::to_string);
        let is_admin = user.as_ref().is_some_and(|user| admins.contains(user));
        Self { user, is_admin, share_of: context.share_of.clone() }
    }

    /// Returns a caller without a user.
    pub(crate) fn nobody() -> Self {
        Self { user: None, is_admin: false, share_of: CallerKey::Unnamed }
    }

    /// Returns whether the caller may see and change what belongs to `owner`.
    pub(crate) fn may_see(&self, owner: Option<&str>) -> bool {
        self.is_admin || self.user.as_deref() == owner
    }
}

/// Submitter of tasks, as known to the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Submitter {
    /// Share that tasks count against; `None` if they do not count against any.
    pub(crate) caller: Option<String>,
    /// Whether tasks may depend on those of others.
    pub(crate) is_admin: bool,
}

impl From<&Asking> for Submitter {
    fn from(asking: &Asking) -> Self {
        Self { caller: Some(asking.share_of.to_string()), is_admin: asking.is_admin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_and_admins_see_what_belongs_to_a_user() {
        let user = |name: &str, is_admin| {
            let share_of = CallerKey::User(name.parse().expect("a name"));
            Asking { user: Some(name.to_owned()), is_admin, share_of }
        };
        let (ada, bob, root, nobody) =
            (user("ada", false), user("bob", false), user("root", true), Asking::nobody());
        for (owner, expected) in
            [(Some("ada"), [true, false, true, false]), (None, [false, false, true, true])]
        {
            assert_eq!([&ada, &bob, &root, &nobody].map(|asking| asking.may_see(owner)), expected);
        }
    }

    #[test]
    fn rows_of_earlier_versions_tell_their_user_by_their_share() {
        let of = |caller: CallerKey| Owner { caller: caller.to_string(), bytes: 1 }.user();
        assert_eq!(
            of(CallerKey::User("ada \"the first\"".parse().expect("a name"))).as_deref(),
            Some("ada \"the first\"")
        );
        assert_eq!(of(CallerKey::Client("ada".parse().expect("an id"))), None);
        assert_eq!(of(CallerKey::Unnamed), None);
    }
}
