//! Changes in memory that are not on disk yet, and that would be lost if the broker were killed. No packet that
//! depends on them may be acknowledged, even one that finds nothing left to change.

use std::collections::VecDeque;

use bytestring::ByteString;
use hashbrown::HashMap;

use super::Ticket;

/// Capacity that an empty table keeps, in entries.
const KEPT_CAPACITY: usize = 64;

/// Changes that are not on disk yet, by the name of the client or topic that they concern. Always empty without a
/// store.
#[derive(Debug, Default)]
pub(crate) struct Uncommitted {
    by_name: HashMap<ByteString, Ticket>,
    /// Changes in the order of their tickets.
    in_order: VecDeque<(Ticket, ByteString)>,
}

impl Uncommitted {
    /// Records a change that is on disk when `ticket` is.
    pub(crate) fn add(&mut self, name: &ByteString, ticket: Ticket) {
        self.by_name.insert(name.clone(), ticket);
        self.in_order.push_back((ticket, name.clone()));
    }

    /// Returns the ticket of the last change of `name`, if it is not on disk yet.
    pub(crate) fn ticket(&mut self, name: &str, durable: Ticket) -> Option<Ticket> {
        self.forget(durable);
        self.by_name.get(name).copied()
    }

    /// Removes the changes that are on disk.
    pub(crate) fn forget(&mut self, durable: Ticket) {
        while let Some((ticket, name)) = self.in_order.pop_front_if(|(ticket, _)| *ticket <= durable) {
            // The name may have a later change.
            if self.by_name.get(&name) == Some(&ticket) {
                self.by_name.remove(&name);
            }
        }
        if self.in_order.is_empty() && self.in_order.capacity() > KEPT_CAPACITY {
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
    fn memory_of_many_changes_is_freed() {
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
