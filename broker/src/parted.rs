//! Hash map that grows in parts.
//!
//! A full hash table moves all its entries to one of twice the size: half a millisecond for ten thousand filters,
//! during which the thread does nothing else. From [`MAX_WHOLE`] entries on, a map is therefore split into [`PARTS`]
//! tables, each of which grows separately.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Maximum number of entries in one table before it is split.
const MAX_WHOLE: usize = 1_024;
/// Number of tables of a map after it was split.
const PARTS: usize = 64;

/// Entries by hash, in one table or split into parts.
#[derive(Debug)]
pub(crate) struct PartedTable<T>(Tables<T>);

#[derive(Debug)]
enum Tables<T> {
    Whole(HashTable<T>),
    Parted(Box<Parts<T>>),
}

#[derive(Debug)]
struct Parts<T> {
    tables: [HashTable<T>; PARTS],
    len: usize,
}

impl<T> Default for PartedTable<T> {
    fn default() -> Self {
        Self(Tables::Whole(HashTable::new()))
    }
}

/// Returns the part of an entry. hashbrown uses the highest and the lowest bits of a hash within a table.
fn part(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}

impl<T> PartedTable<T> {
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Tables::Whole(table) => table.len(),
            Tables::Parted(parts) => parts.len,
        }
    }

    pub(crate) fn find(&self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<&T> {
        match &self.0 {
            Tables::Whole(table) => table.find(hash, is_same),
            Tables::Parted(parts) => parts.tables[part(hash)].find(hash, is_same),
        }
    }

    fn find_mut(&mut self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<&mut T> {
        match &mut self.0 {
            Tables::Whole(table) => table.find_mut(hash, is_same),
            Tables::Parted(parts) => parts.tables[part(hash)].find_mut(hash, is_same),
        }
    }

    /// Returns the existing entry, or inserts the one that `new` returns. `hasher` is called for entries that are
    /// moved.
    pub(crate) fn find_or_insert(
        &mut self,
        hash: u64,
        is_same: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
        new: impl FnOnce() -> T,
    ) -> &mut T {
        if matches!(&self.0, Tables::Whole(table) if table.len() >= MAX_WHOLE) {
            self.split(&hasher);
        }
        let (table, len) = match &mut self.0 {
            Tables::Whole(table) => (table, None),
            Tables::Parted(parts) => (&mut parts.tables[part(hash)], Some(&mut parts.len)),
        };
        match table.entry(hash, is_same, hasher) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                if let Some(len) = len {
                    *len += 1;
                }
                entry.insert(new()).into_mut()
            }
        }
    }

    /// Removes an entry. The memory of a table is released when the last entry of the map is removed.
    pub(crate) fn remove(&mut self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<T> {
        let removed = match &mut self.0 {
            Tables::Whole(table) => Some(table.find_entry(hash, is_same).ok()?.remove().0),
            Tables::Parted(parts) => {
                let removed = parts.tables[part(hash)].find_entry(hash, is_same).ok()?.remove().0;
                parts.len -= 1;
                Some(removed)
            }
        };
        if self.len() == 0 {
            *self = Self::default();
        }
        removed
    }

    /// Returns all entries, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let tables = match &self.0 {
            Tables::Whole(table) => std::slice::from_ref(table),
            Tables::Parted(parts) => &parts.tables[..],
        };
        tables.iter().flatten()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn split(&mut self, hasher: impl Fn(&T) -> u64) {
        let Tables::Whole(whole) = &mut self.0 else { return };
        let whole = std::mem::take(whole);
        let mut parts = Box::new(Parts { tables: [const { HashTable::new() }; PARTS], len: whole.len() });
        for entry in whole {
            let hash = hasher(&entry);
            parts.tables[part(hash)].insert_unique(hash, entry, &hasher);
        }
        self.0 = Tables::Parted(parts);
    }
}

/// Iterator over the entries of a table that is consumed. The memory of each part is released after its last entry.
#[derive(Debug)]
pub(crate) struct IntoEntries<T> {
    current: hashbrown::hash_table::IntoIter<T>,
    rest: Option<(Box<Parts<T>>, usize)>,
    len: usize,
}

impl<T> Iterator for IntoEntries<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(entry) = self.current.next() {
                self.len -= 1;
                return Some(entry);
            }
            let (parts, next) = self.rest.as_mut()?;
            self.current = std::mem::take(parts.tables.get_mut(*next)?).into_iter();
            *next += 1;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl<T> ExactSizeIterator for IntoEntries<T> {}

impl<T> IntoIterator for PartedTable<T> {
    type Item = T;
    type IntoIter = IntoEntries<T>;

    fn into_iter(self) -> IntoEntries<T> {
        let len = self.len();
        match self.0 {
            Tables::Whole(table) => IntoEntries { current: table.into_iter(), rest: None, len },
            Tables::Parted(parts) => {
                IntoEntries { current: HashTable::new().into_iter(), rest: Some((parts, 0)), len }
            }
        }
    }
}

