//! Ownership of client ids by users.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use crate::user::UserRecord;
use crate::who::Who;

/// Pattern of client ids: one client id, or all with a common prefix, such as `pi-east` or `ada--*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPattern {
    text: Box<str>,
    is_prefix: bool,
}

/// Error of parsing a pattern of client ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pattern of client ids; write a client id, or its beginning and *")]
pub struct IdPatternError(String);

/// Reason why a client may not connect with its client id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientIdError {
    /// The client id belongs to another user.
    #[error("client id {client_id:?} belongs to user {user}; log in as {user}, or take another client id")]
    Reserved {
        /// The client id.
        client_id: String,
        /// Owner of the client id.
        user: String,
    },
    /// The client id is not the user's own, and users may use only their own client ids (`hardened`).
    #[error("client id {client_id:?} does not belong to user {user}; use one of {patterns}")]
    NotOwn {
        /// The client id.
        client_id: String,
        /// User that the client logged in as.
        user: String,
        /// Patterns of the user's own client ids, separated by commas, for people.
        patterns: String,
    },
}

/// Error of two users that own the same client id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "client ids {pattern} of user {user} and {other_pattern} of user {other} overlap; change one of their client_ids"
)]
pub struct IdConflict {
    user: String,
    pattern: String,
    other: String,
    other_pattern: String,
}

/// Owners of client ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientIds {
    exact: HashMap<Box<str>, Box<str>>,
    prefixes: HashMap<Box<str>, Box<str>>,
    /// Lengths of prefixes, in bytes. A search looks up one prefix per length, regardless of the number of users.
    lengths: BTreeSet<usize>,
    of_user: HashMap<Box<str>, Vec<IdPattern>>,
    hardened: bool,
}

impl IdConflict {
    /// Returns the user whose pattern overlaps with that of another user.
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl IdPattern {
    pub(crate) fn exact(text: &str) -> Self {
        Self { text: text.into(), is_prefix: false }
    }

    pub(crate) fn prefix(text: &str) -> Self {
        Self { text: text.into(), is_prefix: true }
    }

    /// Returns whether a client id matches the pattern.
    pub fn matches(&self, client_id: &str) -> bool {
        if self.is_prefix { client_id.starts_with(&*self.text) } else { *client_id == *self.text }
    }

    /// Returns the single client id that matches; `None` if the pattern is a prefix.
    pub(crate) fn as_exact(&self) -> Option<&str> {
        (!self.is_prefix).then_some(&*self.text)
    }
}

impl FromStr for IdPattern {
    type Err = IdPatternError;

