//! Distribution of the work of thousands of tasks over rounds of the scheduler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Admits a number of tasks per round of the scheduler, first come, first served. Other tasks run between two rounds,
/// and wait for that number of tasks only.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Semaphore,
    at_once: usize,
    /// Whether a task is running that starts the next rounds.
    renewing: AtomicBool,
}

impl Turns {
    pub(crate) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self { places: Semaphore::new(at_once), at_once, renewing: AtomicBool::new(false) })
    }

    /// Waits for the caller's turn, which lasts until its next await. If the future is dropped, no turn is used.
    pub(crate) async fn take(self: &Arc<Self>) {
        self.places.acquire().await.expect("the semaphore is never closed").forget();
        if !self.renewing.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().renew());
        }
    }

    /// Starts round after round, until a round is unused.
    async fn renew(self: Arc<Self>) {
        loop {
            yield_now().await;
            let taken = self.taken();
            if taken > 0 {
                self.places.add_permits(taken);
                continue;
            }
            self.renewing.store(false, Ordering::SeqCst);
            // Checked again, because a place taken in between did not spawn another task while this one was running.
            if self.taken() == 0 || self.renewing.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Returns the number of places taken in this round; all of them while tasks wait.
    fn taken(&self) -> usize {
        self.at_once.saturating_sub(self.places.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn another_task_runs_between_rounds_and_all_get_their_turn() {
        let turns = Turns::new(4);
        let ended = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (turns, ended) = (turns.clone(), ended.clone());
                tokio::spawn(async move {
                    turns.take().await;
                    ended.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        let (mut before, mut rounds) = (0, 0);
        while before < 50 {
            yield_now().await;
            let now = ended.load(Ordering::Relaxed);
            assert!(now - before <= 4, "{} in one round", now - before);
            (before, rounds) = (now, rounds + 1);
        }
        assert!(rounds >= 13, "{rounds}");
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_cancelled_wait_uses_no_turn() {
        let turns = Turns::new(1);
        turns.take().await;
        let given_up = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await }
        });
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled());
        for _ in 0..3 {
            turns.take().await;
        }
        while turns.renewing.load(Ordering::Relaxed) {
            yield_now().await;
        }
        assert_eq!(turns.taken(), 0, "all are free when nobody takes any");
    }
}
