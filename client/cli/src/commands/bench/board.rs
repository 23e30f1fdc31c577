//! Messages that are published and have not reached all subscribers yet.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use rantai_client::session::Unsent;
use rantai_load::latencies::Latencies;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::tally::Problem;

/// Length of the header of every payload, which identifies the message: the run, the publisher, and the publisher's number
/// of the message.
pub(super) const HEADER: usize = 20;

/// Identity of a message of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) publisher: u32,
    pub(super) number: u64,
}

/// Messages in flight. Its size depends on how many are in flight, not on how many were published.
#[derive(Debug)]
pub(super) struct Board {
    run: u64,
    subscribers: usize,
    state: Mutex<BoardState>,
}

#[derive(Debug)]
struct BoardState {
    waiting: HashMap<Key, Waiting>,
    /// Last number of each publisher.
    numbers: Vec<u64>,
    seen: DeliveryCounts,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    /// Number of subscribers that have not received the message.
    left: usize,
    told: oneshot::Sender<Result<(), Problem>>,
}

/// Counts of the deliveries.
#[derive(Clone, Debug)]
pub(super) struct DeliveryCounts {
    pub(super) deliveries: u64,
    pub(super) bytes: u64,
    /// Messages whose number is not above the previous one of their publisher.
    pub(super) out_of_order: u64,
    /// Messages that arrived after the wait for them had ended.
    pub(super) too_late: u64,
    /// Messages of another run, or of another client.
    pub(super) foreign: u64,
    /// Time from when a message was due to be published until a subscriber received it.
    pub(super) latencies: Latencies,
}

impl DeliveryCounts {
    fn new() -> Self {
        Self {
            deliveries: 0,
            bytes: 0,
            out_of_order: 0,
            too_late: 0,
            foreign: 0,
            latencies: Latencies::new(),
        }
    }
}

impl Key {
    /// Returns the token by which a session reports the outcome of publishing; never 0.
    pub(super) fn token(self) -> u128 {
        (u128::from(self.publisher) + 1) << 64 | u128::from(self.number)
    }

    pub(super) fn of_token(token: u128) -> Option<Self> {
        let publisher = u32::try_from(token >> 64).ok()?.checked_sub(1)?;
        Some(Self { publisher, number: token as u64 })
    }
}

