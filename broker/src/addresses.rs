//! How many connections each address has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot::{Receiver, Sender, channel};

use crate::config::Limits;

/// The connections of every address that has any.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_address: HashMap<IpAddr, Held>,
    /// The number of the next handshake.
    next: u64,
}

#[derive(Debug, Default)]
struct Held {
    connections: usize,
    /// Those whose CONNECT has not been answered, by age; told when they have to go.
    handshakes: BTreeMap<u64, Sender<()>>,
}

/// A connection has been let in, without a CONNECT so far.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) number: u64,
    /// Ready when others of its address need the place.
    pub(crate) evicted: Receiver<()>,
}

impl Addresses {
    /// Takes a place for a new connection; none where the address has too many. One handshake too many ends the oldest one
    /// of the address: whoever goes on with its CONNECT is soon over it.
    pub(crate) fn enter(&self, address: IpAddr, limits: &Limits) -> Option<Entered> {
        let mut table = self.0.lock();
        let number = table.next;
        table.next += 1;
        let held = table.by_address.entry(network(address)).or_default();
        if held.connections >= limits.connections_per_address {
            return None;
        }
        if held.handshakes.len() >= limits.handshakes_per_address
            && let Some((_, oldest)) = held.handshakes.pop_first()
        {
            let _ = oldest.send(());
        }
        held.connections += 1;
        let (sender, evicted) = channel();
        held.handshakes.insert(number, sender);
        Some(Entered { number, evicted })
    }

    /// The CONNECT of one of its connections has been answered.
    pub(crate) fn answered(&self, address: IpAddr, number: u64) {
        if let Some(held) = self.0.lock().by_address.get_mut(&network(address)) {
            held.handshakes.remove(&number);
        }
    }

    /// A connection has ended.
    pub(crate) fn leave(&self, address: IpAddr) {
        let mut table = self.0.lock();
        let network = network(address);
        if let Some(held) = table.by_address.get_mut(&network) {
            held.connections -= 1;
            if held.connections == 0 {
                table.by_address.remove(&network);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_address_has_its_own_places_and_gives_them_back() {
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
        assert!(addresses.0.lock().by_address.is_empty());
    }

    #[test]
    fn one_handshake_too_many_ends_the_oldest_of_its_address() {
        let addresses = Addresses::default();
        let limits = Limits { handshakes_per_address: 2, ..Limits::default() };
        let enter = |from: &str| addresses.enter(address(from), &limits).expect("places are left");
        let mut first = enter("10.0.0.1");
        let mut second = enter("10.0.0.1");
        let mut elsewhere = enter("10.0.0.2");
        addresses.answered(address("10.0.0.1"), first.number);
        let mut third = enter("10.0.0.1");
        assert!(first.evicted.try_recv().is_err() && second.evicted.try_recv().is_err(), "there was room");
        let mut fourth = enter("10.0.0.1");
        assert_eq!(second.evicted.try_recv(), Ok(()));
        for stays in [&mut elsewhere, &mut third, &mut fourth] {
            assert!(stays.evicted.try_recv().is_err());
        }
    }

    #[test]
    fn a_network_of_64_bits_counts_as_one_address() {
        assert_eq!(network(address("2001:db8:1:2:3:4:5:6")), network(address("2001:db8:1:2::9")));
        assert_ne!(network(address("2001:db8:1:2::1")), network(address("2001:db8:1:3::1")));
        assert_ne!(network(address("127.0.0.1")), network(address("127.0.0.2")));
    }
}