/// Map that grows in parts. Allocates nothing while it is empty.
#[derive(Debug)]
pub(crate) struct PartedMap<K, V> {
    hasher: DefaultHashBuilder,
    table: PartedTable<(K, V)>,
}

impl<K, V> Default for PartedMap<K, V> {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), table: PartedTable::default() }
    }
}

impl<K, V> PartedMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all entries, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.table.iter().map(|(key, value)| (key, value))
    }

    /// Returns all keys, in no particular order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.table.iter().map(|(key, _)| key)
    }

    /// Returns all keys, in no particular order, and releases memory during the iteration.
    pub(crate) fn into_keys(self) -> impl ExactSizeIterator<Item = K> {
        self.table.into_iter().map(|(key, _)| key)
    }
}

impl<K: Hash + Eq, V> PartedMap<K, V> {
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let found = self.table.find(self.hasher.hash_one(key), |(other, _)| other.borrow() == key);
        found.map(|(_, value)| value)
    }

    pub(crate) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let found = self.table.find_mut(self.hasher.hash_one(key), |(other, _)| other.borrow() == key);
        found.map(|(_, value)| value)
    }

    pub(crate) fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Adds or replaces an entry.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let hash = self.hasher.hash_one(&key);
        if let Some((_, known)) = self.table.find_mut(hash, |(other, _)| *other == key) {
            *known = value;
            return;
        }
        let hasher = |(key, _): &(K, V)| self.hasher.hash_one(key);
        self.table.find_or_insert(hash, |_| false, hasher, || (key, value));
    }

    /// Returns the value of a key, after adding the default value if there is none.
    pub(crate) fn get_or_default<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> &mut V
    where
        K: Borrow<Q> + for<'a> From<&'a Q>,
        V: Default,
    {
        let hash = self.hasher.hash_one(key);
        let hasher = |(key, _): &(K, V)| self.hasher.hash_one(key);
        let is_same = |(other, _): &(K, V)| other.borrow() == key;
        &mut self.table.find_or_insert(hash, is_same, hasher, || (key.into(), V::default())).1
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let removed = self.table.remove(self.hasher.hash_one(key), |(other, _)| other.borrow() == key);
        removed.map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn large_map_has_what_was_inserted_and_not_removed() {
        let (mut map, mut expected) = (PartedMap::<Box<str>, usize>::default(), BTreeMap::new());
        for number in 0..20_000_usize {
            let key = number.wrapping_mul(0x9e37) % 7_919;
            match number % 3 {
                0 => {
                    map.insert(key.to_string().into(), number);
                    expected.insert(key, number);
                }
                1 => {
                    *map.get_or_default(&*key.to_string()) += 1;
                    *expected.entry(key).or_default() += 1;
                }
                _ => assert_eq!(map.remove(&*key.to_string()), expected.remove(&key)),
            }
            assert_eq!(map.len(), expected.len());
        }
        assert!(map.len() > 2 * MAX_WHOLE, "{}", map.len());
        for key in 0..7_919 {
            assert_eq!(map.get(&*key.to_string()), expected.get(&key));
            assert_eq!(map.get_mut(&*key.to_string()), expected.get_mut(&key));
        }
        assert_eq!(map.keys().count(), expected.len());
        let mut keys = map.into_keys();
        for left in (0..expected.len()).rev() {
            assert!(expected.remove(&keys.next().expect("left").parse().expect("a number")).is_some());
            assert_eq!(keys.len(), left);
        }
        assert!(keys.next().is_none() && expected.is_empty());
    }

    #[test]
    fn no_insertion_moves_more_than_a_small_part_of_the_entries() {
        let moved = Cell::new(0);
        let hasher = |value: &u64| {
            moved.set(moved.get() + 1);
            value.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        let (mut table, mut most) = (PartedTable::default(), 0);
        for number in 0..200_000_u64 {
            let hash = hasher(&number);
            moved.set(0);
            table.find_or_insert(hash, |other| *other == number, hasher, || number);
            most = most.max(moved.get());
        }
        assert_eq!(table.len(), 200_000);
        // Entries of a part's table, and those inserted while the map was split.
        assert!(most <= 2 * 200_000 / PARTS, "{most} moved at once");
    }

    #[test]
    fn empty_map_holds_no_memory() {
        let mut map = PartedMap::<String, ()>::default();
        for number in 0..2 * MAX_WHOLE {
            map.insert(number.to_string(), ());
        }
        assert!(matches!(map.table.0, Tables::Parted(_)));
        for number in 0..2 * MAX_WHOLE {
            assert!(map.remove(&number.to_string()).is_some());
        }
        assert!(map.is_empty() && !map.contains_key("1"));
        assert!(matches!(&map.table.0, Tables::Whole(table) if table.capacity() == 0));
        assert_eq!(size_of::<PartedMap<String, ()>>(), size_of::<hashbrown::HashMap<String, ()>>());
    }
}
