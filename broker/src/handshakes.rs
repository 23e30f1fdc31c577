//! Handshakes: connections whose CONNECT has not been answered, their limits, and eviction.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hashbrown::HashMap;
use tokio::sync::oneshot::{Receiver, Sender, channel};

use crate::config::Limits;

/// Number of bytes of an unfinished CONNECT that count as one place; each further 4 KiB count as another.
const PLACE_BYTES: usize = 4 << 10;

/// Reason for evicting a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evicted {
    /// Its address has too many handshakes.
    PerAddress,
    /// There are too many in total, and no address has more than this one.
    InAll,
}

/// All handshakes, by address. An address with many loses one before an address with few.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    by_address: HashMap<IpAddr, AddressHandshakes>,
    /// Addresses ordered by the places they use, and among equals by their oldest handshake. The last address in this
    /// order loses a handshake first.
    crowded: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
    places: usize,
    /// Number of the next handshake.
    next: u64,
}

/// Handshakes of one address.
#[derive(Debug, Default)]
struct AddressHandshakes {
    by_age: BTreeMap<u64, Handshake>,
    places: usize,
}

#[derive(Debug)]
struct Handshake {
    places: usize,
    evict: Sender<Evicted>,
}

impl Handshakes {
    /// Adds a handshake. Returns its number, and a receiver that is ready once it is evicted. If there are too many of
    /// the address or in total, others are evicted.
    pub(crate) fn enter(&mut self, address: IpAddr, limits: &Limits) -> (u64, Receiver<Evicted>) {
        let number = self.next;
        self.next += 1;
        let (evict, evicted) = channel();
        self.change(address, |waiting| {
            waiting.places += 1;
            waiting.by_age.insert(number, Handshake { places: 1, evict });
        });
        self.make_room_for(address, number, limits);
        (number, evicted)
    }

    /// Records that `bytes` of the CONNECT of a handshake have arrived so far.
    pub(crate) fn hold(&mut self, address: IpAddr, number: u64, bytes: usize, limits: &Limits) {
        let places = 1 + bytes / PLACE_BYTES;
        self.change(address, |waiting| {
            if let Some(handshake) = waiting.by_age.get_mut(&number) {
                waiting.places = waiting.places - handshake.places + places;
                handshake.places = places;
            }
        });
        self.make_room_for(address, number, limits);
    }

    /// Removes a handshake. Returns false if it was evicted before.
    pub(crate) fn leave(&mut self, address: IpAddr, number: u64) -> bool {
        self.remove(address, number).is_some()
    }

    /// Evicts up to `most` handshakes, from the addresses with most first. Returns their number.
    pub(crate) fn evict(&mut self, most: usize) -> usize {
        (0..most).take_while(|_| self.evict_from_most_crowded(None)).count()
    }

    fn make_room_for(&mut self, address: IpAddr, number: u64, limits: &Limits) {
        while let Some(waiting) = self.by_address.get(&address)
            && waiting.places > limits.handshakes_per_address
            && let Some(&oldest) = waiting.by_age.keys().find(|&&other| other != number)
        {
            self.dismiss(address, oldest, Evicted::PerAddress);
        }
        while self.places > limits.handshakes && self.evict_from_most_crowded(Some(number)) {}
    }

    /// Evicts the oldest handshake of the address with most. Returns false if there is none other than `alone`.
    fn evict_from_most_crowded(&mut self, alone: Option<u64>) -> bool {
        let Some(&(_, Reverse(oldest), address)) = self.crowded.last() else { return false };
        if self.crowded.len() == 1 && alone == Some(oldest) && self.by_address[&address].by_age.len() == 1 {
            return false;
        }
        self.dismiss(address, oldest, Evicted::InAll);
        true
    }

    fn dismiss(&mut self, address: IpAddr, number: u64, why: Evicted) {
        if let Some(handshake) = self.remove(address, number) {
            // Fails if the handshake has ended.
            let _ = handshake.evict.send(why);
        }
    }

    fn remove(&mut self, address: IpAddr, number: u64) -> Option<Handshake> {
        self.change(address, |waiting| {
            let handshake = waiting.by_age.remove(&number)?;
            waiting.places -= handshake.places;
            Some(handshake)
        })
    }

