//! Packet ids of messages at QoS 2 received from the client and not released.

use hashbrown::HashSet;

/// Capacity that the empty set keeps.
const KEPT_CAPACITY: usize = 256;

/// Set of packet ids. Boxed, as most clients send nothing at QoS 2.
#[derive(Debug, Default)]
pub(crate) struct ReceivedIds(Option<Box<HashSet<u16>>>);

impl ReceivedIds {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |ids| ids.len())
    }

    pub(crate) fn contains(&self, id: u16) -> bool {
        self.0.as_ref().is_some_and(|ids| ids.contains(&id))
    }

    pub(crate) fn insert(&mut self, id: u16) {
        self.0.get_or_insert_default().insert(id);
    }

    /// Removes an id. Returns false if the set does not contain it.
    pub(crate) fn remove(&mut self, id: u16) -> bool {
        let Some(ids) = &mut self.0 else { return false };
        let known = ids.remove(&id);
        // Frees the capacity left by a burst.
        if ids.is_empty() && ids.capacity() > KEPT_CAPACITY {
            self.0 = None;
        }
        known
    }
}

impl FromIterator<u16> for ReceivedIds {
    fn from_iter<I: IntoIterator<Item = u16>>(ids: I) -> Self {
        let ids: HashSet<u16> = ids.into_iter().collect();
        Self((!ids.is_empty()).then(|| Box::new(ids)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_until_released_and_memory_of_a_burst_is_freed() {
        let mut ids = ReceivedIds::default();
        assert!(!ids.remove(1) && !ids.contains(1));
        for id in 1..=1_000 {
            ids.insert(id);
        }
        assert!(ids.contains(1_000) && ids.len() == 1_000);
        for id in 1..=1_000 {
            assert!(ids.remove(id) && !ids.remove(id), "{id}");
        }
        assert!(ids.0.is_none());
        assert!([1, 2].into_iter().collect::<ReceivedIds>().contains(2));
        assert!(ReceivedIds::from_iter([]).0.is_none());
    }
}
