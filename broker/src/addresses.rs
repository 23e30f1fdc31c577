//! Number of connections per address.

use std::net::IpAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot::Receiver;

use crate::config::Limits;
use crate::handshakes::{Evicted, Handshakes};

/// Connections by address.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<AddressTable>);

#[derive(Debug, Default)]
struct AddressTable {
    /// Number of connections by address, including those without a CONNECT.
    connections: HashMap<IpAddr, usize>,
    handshakes: Handshakes,
}

impl Addresses {
    /// Adds a new connection. Returns `None` if the address has too many. If there are too many handshakes, the oldest
    /// one of this address, or of the address with most, is evicted: clients that proceed with their CONNECT do not
    /// stay in a handshake for long.
    pub(crate) fn enter(&self, address: IpAddr, limits: &Limits) -> Option<(u64, Receiver<Evicted>)> {
        let address = network(address);
        let mut table = self.0.lock();
        let connections = table.connections.entry(address).or_default();
        if *connections >= limits.connections_per_address {
            return None;
        }
        *connections += 1;
        Some(table.handshakes.enter(address, limits))
    }

    /// Records that the CONNECT of a connection was answered.
    pub(crate) fn answered(&self, address: IpAddr, number: u64) {
        self.0.lock().handshakes.leave(network(address), number);
    }

    /// Records that `bytes` of the CONNECT of a connection have arrived so far.
    pub(crate) fn hold(&self, address: IpAddr, number: u64, bytes: usize, limits: &Limits) {
        self.0.lock().handshakes.hold(network(address), number, bytes, limits);
    }

    /// Records that a connection has ended.
    pub(crate) fn leave(&self, address: IpAddr) {
        let mut table = self.0.lock();
        let network = network(address);
        if let Some(connections) = table.connections.get_mut(&network) {
            *connections -= 1;
            if *connections == 0 {
                table.connections.remove(&network);
            }
        }
    }

    /// Evicts up to `most` handshakes, because the process has no file descriptor left. Returns their number.
    pub(crate) fn make_room(&self, most: usize) -> usize {
        self.0.lock().handshakes.evict(most)
    }
}

/// Returns the network that counts as one address: a host with IPv6 has a whole network of 64 bits.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_address_has_its_own_limit_of_connections() {
        let addresses = Addresses::default();
        let limits = Limits { connections_per_address: 2, ..Limits::default() };
        let enter = |from: &str| addresses.enter(address(from), &limits);
        assert!(enter("10.0.0.1").is_some() && enter("::ffff:10.0.0.1").is_some());
        assert!(enter("10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some(), "another address");
        addresses.leave(address("10.0.0.1"));
        assert!(enter("10.0.0.1").is_some());
        for from in ["10.0.0.1", "10.0.0.1", "10.0.0.2"] {
            addresses.leave(address(from));
        }
        assert!(addresses.0.lock().connections.is_empty());
    }

    #[test]
    fn one_handshake_too_many_ends_the_oldest_of_its_address() {
        let addresses = Addresses::default();
        let limits = Limits { handshakes_per_address: 2, ..Limits::default() };
        let enter = |from: &str| addresses.enter(address(from), &limits).expect("places are left");
        let (number, mut first) = enter("10.0.0.1");
        let (_, mut second) = enter("10.0.0.1");
        let (_, mut elsewhere) = enter("10.0.0.2");
        addresses.answered(address("10.0.0.1"), number);
        let (_, mut third) = enter("10.0.0.1");
        assert!(first.try_recv().is_err() && second.try_recv().is_err(), "there was room");
        let (_, mut fourth) = enter("10.0.0.1");
        assert_eq!(second.try_recv(), Ok(Evicted::PerAddress));
        for stays in [&mut elsewhere, &mut third, &mut fourth] {
            assert!(stays.try_recv().is_err());
        }
    }

    #[test]
    fn a_network_of_64_bits_counts_as_one_address() {
        assert_eq!(network(address("2001:db8:1:2:3:4:5:6")), network(address("2001:db8:1:2::9")));
        assert_ne!(network(address("2001:db8:1:2::1")), network(address("2001:db8:1:3::1")));
        assert_ne!(network(address("127.0.0.1")), network(address("127.0.0.2")));
    }
}
