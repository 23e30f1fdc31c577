//! How a process that serves is told to stop.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::connection::note;
use crate::exit::Exit;

/// Longest time from the signal to the end of the process, whatever it waits for: a supervisor often kills after 10 s.
const LONGEST: Duration = Duration::from_secs(9);

/// Installs the handlers now; the future ends at the first SIGTERM or Ctrl-C, with its name. The process then ends
/// within 9 s, also where a disk, a pipe or the broker holds it up: a thread of its own sees to that.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = &'static str>> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let (told, stopped) = oneshot::channel();
    thread::Builder::new().name("rantai-signal".to_owned()).spawn(move || {
        let name = runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        });
        // Nobody waits for it any more where the command is ending already.
        let _ = told.send(name);
        thread::sleep(LONGEST);
        note(&format!(
            "stopped in the middle, {} s after {name}; what was acknowledged is kept",
            LONGEST.as_secs()
        ));
        std::process::exit(Exit::Success as i32);
    })?;
    Ok(async {
        match stopped.await {
            Ok(name) => name,
            // The thread tells before it ends.
            Err(_) => std::future::pending().await,
        }
    })
}
