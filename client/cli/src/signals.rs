//! How a process that serves is told to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Installs the handlers now; the future ends at the first SIGTERM or Ctrl-C, with its name.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
