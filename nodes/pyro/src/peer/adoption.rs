//! Serving the object of a Pyro server while the server can be reached.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::error_chain;
use rantai_client::wire::name::ObjectName;
use rantai_nodes::{Node, ServeOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::connection::Metadata;
use super::object::PyroObject;
use super::server::PyroServer;

/// Interval of checks whether the server answers.
const CHECK: Duration = Duration::from_secs(3);
/// First and longest delay before a server is tried again.
const RETRY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);
/// Time limit for running calls when the object is withdrawn.
const FINISH: Duration = Duration::from_secs(2);

/// Task that serves the object of a Pyro server. Dropping it ends the task, and leaves the object on the bus; see
/// [`end`](Self::end).
#[derive(Debug)]
pub(crate) struct Adoption {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Adoption {
    /// Starts to serve the object as soon as the server answers, and `previous` has ended.
    pub(crate) fn start(
        node: Arc<Node>,
        object: ObjectName,
        name: String,
        server: Arc<PyroServer>,
        lost: Duration,
        previous: Option<JoinHandle<()>>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let adopting = Adopting { node, object, name, server, lost, served: None, refused: String::new() };
        let task = tokio::spawn(async move {
            if let Some(previous) = previous {
                let _ = previous.await;
            }
            adopting.run(stopped).await;
        });
        Self { stop, task: Some(task) }
    }

    /// Withdraws the object from the bus, when what runs has finished or 2 s are over.
    pub(crate) async fn end(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Adopting {
    node: Arc<Node>,
    object: ObjectName,
    /// Name that the server has registered.
    name: String,
    server: Arc<PyroServer>,
    /// Time after which an object whose server is not reachable is withdrawn.
    lost: Duration,
    /// Metadata that the object is served with.
    served: Option<Metadata>,
    /// Last error that was logged.
    refused: String,
}

impl Adopting {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let (mut retry, mut lost_since) = (RETRY, None);
        loop {
            let checked = tokio::select! {
                checked = self.server.check() => checked,
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            let wait = match checked {
                Ok(metadata) => {
                    (retry, lost_since) = (RETRY, None);
                    self.reached(metadata, &mut stopped).await
                }
                Err(error) => {
                    let since = *lost_since.get_or_insert_with(Instant::now);
                    self.missed(&error, since).await;
                    retry = (retry * 2).min(MAX_RETRY_DELAY);
                    retry
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        self.withdraw().await;
    }

    /// Serves the object if the server has new metadata; returns the time until the next check.
    async fn reached(&mut self, metadata: Option<Metadata>, stopped: &mut watch::Receiver<bool>) -> Duration {
        match metadata {
            Some(metadata) if self.served.as_ref() != Some(&metadata) => {
                if self.serve(metadata, stopped).await { CHECK } else { MAX_RETRY_DELAY }
            }
            _ if self.served.is_some() => CHECK,
            _ => {
                // Metadata come with a new connection.
                self.server.disconnect();
                RETRY
            }
        }
    }

    /// Withdraws the object if the server has not been reachable for long enough.
    async fn missed(&mut self, error: &str, since: Instant) {
        if self.served.is_some() && since.elapsed() >= self.lost {
            let uri = &self.server.uri;
            tracing::warn!("withdrew {}: its Pyro server {uri} is not reachable: {error}", self.object);
            self.withdraw().await;
        } else if self.served.is_none() {
            self.log(error);
        }
    }

    /// Serves the object; returns whether it is served.
    async fn serve(&mut self, metadata: Metadata, stopped: &mut watch::Receiver<bool>) -> bool {
        self.withdraw().await;
        let object = Arc::new(PyroObject::new(self.server.clone(), self.name.clone(), &metadata));
        // Before the name is claimed, so that a claim that is given up in the middle is withdrawn.
        self.served = Some(metadata);
        let served = tokio::select! {
            // First: an object of the same name that this node serves already is refused at once, and not withdrawn.
            biased;
            served = self.node.serve_with(self.object.as_str(), object, ServeOptions::default()) => served,
            _ = stopped.wait_for(|stop| *stop) => return true,
        };
        match served {
            Ok(()) => {
                tracing::info!(
                    "serving {}, the Pyro object {} at {}",
                    self.object,
                    self.name,
                    self.server.uri
                );
                self.refused.clear();
                true
            }
            Err(error) => {
                self.served = None;
                self.log(&error_chain(&error));
                false
            }
        }
    }

    async fn withdraw(&mut self) {
        if self.served.take().is_some() {
            self.node.withdraw(&self.object, FINISH).await;
        }
    }

    /// Logs an error unless it is the same as the last one.
    fn log(&mut self, error: &str) {
        if self.refused != error {
            tracing::warn!(
                "the Pyro object {} at {} is not on the bus as {}: {error}",
                self.name,
                self.server.uri,
                self.object
            );
            error.clone_into(&mut self.refused);
        }
    }
}
