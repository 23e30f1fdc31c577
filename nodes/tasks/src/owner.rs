//! Whose a task is, and who asks the ledger.
//!
//! A task belongs to the user who submitted it, by the word of a broker that stamps `caller`, or to nobody. Whoever is
//! not its owner and no admin is told that there is no such task. Clients without a user see what belongs to nobody: where
//! no broker stamps, that is everything.

use rantai_client::object::Context;
use rantai_client::shares::CallerKey;
use serde::{Deserialize, Serialize};

/// What a task or schedule counts against. Stands on disk, and is told to nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) caller: String,
    /// Bytes that it counts as against its caller's share; 0 for what earlier versions made for schedules: it is not
    /// counted.
    pub(crate) bytes: u64,
}

impl Owner {
    /// The user, of rows of earlier versions, which tell it only as the name of a share.
    pub(crate) fn user(&self) -> Option<String> {
        serde_json::from_str(self.caller.strip_prefix("user ")?).ok()
    }
}

/// Who asks the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    /// The user, where the broker vouches for one.
    pub(crate) user: Option<String>,
    /// Whether everybody's tasks are theirs to see and to change.
    pub(crate) is_admin: bool,
    /// Whose share of the ledger what is submitted counts against.
    pub(crate) share_of: CallerKey,
}

impl Asking {
    /// The caller of a method; users named in `admins` are admins.
    pub(crate) fn of(context: &Context, admins: &[String]) -> Self {
        let user = context.caller().map(ToString::to_string);
        let is_admin = user.as_ref().is_some_and(|user| admins.contains(user));
        Self { user, is_admin, share_of: context.share_of.clone() }
    }

    /// A caller without a user.
    pub(crate) fn nobody() -> Self {
        Self { user: None, is_admin: false, share_of: CallerKey::Unnamed }
    }

    /// Whether what belongs to `owner` may be seen and changed.
    pub(crate) fn may_see(&self, owner: Option<&str>) -> bool {
        self.is_admin || self.user.as_deref() == owner
    }
}

/// Who submits tasks, as far as the store has to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Submitter {
    /// Whose share they count against; without one they count against nobody's.
    pub(crate) caller: Option<String>,
    /// Whether they may come after tasks of others.
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
            let share_of = CallerKey::User(name.to_owned());
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
        assert_eq!(of(CallerKey::User("ada \"the first\"".to_owned())).as_deref(), Some("ada \"the first\""));
        assert_eq!(of(CallerKey::Client("ada".to_owned())), None);
        assert_eq!(of(CallerKey::Unnamed), None);
    }
}
