//! Queue of writes that wait for a commit, and their grouping.

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Maximum time to wait for a group to fill.
const MAX_GATHER_TIME: Duration = Duration::from_millis(2);

/// Position in the order of [`Queue::put`]s, starting at 1.
pub type Ticket = u64;

/// Queue that collects writes in a `G` until the committing thread takes them.
#[derive(Default)]
pub struct Queue<G> {
    waiting: Mutex<WaitingWrites<G>>,
    arrived: Condvar,
}

#[derive(Default)]
struct WaitingWrites<G> {
    group: G,
    puts: usize,
    last: Ticket,
    closed: bool,
    /// Whether the thread is to run without a put.
    woken: bool,
}

/// Group of writes to commit together.
#[derive(Debug)]
pub struct Group<G> {
    /// Writes in the order of their puts; the default value if the thread was woken or `until` has passed.
    pub group: G,
    /// Number of puts in the group.
    pub puts: usize,
    /// Ticket of the last put.
    pub last: Ticket,
}

/// Policy for how long the thread waits for a group to fill, based on the previous commit.
///
/// Writers that wait for each other's commit return one after the other. Without a pause, the first would get a commit of
/// its own and the rest would wait for two: 8 publishers on a disk that takes 5 ms per sync then have 1.7 times less
/// throughput. There is no pause for a lone writer.
#[derive(Debug)]
pub struct Pace {
    divisor: u32,
    most: usize,
    /// Number of puts in the previous group.
    puts: usize,
    /// Duration of the previous commit.
    took: Duration,
}

impl Pace {
    /// Waits for as many puts as the previous group had, or `most`, but no longer than 2 ms or the duration of the
    /// previous commit divided by `divisor`.
    pub const fn new(divisor: u32, most: usize) -> Self {
        Self { divisor, most, puts: 0, took: Duration::ZERO }
    }

    /// Records the duration of the previous commit.
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
    /// Calls `add` to append to the waiting group, and wakes the thread. `add` runs under a lock and must not use the queue.
    ///
    /// After [`close`](Self::close), `add` is dropped without being called, and its ticket is never part of a group.
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

    /// Wakes the thread without a put, for other work.
    pub fn wake(&self) {
        self.waiting.lock().woken = true;
        self.arrived.notify_one();
    }

    /// Blocks until the next group; `None` once the queue is closed and empty. Returns a group without puts if the queue
    /// is woken, and at `until`.
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
        let end = Instant::now() + (pace.took / pace.divisor).min(MAX_GATHER_TIME);
        while waiting.puts < pace.puts.min(pace.most)
            && !waiting.closed
            && !self.arrived.wait_until(&mut waiting, end).timed_out()
        {}
        // The thread runs in any case, so the wake-up is consumed.
        waiting.woken = false;
        let (group, puts) = (mem::take(&mut waiting.group), mem::take(&mut waiting.puts));
        pace.puts = puts;
        Some(Group { group, puts, last: waiting.last })
    }

    /// Removes and returns the waiting writes, which the thread then never receives.
    pub fn withdraw(&self) -> G {
        let mut waiting = self.waiting.lock();
        waiting.puts = 0;
        mem::take(&mut waiting.group)
    }

    /// Blocks for `pause`, or until the queue is closed.
    pub fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut waiting = self.waiting.lock();
        while !waiting.closed && !self.arrived.wait_until(&mut waiting, until).timed_out() {}
    }

    /// Closes the queue: it accepts no further puts, and waiting writes are still returned by [`next`](Self::next).
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
    fn writes_are_grouped_in_order_with_the_last_ticket() {
        let (queue, mut pace) = (Queue::default(), Pace::new(1, usize::MAX));
        assert_eq!([1, 2, 3].map(|value| put(&queue, value)), [1, 2, 3]);
        let group = queue.next(&mut pace, None).expect("open");
        assert_eq!((group.group, group.puts, group.last), (vec![1, 2, 3], 3, 3));
        // There is no pause if the last commit took no time.
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
    fn withdrawn_writes_are_in_no_group() {
        let (queue, mut pace) = (Queue::default(), Pace::new(1, usize::MAX));
        put(&queue, 1);
        assert_eq!(queue.withdraw(), [1]);
        put(&queue, 2);
        let group = queue.next(&mut pace, None).expect("open");
        assert_eq!((group.group, group.puts, group.last), (vec![2], 1, 2));
        assert!(queue.withdraw().is_empty());
    }

    #[test]
    fn a_closed_queue_returns_waiting_writes_and_accepts_no_more() {
        let (queue, mut pace) = (Queue::default(), Pace::new(1, usize::MAX));
        put(&queue, 1);
        queue.close();
        assert_eq!(put(&queue, 2), 2);
        let group = queue.next(&mut pace, None).expect("one is left");
        assert_eq!((group.group, group.puts), (vec![1], 1));
        assert!(queue.next(&mut pace, None).is_none());
        // Returns at once.
        queue.pause(Duration::from_hours(1));
    }
}
