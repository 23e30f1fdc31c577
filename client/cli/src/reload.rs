//! Reloads users and rules of the broker in this process on SIGHUP.

use std::sync::{Arc, OnceLock};

use rantai_broker::{ReloadError, Reloader};
use rantai_client::error_chain;

use crate::supervisor::Supervisor;

/// Reloader for SIGHUP; unset until the broker runs.
#[derive(Clone)]
pub(crate) struct AtHangup {
    reloader: Arc<OnceLock<Reloader>>,
    supervisor: Supervisor,
}

impl AtHangup {
    /// Creates a handler that notifies the service manager of reloads.
    pub(crate) fn new(supervisor: &Supervisor) -> Self {
        Self { reloader: Arc::default(), supervisor: supervisor.clone() }
    }

    /// Sets the reloader, once the broker runs.
    pub(crate) fn reloads(&self, reloader: Option<Reloader>) {
        if let Some(reloader) = reloader {
            let _ = self.reloader.set(reloader);
        }
    }

    /// Starts a reload as a task; its result is logged.
    pub(crate) fn reload(&self) {
        let Some(reloader) = self.reloader.get().cloned() else {
            tracing::warn!("SIGHUP ignored: there is no broker yet");
            return;
        };
        let supervisor = self.supervisor.clone();
        supervisor.reloading();
        tokio::spawn(async move {
            match reloader.reload().await {
                // The broker logs what it has applied.
                Ok(_) => {}
                Err(error @ (ReloadError::NoFile | ReloadError::Stopping)) => {
                    tracing::warn!("SIGHUP ignored: {error}");
                }
                Err(error) => tracing::warn!("users and rules stay as they are: {}", error_chain(&error)),
            }
            supervisor.ready();
        });
    }
}
