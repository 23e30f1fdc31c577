//! Queue in segments.
//!
//! A ring buffer that is full moves all its entries into one twice as large: megabytes for a long queue, and at the same
//! moment for every session that gets the same messages. Here growing moves nothing but the pointers to the segments,
//! and a segment is freed once its last entry has left.

use std::collections::VecDeque;
use std::slice;

/// Maximum number of entries in a segment.
const SEGMENT: usize = 64;

/// First in, first out; entries may also be taken from the end. Allocates nothing while it is empty.
#[derive(Debug)]
pub(super) struct Queue<T>(Segments<T>);

#[derive(Debug)]
enum Segments<T> {
    One(VecDeque<T>),
    Many(Box<Many<T>>),
}

#[derive(Debug)]
struct Many<T> {
    /// Two at least, and none is empty.
    segments: VecDeque<VecDeque<T>>,
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
            Segments::Many(many) => many.segments.front()?.front(),
        }
    }

    pub(super) fn back(&self) -> Option<&T> {
        match &self.0 {
            Segments::One(entries) => entries.back(),
            Segments::Many(many) => many.segments.back()?.back(),
        }
    }

    pub(super) fn push_back(&mut self, entry: T) {
        let last = match &mut self.0 {
            Segments::One(entries) => entries,
            Segments::Many(many) => {
                many.len += 1;
                many.segments.back_mut().expect("two at least")
            }
        };
        if last.len() < SEGMENT {
            return last.push_back(entry);
        }
        let mut next = VecDeque::with_capacity(SEGMENT);
        next.push_back(entry);
        match &mut self.0 {
            Segments::One(entries) => {
                let first = std::mem::take(entries);
                let len = first.len() + 1;
                self.0 = Segments::Many(Box::new(Many { segments: VecDeque::from([first, next]), len }));
            }
            Segments::Many(many) => many.segments.push_back(next),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let many = match &mut self.0 {
            Segments::One(entries) => return take_last_frees(entries, VecDeque::pop_front),
            Segments::Many(many) => many,
        };
        let first = many.segments.front_mut()?;
        let taken = first.pop_front();
        many.len -= 1;
        if first.is_empty() {
            many.segments.pop_front();
            self.join();
        }
        taken
    }

    pub(super) fn pop_back(&mut self) -> Option<T> {
        let many = match &mut self.0 {
            Segments::One(entries) => return take_last_frees(entries, VecDeque::pop_back),
            Segments::Many(many) => many,
        };
        let last = many.segments.back_mut()?;
        let taken = last.pop_back();
        many.len -= 1;
        if last.is_empty() {
            many.segments.pop_back();
            self.join();
        }
        taken
    }

    /// Makes a queue whose entries are all in one segment short again.
    fn join(&mut self) {
        if let Segments::Many(many) = &mut self.0
            && many.segments.len() <= 1
        {
            self.0 = Segments::One(many.segments.pop_front().unwrap_or_default());
        }
    }

    /// Removes the entries for which `keep` returns false, oldest first.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match &mut self.0 {
            Segments::One(entries) => entries.retain(keep),
            Segments::Many(many) => {
                many.segments.iter_mut().for_each(|segment| segment.retain(&mut keep));
                many.segments.retain(|segment| !segment.is_empty());
                many.len = many.segments.iter().map(VecDeque::len).sum();
                self.join();
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (first, second) = match &self.0 {
            Segments::One(entries) => (slice::from_ref(entries), &[][..]),
            Segments::Many(many) => many.segments.as_slices(),
        };
        first.iter().chain(second).flatten()
    }

    /// Returns the entries from the newest to the oldest.
    pub(super) fn iter_mut_newest_first(&mut self) -> impl Iterator<Item = &mut T> {
        let (first, second) = match &mut self.0 {
            Segments::One(entries) => (slice::from_mut(entries), &mut [][..]),
            Segments::Many(many) => many.segments.as_mut_slices(),
        };
        let newest_first = second.iter_mut().rev().chain(first.iter_mut().rev());
        newest_first.flat_map(|segment| segment.iter_mut().rev())
    }
}

/// Takes an entry. With the last one the memory of a long segment is freed; that of others is kept, as a queue that is filled and
/// emptied all the time would otherwise allocate each time.
fn take_last_frees<T>(entries: &mut VecDeque<T>, take: impl Fn(&mut VecDeque<T>) -> Option<T>) -> Option<T> {
    let taken = take(entries);
    if entries.is_empty() && entries.capacity() > SEGMENT {
        *entries = VecDeque::new();
    }
    taken
}

impl<T> From<VecDeque<T>> for Queue<T> {
    fn from(entries: VecDeque<T>) -> Self {
        Self(Segments::One(entries))
    }
}

/// Entries of a queue that is consumed, oldest first. Frees the segments as it goes.
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
    fn queue_does_the_same_as_a_ring_buffer() {
        let (mut queue, mut expected) = (Queue::default(), VecDeque::new());
        for number in 0..18_000_u64 {
            // More is pushed than taken for a while, then the other way round.
            let pushes = number % 4_000 < 2_000;
            match (number % 7, pushes) {
                (0, _) => assert_eq!(queue.pop_back(), expected.pop_back()),
                (1..=2, true) | (1..=4, false) => assert_eq!(queue.pop_front(), expected.pop_front()),
                (3, true) if number % 500 == 3 => {
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
        assert!(expected.len() > 3 * SEGMENT, "{}", expected.len());
        assert!(queue.into_iter().eq(expected));
    }

    #[test]
    fn queue_is_freed_as_it_is_taken_from() {
        let mut queue = queue_of(0..10_000);
        let segments = |queue: &Queue<u64>| match &queue.0 {
            Segments::One(entries) => (1, entries.capacity()),
            Segments::Many(many) => (many.segments.len(), many.segments.iter().map(VecDeque::capacity).sum()),
        };
        assert_eq!(segments(&queue), (10_000_usize.div_ceil(SEGMENT), 157 * SEGMENT));
        for _ in 0..9_000 {
            queue.pop_front();
        }
        assert!(segments(&queue).1 <= 1_000 + 2 * SEGMENT, "{:?}", segments(&queue));
        queue.retain(|_| false);
        assert!(queue.is_empty() && queue.pop_front().is_none() && queue.pop_back().is_none());
        let mut queue = queue_of(0..100);
        while queue.pop_back().is_some() {}
        assert_eq!(segments(&queue), (1, SEGMENT), "what a short queue may keep");
    }

    #[test]
    fn empty_queue_is_no_larger_than_a_ring_buffer() {
        assert_eq!(size_of::<Queue<String>>(), size_of::<VecDeque<String>>());
    }
}
