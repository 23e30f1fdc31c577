//! Queue in segments.
//!
//! A full ring buffer moves all its entries to one of twice the size: megabytes for a long queue, and at the same
//! moment for every session that receives the same messages. Here, growing moves only the pointers to the segments,
//! and a segment is freed when its last entry is removed.

use std::collections::VecDeque;
use std::mem;

/// Maximum number of entries in a segment.
const SEGMENT_ENTRIES: usize = 256;
/// Maximum capacity that an empty queue keeps, in entries, so that a queue that is filled and emptied all the time
/// does not allocate each time.
const KEPT_ENTRIES: usize = 64;

/// First in, first out; entries may also be removed at the end. Allocates nothing before the first entry.
#[derive(Debug)]
pub(super) struct Queue<T>(Segments<T>);

#[derive(Debug)]
enum Segments<T> {
    One(VecDeque<T>),
    Many(Box<Many<T>>),
}

/// At least two segments, none of which is empty.
#[derive(Debug)]
struct Many<T> {
    head: VecDeque<T>,
    /// Segments between the first and the last one.
    middle: VecDeque<VecDeque<T>>,
    tail: VecDeque<T>,
    /// Memory of a segment that has become empty, reused for the next one.
    spare: VecDeque<T>,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(Segments::One(VecDeque::new()))
    }
}

impl<T> Queue<T> {
    pub(super) fn len(&self) -> usize {
        match &self.0 {
            Segments::One(entries) => entries.len(),
            Segments::Many(many) => many.len,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn front(&self) -> Option<&T> {
        match &self.0 {
            Segments::One(entries) => entries.front(),
            Segments::Many(many) => many.head.front(),
        }
    }

    pub(super) fn back(&self) -> Option<&T> {
        match &self.0 {
            Segments::One(entries) => entries.back(),
            Segments::Many(many) => many.tail.back(),
        }
    }

    pub(super) fn push_back(&mut self, entry: T) {
        match &mut self.0 {
            Segments::One(entries) if entries.len() < SEGMENT_ENTRIES => entries.push_back(entry),
            Segments::One(entries) => {
                let head = mem::take(entries);
                let len = head.len() + 1;
                let mut tail = VecDeque::with_capacity(SEGMENT_ENTRIES);
                tail.push_back(entry);
                let (middle, spare) = (VecDeque::new(), VecDeque::new());
                self.0 = Segments::Many(Box::new(Many { head, middle, tail, spare, len }));
            }
            Segments::Many(many) => many.push_back(entry),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        match &mut self.0 {
            Segments::One(entries) => take(entries, VecDeque::pop_front),
            Segments::Many(many) => {
                let taken = many.head.pop_front();
                many.len -= 1;
                if many.head.is_empty() {
                    self.mend();
                }
                taken
            }
        }
    }

    pub(super) fn pop_back(&mut self) -> Option<T> {
        match &mut self.0 {
            Segments::One(entries) => take(entries, VecDeque::pop_back),
            Segments::Many(many) => {
                let taken = many.tail.pop_back();
                many.len -= 1;
                if many.tail.is_empty() {
                    self.mend();
                }
                taken
            }
        }
    }

    /// Removes the entries for which `keep` returns false, oldest first.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match &mut self.0 {
            Segments::One(entries) => entries.retain(keep),
            Segments::Many(many) => {
                many.head.retain(&mut keep);
                many.middle.iter_mut().for_each(|segment| segment.retain(&mut keep));
                many.tail.retain(&mut keep);
                many.middle.retain(|segment| !segment.is_empty());
                many.len =
                    many.head.len() + many.middle.iter().map(VecDeque::len).sum::<usize>() + many.tail.len();
                self.mend();
            }
        }
    }

    /// Replaces the first and the last segment if they are empty. A queue with one remaining segment becomes a short
    /// one again.
    fn mend(&mut self) {
        let Segments::Many(many) = &mut self.0 else { return };
        if many.head.is_empty() {
            let next = many.middle.pop_front();
            let emptied = mem::replace(&mut many.head, next.unwrap_or_default());
            if many.spare.capacity() == 0 {
                many.spare = emptied;
            }
        }
        if many.tail.is_empty()
            && let Some(last) = many.middle.pop_back()
        {
            many.tail = last;
        }
        if many.head.is_empty() {
            self.0 = Segments::One(mem::take(&mut many.tail));
        } else if many.tail.is_empty() {
            self.0 = Segments::One(mem::take(&mut many.head));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (first, others) = match &self.0 {
            Segments::One(entries) => (entries, None),
            Segments::Many(many) => (&many.head, Some(many)),
        };
        let others = others.into_iter().flat_map(|many| many.middle.iter().flatten().chain(&many.tail));
        first.iter().chain(others)
    }

    /// Returns the entries from the newest to the oldest.
    pub(super) fn iter_mut_newest_first(&mut self) -> impl Iterator<Item = &mut T> {
        let (first, middle, last) = match &mut self.0 {
            Segments::One(entries) => (entries, None, None),
            Segments::Many(many) => (&mut many.head, Some(&mut many.middle), Some(&mut many.tail)),
        };
        let newest = last.into_iter().flat_map(|tail| tail.iter_mut().rev());
        let middle = middle.into_iter().flat_map(|middle| middle.iter_mut().rev());
        newest.chain(middle.flat_map(|segment| segment.iter_mut().rev())).chain(first.iter_mut().rev())
    }
}

impl<T> Many<T> {
    fn push_back(&mut self, entry: T) {
        if self.tail.len() >= SEGMENT_ENTRIES {
            let mut next = mem::take(&mut self.spare);
            next.reserve_exact(SEGMENT_ENTRIES);
            self.middle.push_back(mem::replace(&mut self.tail, next));
        }
        self.tail.push_back(entry);
        self.len += 1;
    }
}

/// Removes an entry. Frees the memory of a queue that was long with its last entry.
fn take<T>(entries: &mut VecDeque<T>, take: impl Fn(&mut VecDeque<T>) -> Option<T>) -> Option<T> {
    let taken = take(entries);
    if entries.is_empty() && entries.capacity() > KEPT_ENTRIES {
        *entries = VecDeque::new();
    }
    taken
}

impl<T> From<VecDeque<T>> for Queue<T> {
    fn from(entries: VecDeque<T>) -> Self {
        Self(Segments::One(entries))
    }
}

/// Iterator over the entries of a queue that is consumed, oldest first. Frees the segments during the iteration.
#[derive(Debug)]
pub(super) struct IntoEntries<T>(Queue<T>);

impl<T> Iterator for IntoEntries<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.pop_front()
    }
}

