//! Threads that serve connections.
//!
//! Each thread has its own runtime, and a connection stays on one thread with its task, its timers and its socket. A
//! publisher's task appends to the outboxes of subscribers on all threads and writes them, so that a message wakes no
//! other thread of the broker.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Maximum number of threads if their number is not configured.
const MAX_DEFAULT_THREADS: usize = 4;

/// Returns the number of threads that serve connections; `configured` is the setting, where 0 stands for one per core,
/// up to [`MAX_DEFAULT_THREADS`].
pub(crate) fn threads(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, NonZero::get).min(MAX_DEFAULT_THREADS),
        threads => threads,
    }
}

/// Threads that serve connections: the one on which the broker was started, and others. Dropping it ends the others
/// with their remaining connections.
#[derive(Debug)]
pub(crate) struct Workers {
    own: Handle,
    others: Vec<Worker>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Dropped to end the thread.
    _running: oneshot::Sender<()>,
}

impl Workers {
    /// Starts the additional threads, so that there are `threads` in total with the current one.
    ///
    /// # Errors
    ///
    /// A thread or its runtime could not be created.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let others = (1..threads).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { own: Handle::current(), others, next: AtomicUsize::new(0) })
    }

    /// Returns the runtime for the next connection; `None` for the one on which the broker was started. The threads
    /// take turns, because the load of a connection is unknown until it has begun.
    pub(crate) fn other(&self) -> Option<&Handle> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        self.others.get(turn.checked_sub(1)?).map(|worker| &worker.runtime)
    }

    /// Waits until each of the other threads has run a task. Never returns if a thread is blocked.
    pub(crate) async fn answer(&self) {
        for worker in &self.others {
            // Fails if the thread is ending.
            let _ = worker.runtime.spawn(async {}).await;
        }
    }

    /// Returns the runtime on which the broker was started.
    pub(crate) fn own(&self) -> &Handle {
        &self.own
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("rantai-broker-{number}")).spawn(move || {
            // Ends with an error when the sender is dropped.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _running: running })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_given_to_each_thread_in_turn_and_threads_end_with_their_owner() {
        let workers = Workers::start(3).expect("threads");
        let ids: Vec<_> = (0..6).map(|_| workers.other().map(Handle::id)).collect();
        assert_eq!(ids[..3], ids[3..]);
        assert!(ids[0].is_none() && ids[1].is_some() && ids[2].is_some() && ids[1] != ids[2]);
        let running = workers.other().is_none().then(|| workers.other().expect("another").clone());
        let task = running.expect("the own one first").spawn(std::future::pending::<()>());
        drop(workers);
        assert!(task.await.expect_err("it never ends by itself").is_cancelled());
    }

    #[tokio::test]
    async fn a_blocked_thread_does_not_answer() {
        let workers = Workers::start(2).expect("threads");
        workers.answer().await;
        let (release, stuck) = std::sync::mpsc::channel::<()>();
        let blocked = workers.others[0].runtime.spawn(async move { stuck.recv() });
        let answers = tokio::time::timeout(std::time::Duration::from_millis(50), workers.answer());
        assert!(answers.await.is_err());
        drop(release);
        workers.answer().await;
        assert!(blocked.await.expect("no panic").is_err());
    }

    #[test]
    fn the_default_is_a_thread_for_each_core_up_to_four() {
        assert!((1..=MAX_DEFAULT_THREADS).contains(&threads(0)));
        assert_eq!(threads(7), 7);
    }
}
