//! What waits to be committed, and how it is taken in groups.

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Longest wait for a group to fill.
const GATHER: Duration = Duration::from_millis(2);

/// A place in the order of [`Queue::put`]s, from 1 on.
pub type Ticket = u64;

/// Collects what is put into a `G` until the thread that commits takes it.
#[derive(Default)]
pub struct Queue<G> {
    waiting: Mutex<Waiting<G>>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting<G> {
    group: G,
    puts: usize,
    last: Ticket,
    closed: bool,
    /// The thread is to run without a put.
    woken: bool,
}

/// What has gathered.
#[derive(Debug)]
pub struct Group<G> {
    /// What was put, in order; the default where the thread was woken or its time came.
    pub group: G,
    /// How many puts that were.
    pub puts: usize,
    /// The ticket of the last of them.
    pub last: Ticket,
}

/// How long the thread waits for a group to fill, by how the last commit went.
///
/// Writers that wait for each other's commit come back one after the other. Without a pause the first of them would have
/// a commit of its own and the rest wait for two: 8 publishers on a disk that takes 5 ms a sync then get 1.7 times less
/// through. A lone writer is never waited for.
#[derive(Debug)]
pub struct Pace {
    divisor: u32,
    most: usize,
    /// Puts of the group before.
    puts: usize,
    /// What its commit took.
    took: Duration,
}

impl Pace {
    /// Waits for as many puts as the last group had, or `most`, for at most its time divided by `divisor`, and 2 ms.
    pub const fn new(divisor: u32, most: usize) -> Self {
        Self { divisor, most, puts: 0, took: Duration::ZERO }
    }

    /// The commit of the last group took this long.
    pub fn took(&mut self, time: Duration) {
        self.took = time;
    }
}

impl<G> fmt::Debug for Queue<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl<G: Default> Queue<G> {
    /// Has `add` append to what waits, and wakes the thread. `add` runs under a lock and must not use the queue.
    ///
    /// After [`close`](Self::close) `add` is dropped without being called, and its ticket is never part of a group.
    pub fn put(&self, add: impl FnOnce(&mut G)) -> Ticket {
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        let ticket = waiting.last;
        if waiting.closed {
            return ticket;
        }
        add(&mut waiting.group);
        waiting.puts += 1;
        drop(waiting);
        self.arrived.notify_one();
        ticket
    }

    /// Wakes the thread without a put: there is something else for it to do.
    pub fn wake(&self) {
        self.waiting.lock().woken = true;
        self.arrived.notify_one();
    }

    /// Waits for the next group; `None` once the queue is closed and empty. A group without puts is returned when the
    /// queue is woken, and at `until`.
    pub fn next(&self, pace: &mut Pace, until: Option<Instant>) -> Option<Group<G>> {
        let mut waiting = self.waiting.lock();
        while waiting.puts == 0 {
            if waiting.closed {
                return None;
            }
            let time_came = until.is_some_and(|until| until <= Instant::now());
            if mem::take(&mut waiting.woken) || time_came {
                return Some(Group { group: G::default(), puts: 0, last: waiting.last });
            }
            match until {
                Some(until) => {
                    self.arrived.wait_until(&mut waiting, until);
                }
                None => self.arrived.wait(&mut waiting),
            }
        }
        let end = Instant::now() + (pace.took / pace.divisor).min(GATHER);
        while waiting.puts < pace.puts.min(pace.most)
            && !waiting.closed
            && !self.arrived.wait_until(&mut waiting, end).timed_out()
        {}
        // The thread runs anyway.
        waiting.woken = false;
        let (group, puts) = (mem::take(&mut waiting.group), mem::take(&mut waiting.puts));
        pace.puts = puts;
        Some(Group { group, puts, last: waiting.last })
    }

    /// Takes what waits away from the thread, which then never sees it.
    pub fn withdraw(&self) -> G {
        let mut waiting = self.waiting.lock();
        waiting.puts = 0;
        mem::take(&mut waiting.group)
    }

    /// Waits, but not beyond the close.
    pub fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut waiting = self.waiting.lock();
        while !waiting.closed && !self.arrived.wait_until(&mut waiting, until).timed_out() {}
    }

    /// Takes nothing more; what waits is still to be committed.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(queue: &Queue<Vec<u8>>, value: u8) -> Ticket {
        queue.put(|group| group.push(value))
    }

    #[test]
    fn what_gathers_is_one_group_in_order_with_the_last_ticket() {
        let (queue, mut pace) = (Queue::default(), Pace::new(1, usize::MAX));
        assert_eq!([1, 2, 3].map(|value| put(&queue, value)), [1, 2, 3]);
        let group = queue.next(&mut pace, None).expect("open");
        assert_eq!((group.group, group.puts, group.last), (vec![1, 2, 3], 3, 3));
        // Nothing is waited for where the last commit took no time.
        put(&queue, 4);
        let group = queue.next(&mut pace, None).expect("open");
        assert_eq!((group.group, group.puts, group.last), (vec![4], 1, 4));
    }

    #[test]
    fn a_group_without_puts_is_returned_when_woken_or_at_its_time() {
        let (queue, mut pace) = (Queue::<Vec<u8>>::default(), Pace::new(1, usize::MAX));
        queue.wake();
        assert_eq!(queue.next(&mut pace, None).expect("open").puts, 0);
        assert_eq!(queue.next(&mut pace, Some(Instant::now())).expect("open").puts, 0);
    }

    #[test]
    fn what_is_withdrawn_is_in_no_group() {
        let (queue, mut pace) = (Queue::default(), Pace::new(1, usize::MAX));
        put(&queue, 1);
        assert_eq!(queue.withdraw(), [1]);
        put(&queue, 2);
        let group = queue.next(&mut pace, None).expect("open");
        assert_eq!((group.group, group.puts, group.last), (vec![2], 1, 2));
        assert!(queue.withdraw().is_empty());
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_has_and_takes_nothing_more() {
        let (queue, mut pace) = (Queue::default(), Pace::new(1, usize::MAX));
        put(&queue, 1);
        queue.close();
        assert_eq!(put(&queue, 2), 2);
        let group = queue.next(&mut pace, None).expect("one is left");
        assert_eq!((group.group, group.puts), (vec![1], 1));
        assert!(queue.next(&mut pace, None).is_none());
        // Ends at once.
        queue.pause(Duration::from_hours(1));
    }
}
