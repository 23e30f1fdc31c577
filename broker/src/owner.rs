//! Who sessions, retained messages and filters count for: a user, or the address of clients that are nobody.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;

use crate::addresses::network;
use crate::log::ClientText;
use crate::tally::Tally;

/// Who a session counts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// A configured user.
    User(ByteString),
    /// The address (an IPv6 network of 64 bits) from which it was begun. Where any user name is taken, a name is no reason
    /// to count anew.
    Address(IpAddr),
}

impl Owner {
    /// Whoever begins sessions from `address` without being a configured user.
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

/// An owner with sessions, and what these hold of budgets that change with messages.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) owner: Arc<Owner>,
    /// What is queued while their clients are away.
    pub(crate) absent: Tally,
    pub(crate) in_flight: Tally,
}

/// The owners of sessions, and how many each of them has.
#[derive(Debug, Default)]
pub(crate) struct Accounts(HashMap<Arc<Owner>, (Arc<Account>, usize)>);

impl Accounts {
    /// How many sessions `owner` has.
    pub(crate) fn sessions_of(&self, owner: &Owner) -> usize {
        self.0.get(owner).map_or(0, |(_, count)| *count)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Counts another session, and returns the account of its owner, which all sessions of one owner share.
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

    /// A session has ended, which holds nothing any more.
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
    fn nothing_is_left_of_owners_without_sessions() {
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

    /// A host has 2^64 addresses of IPv6, each of which counted anew.
    #[test]
    fn a_network_of_64_bits_is_one_owner() {
        let at = |address: &str| Owner::at(address.parse().expect("an address"));
        assert_eq!(at("2001:db8:1:2:3:4:5:6"), at("2001:db8:1:2::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