impl Board {
    /// Creates a board; `run` distinguishes messages of this run from those of others.
    pub(super) fn new(run: u64, publishers: usize, subscribers: usize) -> Self {
        let state =
            BoardState { waiting: HashMap::new(), numbers: vec![0; publishers], seen: DeliveryCounts::new() };
        Self { run, subscribers, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().expect("nobody panics with it")
    }

    /// Adds a message of a publisher; the receiver gets the result once all subscribers have received it.
    pub(super) fn expect(
        &self,
        publisher: usize,
        due: Instant,
    ) -> (Key, oneshot::Receiver<Result<(), Problem>>) {
        let (told, word) = oneshot::channel();
        let mut state = self.state();
        state.numbers[publisher] += 1;
        let key = Key { publisher: publisher as u32, number: state.numbers[publisher] };
        state.waiting.insert(key, Waiting { due, left: self.subscribers, told });
        (key, word)
    }

    /// Returns the header of a message.
    pub(super) fn header(&self, key: Key) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&self.run.to_be_bytes());
        header[8..12].copy_from_slice(&key.publisher.to_be_bytes());
        header[12..].copy_from_slice(&key.number.to_be_bytes());
        header
    }

    /// Records that a subscriber received a message; `last` contains the last number of each publisher that it received.
    pub(super) fn arrived(&self, payload: &[u8], last: &mut [u64]) {
        let now = Instant::now();
        let mut state = self.state();
        let BoardState { waiting, seen, .. } = &mut *state;
        let key = self.key(payload);
        let Some((key, last)) = key.and_then(|key| Some((key, last.get_mut(key.publisher as usize)?))) else {
            seen.foreign += 1;
            return;
        };
        if key.number <= *last {
            seen.out_of_order += 1;
            return;
        }
        *last = key.number;
        let Some(message) = waiting.get_mut(&key) else {
            seen.too_late += 1;
            return;
        };
        seen.deliveries += 1;
        seen.bytes += payload.len() as u64;
        seen.latencies.record(now.saturating_duration_since(message.due));
        message.left -= 1;
        if message.left == 0
            && let Some(done) = waiting.remove(&key)
        {
            // The receiver is gone if the run has ended.
            let _ = done.told.send(Ok(()));
        }
    }

    fn key(&self, payload: &[u8]) -> Option<Key> {
        let (run, rest) = payload.split_first_chunk::<8>()?;
        let (publisher, rest) = rest.split_first_chunk::<4>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        let key = Key { publisher: u32::from_be_bytes(*publisher), number: u64::from_be_bytes(*number) };
        (u64::from_be_bytes(*run) == self.run).then_some(key)
    }

    /// Records that a message could not be published.
    pub(super) fn refused(&self, key: Key, error: &Unsent) {
        if let Some(refused) = self.state().waiting.remove(&key) {
            let _ = refused.told.send(Err(error.into()));
        }
    }

    /// Stops waiting for a message; returns how many subscribers have received it: all, if it arrived in the meantime.
    pub(super) fn give_up(&self, key: Key) -> usize {
        let waiting = self.state().waiting.remove(&key);
        self.subscribers - waiting.map_or(0, |waiting| waiting.left)
    }

    /// Returns the counts since the last call, and resets them.
    pub(super) fn take_seen(&self) -> DeliveryCounts {
        std::mem::replace(&mut self.state().seen, DeliveryCounts::new())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sent(board: &Board, publisher: usize) -> (Vec<u8>, Key, oneshot::Receiver<Result<(), Problem>>) {
        let (key, word) = board.expect(publisher, Instant::now());
        (board.header(key).to_vec(), key, word)
    }

    #[tokio::test(start_paused = true)]
    async fn message_is_done_when_all_subscribers_have_received_it() {
        let board = Board::new(7, 2, 2);
        let (mut one, mut two) = ([0; 2], [0; 2]);
        let (message, _, mut word) = sent(&board, 1);
        tokio::time::advance(Duration::from_millis(3)).await;
        board.arrived(&message, &mut one);
        assert!(word.try_recv().is_err(), "not yet");
        tokio::time::advance(Duration::from_millis(2)).await;
        board.arrived(&message, &mut two);
        assert_eq!(word.try_recv(), Ok(Ok(())));
        let seen = board.take_seen();
        let DeliveryCounts { deliveries, bytes, out_of_order, too_late, foreign, latencies } = seen;
        assert_eq!((deliveries, bytes, out_of_order, too_late, foreign), (2, 40, 0, 0, 0));
        let times = latencies.summary().expect("two");
        assert!(
            (times.min / 3_000.0 - 1.0).abs() < 0.001 && (times.max / 5_000.0 - 1.0).abs() < 0.001,
            "{times:?}"
        );
        assert_eq!(board.take_seen().deliveries, 0, "counted anew");
        assert!(board.state().waiting.is_empty());
    }

    #[tokio::test]
    async fn duplicate_late_and_foreign_messages_do_not_count_as_deliveries() {
        let board = Board::new(7, 1, 2);
        let mut last = [0];
        let (first, ..) = sent(&board, 0);
        let (second, key, mut word) = sent(&board, 0);
        board.arrived(&second, &mut last);
        board.arrived(&second, &mut last);
        board.arrived(&first, &mut last);
        assert!(word.try_recv().is_err(), "the same subscriber twice is not two");
        assert_eq!(board.give_up(key), 1);
        board.arrived(&second, &mut [0]);
        let mut elsewhere = Board::new(8, 1, 2).header(key).to_vec();
        board.arrived(&elsewhere, &mut last);
        elsewhere.truncate(5);
        board.arrived(&elsewhere, &mut last);
        let nobody = board.header(Key { publisher: 1, number: 9 });
        board.arrived(&nobody, &mut last);
        let seen = board.take_seen();
        assert_eq!((seen.deliveries, seen.out_of_order, seen.too_late, seen.foreign), (1, 2, 1, 3));
    }

    #[test]
    fn refused_publish_fails_its_message() {
        let board = Board::new(7, 3, 1);
        let (_, key, mut word) = sent(&board, 2);
        assert_eq!(Key::of_token(key.token()), Some(key));
        assert_eq!(Key::of_token(0), None);
        board.refused(key, &Unsent::NobodyThere);
        let problem = word.try_recv().expect("told").expect_err("refused");
        assert_eq!(problem.kind, "nobody_there");
        assert_eq!(board.give_up(key), 1, "there is nothing to give up");
    }
}
