//! How many connections each address has.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::config::Limits;
use crate::shared::Shared;

/// The connections of every address that has any.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<HashMap<IpAddr, Held>>);

#[derive(Debug, Default)]
struct Held {
    /// All connections.
    connections: usize,
    /// Those whose CONNECT has not been answered.
    handshakes: usize,
}

impl Addresses {
    /// Takes a place for a new connection; `Err` says which limit is met.
    fn enter(&self, address: IpAddr, limits: &Limits) -> Result<(), &'static str> {
        let mut table = self.0.lock();
        let held = table.entry(network(address)).or_default();
        if held.connections >= limits.connections_per_address {
            return Err("too many connections from this address");
        }
        if held.handshakes >= limits.handshakes_per_address {
            return Err("too many connections from this address without a CONNECT");
        }
        held.connections += 1;
        held.handshakes += 1;
        Ok(())
    }

    /// The CONNECT of one of its connections has been accepted.
    fn connected(&self, address: IpAddr) {
        if let Some(held) = self.0.lock().get_mut(&network(address)) {
            held.handshakes -= 1;
        }
    }

    /// A connection whose CONNECT was accepted has ended.
    pub(crate) fn leave(&self, address: IpAddr) {
        let mut table = self.0.lock();
        let network = network(address);
        if let Some(held) = table.get_mut(&network) {
            held.connections -= 1;
            if held.connections == 0 {
                table.remove(&network);
            }
        }
    }
}

/// What counts as one address: a host of IPv6 has a whole network of 64 bits to itself.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

/// The place of a connection until its CONNECT is accepted; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
    accepted: bool,
}

impl Place {
    /// Takes a place for a new connection; `Err` says which limit is met.
    pub(crate) fn take(shared: &Arc<Shared>, address: IpAddr) -> Result<Self, &'static str> {
        shared.addresses.enter(address, &shared.config.limits)?;
        Ok(Self { shared: shared.clone(), address, accepted: false })
    }

    /// The CONNECT has been accepted: the connection gives its place back itself, by [`Addresses::leave`].
    pub(crate) fn hand_over(mut self) {
        self.accepted = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.addresses.connected(self.address);
        if !self.accepted {
            self.shared.addresses.leave(self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_address_has_its_own_places_and_gives_them_back() {
        let addresses = Addresses::default();
        let limits = Limits { connections_per_address: 3, handshakes_per_address: 2, ..Limits::default() };
        let enter = |from: &str| addresses.enter(address(from), &limits);
        assert!(enter("10.0.0.1").is_ok() && enter("10.0.0.1").is_ok());
        assert!(enter("10.0.0.1").is_err(), "two handshakes");
        assert!(enter("10.0.0.2").is_ok(), "another address");
        addresses.connected(address("10.0.0.1"));
        assert!(enter("::ffff:10.0.0.1").is_ok(), "the same address");
        addresses.connected(address("10.0.0.1"));
        addresses.connected(address("10.0.0.1"));
        assert!(enter("10.0.0.1").is_err(), "three connections");
        addresses.connected(address("10.0.0.2"));
        for from in ["10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"] {
            addresses.leave(address(from));
        }
        assert!(addresses.0.lock().is_empty());
    }

    #[test]
    fn a_network_of_64_bits_counts_as_one_address() {
        assert_eq!(network(address("2001:db8:1:2:3:4:5:6")), network(address("2001:db8:1:2::9")));
        assert_ne!(network(address("2001:db8:1:2::1")), network(address("2001:db8:1:3::1")));
        assert_ne!(network(address("127.0.0.1")), network(address("127.0.0.2")));
    }
}
