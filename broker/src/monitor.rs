//! Handle that reads the state of a running broker from anywhere in the process.

use std::sync::Arc;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

use crate::hub::Hub;
use crate::readings::Readings;
use crate::workers::Workers;

/// Maximum number of requests that wait for the broker.
const MAX_WAITING_REQUESTS: usize = 64;

type ReadingsRequest = oneshot::Sender<Readings>;

/// Handle that reads the state of a broker. Does not keep the broker running.
///
/// Each reading is made by a task of the broker, on its own runtime, after each of its
/// [`threads`](crate::Config::threads) has run a task. An answer therefore proves that all threads run, and the
/// calling thread takes no lock of the broker.
#[derive(Clone, Debug)]
pub struct Monitor(mpsc::Sender<ReadingsRequest>);

/// Error of reading the state of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The broker has stopped.
    #[error("the broker has stopped")]
    Stopped,
    /// Too many earlier requests are not answered yet.
    #[error("the broker has not answered {MAX_WAITING_REQUESTS} earlier requests")]
    Busy,
}

impl Monitor {
    /// Starts the task that answers, on the current runtime.
    pub(crate) fn start(hub: Arc<Hub>, workers: Arc<Workers>) -> Self {
        let (sender, questions) = mpsc::channel(MAX_WAITING_REQUESTS);
        tokio::spawn(answer(hub, workers, questions));
        Self(sender)
    }

    /// Reads the state. Waits for the broker's threads without a time limit. Dropping the future cancels the request.
    ///
    /// # Errors
    ///
    /// The broker has stopped, or has not answered earlier requests.
    pub async fn readings(&self) -> Result<Readings, MonitorError> {
        let (sender, answer) = oneshot::channel();
        self.0.try_send(sender).map_err(|error| match error {
            TrySendError::Full(_) => MonitorError::Busy,
            TrySendError::Closed(_) => MonitorError::Stopped,
        })?;
        answer.await.map_err(|_| MonitorError::Stopped)
    }
}

async fn answer(hub: Arc<Hub>, workers: Arc<Workers>, mut questions: mpsc::Receiver<ReadingsRequest>) {
    let mut stopping = hub.shared.stopping.subscribe();
    loop {
        let question = tokio::select! {
            biased;
            _ = stopping.wait_for(|&stop| stop) => return,
            question = questions.recv() => question,
        };
        let Some(question) = question else { return };
        if !question.is_closed() {
            workers.answer().await;
            // Fails if the request was cancelled.
            let _ = question.send(hub.readings());
        }
    }
}
