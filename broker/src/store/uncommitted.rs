//! Changes in memory that are not on disk yet, and that a broker which is killed does not know: nothing may be said of them,
//! also where a later packet finds nothing left to change.

use std::collections::VecDeque;

use bytestring::ByteString;
use hashbrown::HashMap;

use super::Ticket;

/// Capacity that an empty table keeps.
const KEPT_PLACES: usize = 64;

/// Changes that are not on disk yet, by what they removed or changed: a client id, or a topic. Empty without a store.
#[derive(Debug, Default)]
pub(crate) struct Uncommitted {
    by_name: HashMap<ByteString, Ticket>,
    /// By rising ticket.
    in_order: VecDeque<(Ticket, ByteString)>,
}

impl Uncommitted {
    /// Notes a change that is on disk once `ticket` is.
    pub(crate) fn add(&mut self, name: &ByteString, ticket: Ticket) {
        self.by_name.insert(name.clone(), ticket);
        self.in_order.push_back((ticket, name.clone()));
    }

    /// Returns the ticket of the last change of `name`, if it is not on disk yet.
    pub(crate) fn ticket(&mut self, name: &str, durable: Ticket) -> Option<Ticket> {
        self.forget(durable);
        self.by_name.get(name).copied()
    }

    /// Forgets the changes that are on disk.
    pub(crate) fn forget(&mut self, durable: Ticket) {
        while let Some((ticket, name)) = self.in_order.pop_front_if(|(ticket, _)| *ticket <= durable) {
            // It may have changed once more since.
            if self.by_name.get(&name) == Some(&ticket) {
                self.by_name.remove(&name);
            }
        }
        if self.in_order.is_empty() && self.in_order.capacity() > KEPT_PLACES {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_until_their_last_change_is_on_disk() {
        let mut changes = Uncommitted::default();
        let (a, b) = (ByteString::from_static("a"), ByteString::from_static("b"));
        changes.add(&a, 3);
        changes.add(&b, 4);
        changes.add(&a, 7);
        assert_eq!(
            (changes.ticket("a", 0), changes.ticket("b", 3), changes.ticket("c", 3)),
            (Some(7), Some(4), None)
        );
        assert_eq!((changes.ticket("a", 6), changes.ticket("b", 6)), (Some(7), None));
        assert_eq!(changes.ticket("a", 7), None);
        assert!(changes.by_name.is_empty() && changes.in_order.is_empty());
    }

    #[test]
    fn memory_of_many_changes_is_given_back() {
        let mut changes = Uncommitted::default();
        for ticket in 1..=1_000 {
            changes.add(&format!("name {ticket}").into(), ticket);
        }
        changes.forget(999);
        assert!(changes.in_order.capacity() >= 1_000);
        changes.forget(1_000);
        assert_eq!((changes.in_order.capacity(), changes.by_name.capacity()), (0, 0));
    }
}
