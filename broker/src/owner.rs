//! Owners against whose limits sessions, retained messages and filters count: a user, or for clients without a user an
//! address.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;

use crate::addresses::network;
use crate::log::ClientText;
use crate::tally::Tally;

/// Owner of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// A configured user.
    User(ByteString),
    /// Address (for IPv6 the network of 64 bits) from which the session was begun. Used if no users are configured:
    /// any user name is then accepted, so names must not be counted separately.
    Address(IpAddr),
}

impl Owner {
    /// Returns the owner of sessions begun from `address` by clients that are not a configured user.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self::Address(network(address))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {}", ClientText(user)),
            Self::Address(address) => write!(f, "address {address}"),
        }
    }
}

/// Owner with sessions, and its part of the budgets that change with each message.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) owner: Arc<Owner>,
    /// Number and bytes of the messages queued for absent sessions.
    pub(crate) absent: Tally,
    pub(crate) in_flight: Tally,
}

/// Owners of sessions, with their number of sessions.
#[derive(Debug, Default)]
pub(crate) struct Accounts(HashMap<Arc<Owner>, (Arc<Account>, usize)>);

impl Accounts {
    /// Returns the number of sessions of `owner`.
    pub(crate) fn sessions_of(&self, owner: &Owner) -> usize {
        self.0.get(owner).map_or(0, |(_, count)| *count)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Counts another session. Returns the account of its owner, which all its sessions share.
    pub(crate) fn add(&mut self, owner: Owner) -> Arc<Account> {
        if let Some((account, count)) = self.0.get_mut(&owner) {
            *count += 1;
            return account.clone();
        }
        let owner = Arc::new(owner);
        let account = Account { owner: owner.clone(), absent: Tally::default(), in_flight: Tally::default() };
        let account = Arc::new(account);
        self.0.insert(owner, (account.clone(), 1));
        account
    }

    /// Uncounts an ended session, whose contents were uncounted before.
    pub(crate) fn remove(&mut self, owner: &Owner) {
        if let Some((_, count)) = self.0.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_without_sessions_are_removed() {
        let mut counts = Accounts::default();
        let owners = [Owner::User("ada".into()), Owner::Address([127, 0, 0, 1].into())];
        for owner in &owners {
            counts.add(owner.clone());
            counts.add(owner.clone());
            assert_eq!(counts.sessions_of(owner), 2);
        }
        for owner in &owners {
            counts.remove(owner);
            counts.remove(owner);
            assert_eq!(counts.sessions_of(owner), 0);
        }
        assert_eq!(counts.len(), 0);
    }

    /// Once, each of the 2^64 IPv6 addresses of a host counted separately.
    #[test]
    fn a_network_of_64_bits_is_one_owner() {
        let at = |address: &str| Owner::at(address.parse().expect("an address"));
        assert_eq!(at("2001:db8:1:2:3:4:5:6"), at("2001:db8:1:2::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