impl<T> IntoIterator for Queue<T> {
    type Item = T;
    type IntoIter = IntoEntries<T>;

    fn into_iter(self) -> IntoEntries<T> {
        IntoEntries(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_of(entries: std::ops::Range<u64>) -> Queue<u64> {
        let mut queue = Queue::default();
        entries.for_each(|entry| queue.push_back(entry));
        queue
    }

    #[test]
    fn queue_behaves_like_a_ring_buffer() {
        let (mut queue, mut expected) = (Queue::default(), VecDeque::new());
        for number in 0..50_000_u64 {
            // For a while more entries are added than removed, then the other way round.
            let grows = number % 20_000 < 10_000;
            match (number % 7, grows) {
                (0, _) => assert_eq!(queue.pop_back(), expected.pop_back()),
                (1, true) | (1..=4, false) => assert_eq!(queue.pop_front(), expected.pop_front()),
                (3, _) if number % 5_000 < 7 => {
                    queue.retain(|entry| entry % 3 != 0);
                    expected.retain(|entry| entry % 3 != 0);
                }
                _ => {
                    queue.push_back(number);
                    expected.push_back(number);
                }
            }
            assert_eq!(
                (queue.len(), queue.front(), queue.back()),
                (expected.len(), expected.front(), expected.back())
            );
            if number % 97 == 0 {
                assert!(queue.iter().eq(&expected), "after {number}");
                assert!(queue.iter_mut_newest_first().eq(expected.iter_mut().rev()));
            }
        }
        assert!(expected.len() > 4 * SEGMENT_ENTRIES, "{}", expected.len());
        assert!(queue.into_iter().eq(expected));
    }

    #[test]
    fn queue_is_freed_as_it_is_taken_from() {
        let capacity = |queue: &Queue<u64>| match &queue.0 {
            Segments::One(entries) => entries.capacity(),
            Segments::Many(many) => {
                let middle: usize = many.middle.iter().map(VecDeque::capacity).sum();
                many.head.capacity() + middle + many.tail.capacity() + many.spare.capacity()
            }
        };
        let mut queue = queue_of(0..10_000);
        assert_eq!(capacity(&queue), 10_000_usize.next_multiple_of(SEGMENT_ENTRIES));
        for _ in 0..9_000 {
            queue.pop_front();
        }
        assert!(capacity(&queue) <= 1_000 + 3 * SEGMENT_ENTRIES, "{}", capacity(&queue));
        queue.retain(|_| false);
        assert!(queue.is_empty() && queue.pop_front().is_none() && queue.pop_back().is_none());
        for (entries, kept) in [(3 * SEGMENT_ENTRIES as u64, 0), (KEPT_ENTRIES as u64, KEPT_ENTRIES)] {
            let mut queue = queue_of(0..entries);
            while queue.pop_back().is_some() {}
            assert_eq!(capacity(&queue), kept, "of {entries}");
        }
    }

    #[test]
    fn empty_queue_is_no_larger_than_a_ring_buffer() {
        assert_eq!(size_of::<Queue<String>>(), size_of::<VecDeque<String>>());
    }
}
