//! Thread for the public-key cryptography of TLS handshakes, so that a flood of handshakes does not delay the messages
//! of connected clients.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rantai_credentials::lower_priority;
use tokio::sync::oneshot;

use crate::transport::{Computation, Computed};

/// Handle of the thread, which ends when the handle is dropped.
pub(crate) struct Computing(Sender<HandshakeStep>);

/// Step of a handshake. Each handshake has at most one waiting step, and the number of handshakes is limited.
struct HandshakeStep {
    computation: Box<Computation>,
    done: oneshot::Sender<Computed>,
}

impl fmt::Debug for Computing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Computing").finish_non_exhaustive()
    }
}

impl Computing {
    /// Starts the thread. If that fails, handshakes are computed on the caller's thread.
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
        match self.0.send(HandshakeStep { computation, done }) {
            Ok(()) => computed.await.ok(),
            Err(unsent) => Some(unsent.0.computation.run()),
        }
    }
}

fn work(jobs: &Receiver<HandshakeStep>) {
    lower_priority();
    while let Ok(HandshakeStep { computation, done }) = jobs.recv() {
        // Skipped if the client is gone.
        if !done.is_closed() {
            let _ = done.send(computation.run());
        }
    }
}