    /// Parses a pattern, in which a `*` at the end matches any text. Fails if a `*` is elsewhere, or if nothing precedes it.
    fn from_str(text: &str) -> Result<Self, IdPatternError> {
        let (before, is_prefix) = text.strip_suffix('*').map_or((text, false), |before| (before, true));
        if before.is_empty() || before.contains('*') {
            return Err(IdPatternError(text.to_owned()));
        }
        Ok(Self { text: before.into(), is_prefix })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

impl ClientIds {
    pub(crate) fn new(users: &[UserRecord], hardened: bool) -> Result<Self, IdConflict> {
        let mut ids = Self { hardened, ..Self::default() };
        for user in users {
            for pattern in &user.client_ids {
                let table = if pattern.is_prefix { &mut ids.prefixes } else { &mut ids.exact };
                if let Some(other) = table.insert(pattern.text.clone(), user.name.as_str().into())
                    && *other != *user.name
                {
                    return Err(conflict(user, pattern, &other, pattern));
                }
                if pattern.is_prefix {
                    ids.lengths.insert(pattern.text.len());
                }
            }
            ids.of_user.insert(user.name.as_str().into(), user.client_ids.clone());
        }
        for user in users {
            for pattern in &user.client_ids {
                if let Some((prefix, other)) =
                    ids.owners_by_prefix(&pattern.text).find(|(_, owner)| *owner != user.name)
                {
                    return Err(conflict(user, pattern, other, &IdPattern::prefix(prefix)));
                }
            }
        }
        Ok(ids)
    }

    /// Returns the user that owns a client id.
    pub(crate) fn owner(&self, client_id: &str) -> Option<&str> {
        let exact = self.exact.get(client_id).map(|owner| &**owner);
        exact.or_else(|| self.owners_by_prefix(client_id).next().map(|(_, owner)| owner))
    }

    pub(crate) fn check(&self, who: &Who<'_>) -> Result<(), ClientIdError> {
        let client_id = who.client_id.to_owned();
        match (self.owner(who.client_id), who.user) {
            (Some(owner), user) if user != Some(owner) => {
                Err(ClientIdError::Reserved { client_id, user: owner.to_owned() })
            }
            (None, Some(user)) if self.hardened => {
                let patterns = self.of_user(user).iter().map(ToString::to_string).collect::<Vec<_>>();
                Err(ClientIdError::NotOwn { client_id, user: user.to_owned(), patterns: patterns.join(", ") })
            }
            _ => Ok(()),
        }
    }

    /// Returns the patterns of a user.
    pub(crate) fn of_user(&self, user: &str) -> &[IdPattern] {
        self.of_user.get(user).map_or(&[], Vec::as_slice)
    }

    /// Returns the prefixes that a text begins with, and their owners.
    fn owners_by_prefix<'a>(&'a self, text: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let lengths = self.lengths.range(..=text.len());
        let entry = |length: &usize| self.prefixes.get_key_value(text.get(..*length)?);
        lengths.filter_map(entry).map(|(prefix, owner)| (&**prefix, &**owner))
    }
}

fn conflict(user: &UserRecord, pattern: &IdPattern, other: &str, other_pattern: &IdPattern) -> IdConflict {
    IdConflict {
        user: user.name.clone(),
        pattern: pattern.to_string(),
        other: other.to_owned(),
        other_pattern: other_pattern.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserRecord {
        UserRecord::new(name).expect("a user name")
    }

    fn patterns(texts: &[&str]) -> Vec<IdPattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    #[test]
    fn client_ids_belong_to_users() {
        let pi = user("pi").client_ids(patterns(&["pi-east", "lab-*"]));
        let ids = ClientIds::new(&[user("ada"), user("ad"), pi], false).expect("no conflict");
        for (id, owner) in [
            ("ada", Some("ada")),
            ("ada--1", Some("ada")),
            ("ad--a", Some("ad")),
            ("ada-1", None),
            ("pi-east", Some("pi")),
            ("pi", None),
            ("lab-é", Some("pi")),
            ("mqttx_1234", None),
        ] {
            assert_eq!(ids.owner(id), owner, "{id}");
        }
    }

    #[test]
    fn reserved_ids_are_refused_to_all_others_and_other_ids_are_free() {
        let check = |hardened, user_name, client_id| {
            let ids = ClientIds::new(&[user("ada"), user("bob")], hardened).expect("no conflict");
            ids.check(&Who { user: user_name, client_id })
        };
        for (who, id) in [(Some("bob"), "ada"), (None, "ada--1"), (None, "ada"), (Some("eve"), "bob--")] {
            assert!(matches!(check(false, who, id), Err(ClientIdError::Reserved { .. })), "{who:?} {id}");
        }
        for (who, id) in [(Some("ada"), "ada--1"), (Some("ada"), "mqttx"), (None, "mqttx"), (None, "adam")] {
            assert_eq!(check(false, who, id), Ok(()), "{who:?} {id}");
        }
        assert_eq!(check(true, Some("ada"), "ada--1"), Ok(()));
        assert_eq!(check(true, None, "mqttx"), Ok(()));
        let error = check(true, Some("ada"), "mqttx").expect_err("not its own");
        assert_eq!(
            error.to_string(),
            "client id \"mqttx\" does not belong to user ada; use one of ada, ada--*"
        );
    }

    #[test]
    fn two_users_cannot_own_one_client_id() {
        for (one, other) in
            [("lab-*", "lab-7"), ("lab-7", "lab-*"), ("a-*", "a-b-*"), ("x", "x"), ("x*", "x*")]
        {
            let users =
                [("ada", one), ("bob", other)].map(|(name, ids)| user(name).client_ids(patterns(&[ids])));
            let error = ClientIds::new(&users, false).expect_err("a conflict").to_string();
            assert!(error.contains("ada") && error.contains("bob") && error.contains("overlap"), "{error}");
        }
        let both = user("ada").client_ids(patterns(&["lab-*", "lab-7"]));
        assert!(ClientIds::new(&[both], false).is_ok(), "one user may have both");
    }

    #[test]
    fn patterns_have_a_star_at_the_end_or_none() {
        for bad in ["", "*", "a*b", "a**"] {
            assert!(bad.parse::<IdPattern>().is_err(), "{bad}");
        }
    }
}