    /// Changes the handshakes of an address, and updates all counts.
    fn change<T>(&mut self, address: IpAddr, change: impl FnOnce(&mut AddressHandshakes) -> T) -> T {
        let waiting = self.by_address.entry(address).or_default();
        if let Some(rank) = waiting.rank(address) {
            self.crowded.remove(&rank);
        }
        self.places -= waiting.places;
        let result = change(waiting);
        self.places += waiting.places;
        match waiting.rank(address) {
            Some(rank) => drop(self.crowded.insert(rank)),
            None => drop(self.by_address.remove(&address)),
        }
        result
    }
}

impl AddressHandshakes {
    /// Returns the position of the address in the order of eviction; `None` without handshakes.
    fn rank(&self, address: IpAddr) -> Option<(usize, Reverse<u64>, IpAddr)> {
        let (&oldest, _) = self.by_age.first_key_value()?;
        Some((self.places, Reverse(oldest), address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    fn limits(handshakes: usize, handshakes_per_address: usize) -> Limits {
        Limits { handshakes_per_address, handshakes, ..Limits::default() }
    }

    /// Returns the indexes of the `receivers` whose handshakes were evicted, with the reasons.
    fn evicted(receivers: &mut [(u64, Receiver<Evicted>)]) -> Vec<(usize, Evicted)> {
        let each = receivers.iter_mut().enumerate();
        each.filter_map(|(index, (_, receiver))| Some((index, receiver.try_recv().ok()?))).collect()
    }

    #[test]
    fn an_address_with_many_handshakes_loses_one_first() {
        let mut handshakes = Handshakes::default();
        let limits = limits(5, 5);
        let mut entered: Vec<_> = [1, 2, 2, 3, 2].map(|from| handshakes.enter(address(from), &limits)).into();
        assert_eq!(evicted(&mut entered), []);
        entered.push(handshakes.enter(address(4), &limits));
        assert_eq!(evicted(&mut entered), [(1, Evicted::InAll)], "the oldest of the second address");
        entered.push(handshakes.enter(address(5), &limits));
        assert_eq!(evicted(&mut entered), [(2, Evicted::InAll)]);
        entered.push(handshakes.enter(address(6), &limits));
        assert_eq!(evicted(&mut entered), [(0, Evicted::InAll)], "each has one: the oldest of all");
    }

    #[test]
    fn long_connects_take_several_places() {
        let mut handshakes = Handshakes::default();
        let limits = limits(10, 100);
        let mut entered: Vec<_> = (0..5).map(|number| handshakes.enter(address(number), &limits)).collect();
        let large = entered[4].0;
        handshakes.hold(address(4), large, PLACE_BYTES - 1, &limits);
        assert_eq!(handshakes.places, 5);
        handshakes.hold(address(4), large, 5 * PLACE_BYTES, &limits);
        assert_eq!((handshakes.places, evicted(&mut entered)), (10, vec![]));
        entered.push(handshakes.enter(address(5), &limits));
        assert_eq!(evicted(&mut entered), [(4, Evicted::InAll)], "it holds most");
        assert!(!handshakes.leave(address(4), large));
        let mut many = vec![handshakes.enter(address(9), &limits), handshakes.enter(address(9), &limits)];
        handshakes.hold(address(9), many[0].0, 200 * PLACE_BYTES, &limits);
        assert_eq!(evicted(&mut many), [(0, Evicted::InAll), (1, Evicted::PerAddress)]);
    }

    #[test]
    fn a_single_handshake_is_kept_regardless_of_its_size() {
        let mut handshakes = Handshakes::default();
        let limits = limits(1, 1);
        let mut entered = [handshakes.enter(address(1), &limits)];
        handshakes.hold(address(1), entered[0].0, 50 * PLACE_BYTES, &limits);
        assert_eq!(evicted(&mut entered), []);
    }

    #[test]
    fn ended_handshakes_leave_no_entries() {
        let mut handshakes = Handshakes::default();
        let limits = limits(100, 100);
        for from in 0..3 {
            for _ in 0..10 {
                let (number, _) = handshakes.enter(address(from), &limits);
                handshakes.hold(address(from), number, 3 * PLACE_BYTES, &limits);
                if from > 0 {
                    assert!(handshakes.leave(address(from), number));
                }
            }
        }
        assert_eq!((handshakes.by_address.len(), handshakes.places), (1, 40));
        assert_eq!(handshakes.evict(4), 4);
        assert_eq!(handshakes.evict(100), 6);
        assert!(handshakes.by_address.is_empty() && handshakes.crowded.is_empty() && handshakes.places == 0);
    }
}
