//! Spreading of work that thousands of tasks may want to do at once over rounds of the scheduler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Admits a number of tasks per round of the scheduler, first come, first served. Other tasks run between two rounds:
/// they wait for that number of tasks, and not for all.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Semaphore,
    at_once: usize,
    /// Whether a task is running that releases the places.
    renewing: AtomicBool,
}

impl Turns {
    pub(crate) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self { places: Semaphore::new(at_once), at_once, renewing: AtomicBool::new(false) })
    }

    /// Waits for the caller's turn, which lasts until it awaits something else. If cancelled, no turn is taken.
    pub(crate) async fn take(self: &Arc<Self>) {
        self.places.acquire().await.expect("the semaphore is never closed").forget();
        if !self.renewing.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().renew());
        }
    }

    /// Releases all places, round after round, until none is taken.
    async fn renew(self: Arc<Self>) {
        loop {
            yield_now().await;
            let taken = self.taken();
            if taken > 0 {
                self.places.add_permits(taken);
                continue;
            }
            self.renewing.store(false, Ordering::SeqCst);
            // A place taken just before did not spawn another task, as it saw this one running.
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
    async fn another_task_runs_between_rounds_and_all_have_their_turn() {
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
    async fn one_that_gives_up_takes_no_turn_from_others() {
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
