//! Thread for the public-key cryptography of TLS handshakes, so that a flood of handshakes does not delay the messages of
//! clients that are connected.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rantai_credentials::lower_priority;
use tokio::sync::oneshot;

use crate::transport::{Computation, Computed};

/// Handle to the thread, which ends when this is dropped.
pub(crate) struct Computing(Sender<Job>);

/// A step of one handshake. At most one per handshake waits, and the number of handshakes is limited.
struct Job {
    computation: Box<Computation>,
    done: oneshot::Sender<Computed>,
}

impl fmt::Debug for Computing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Computing").finish_non_exhaustive()
    }
}

impl Computing {
    /// Starts the thread. Where the system gives none, handshakes are computed on the caller's thread.
    pub(crate) fn start() -> Self {
        let (jobs, waiting) = channel();
        let thread = thread::Builder::new().name("rantai-tls".to_owned());
        if let Err(error) = thread.spawn(move || work(&waiting)) {
            tracing::warn!("no thread for TLS handshakes, which now delay messages: {error}");
        }
        Self(jobs)
    }

    /// Runs a computation on the thread. Returns `None` if it panics. If the future is dropped, the result is dropped too.
    pub(crate) async fn run(&self, computation: Box<Computation>) -> Option<Computed> {
        let (done, computed) = oneshot::channel();
        match self.0.send(Job { computation, done }) {
            Ok(()) => computed.await.ok(),
            Err(unsent) => Some(unsent.0.computation.run()),
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    lower_priority();
    while let Ok(Job { computation, done }) = jobs.recv() {
        // The client may be gone by now.
        if !done.is_closed() {
            let _ = done.send(computation.run());
        }
    }
}
