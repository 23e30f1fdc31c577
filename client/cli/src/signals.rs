//! Signals and hangups that stop a process.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};

use crate::connection::note;
use crate::exit::Exit;
use crate::logging;

/// Maximum time from the signal to the end of the process, whatever it waits for: a supervisor often kills after 10 s.
const MAX_END_TIME: Duration = Duration::from_secs(9);

/// Installs the handlers now; the future completes at the first SIGTERM or Ctrl-C, with the signal's name. The process then
/// ends within 9 s, even if a disk, a pipe or the broker blocks it: a separate thread ensures that.
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
        // The receiver is gone if the command is ending already.
        let _ = told.send(name);
        thread::sleep(MAX_END_TIME);
        note(&format!(
            "stopped in the middle, {} s after {name}; what was acknowledged is kept",
            MAX_END_TIME.as_secs()
        ));
        logging::finish();
        std::process::exit(Exit::Success as i32);
    })?;
    Ok(async {
        match stopped.await {
            Ok(name) => name,
            // The thread sends the name before it ends.
            Err(_) => std::future::pending().await,
        }
    })
}

/// Completes at Ctrl-C or SIGTERM, for a command that prints something before it ends. Must be called within a runtime.
pub(crate) fn interrupted() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Like [`stop_signal`], for a process that serves: also stops when the terminal it was started on is gone. Any other SIGHUP
/// is logged and ignored.
pub(crate) fn server_stop_signal() -> io::Result<impl Future<Output = &'static str>> {
    server_stop_signal_or(|| {
        tracing::warn!(
            "SIGHUP ignored: the configuration cannot be read again while the process runs; restart it to apply \
             changes (certificates of gateways are read again by themselves)"
        );
    })
}

/// Like [`server_stop_signal`], but calls `at_hangup` at any other SIGHUP.
pub(crate) fn server_stop_signal_or(at_hangup: impl Fn()) -> io::Result<impl Future<Output = &'static str>> {
    let stop = stop_signal()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let terminals = Terminals::of_this_process()?;
    Ok(async move {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                name = &mut stop => return name,
                () = terminals.gone() => return "hangup of the terminal",
                _ = hangup.recv() => {
                    if terminals.are_gone() {
                        return "hangup of the terminal";
                    }
                    at_hangup();
                }
            }
        }
    })
}

/// Terminals that are stdin and stdout.
///
/// Needed besides the signal: only the session of a terminal gets SIGHUP when it hangs up.
struct Terminals {
    files: Arc<[OwnedFd]>,
    /// Notified when one of the terminals is hung up.
    hangup: Arc<Notify>,
}

impl Terminals {
    fn of_this_process() -> io::Result<Self> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let terminals = [stdin.as_fd(), stdout.as_fd()].into_iter().filter(IsTerminal::is_terminal);
        let files: Arc<[OwnedFd]> =
            terminals.map(|terminal| terminal.try_clone_to_owned()).collect::<io::Result<_>>()?;
        let hangup = Arc::new(Notify::new());
        if !files.is_empty() {
            let (files, hangup) = (files.clone(), hangup.clone());
            // On a separate, detached thread: it sleeps until there is a hangup.
            thread::Builder::new().name("rantai-terminal".to_owned()).spawn(move || {
                if wait_for_hangup(&files) {
                    hangup.notify_one();
                }
            })?;
        }
        Ok(Self { files, hangup })
    }

    /// Checks whether one of the terminals has been hung up: its file is no terminal any more.
    fn are_gone(&self) -> bool {
        self.files.iter().any(|file| !file.is_terminal())
    }

    /// Waits until one of the terminals has been hung up; never completes if there are none.
    async fn gone(&self) {
        self.hangup.notified().await;
    }
}

/// Waits until one of the terminals is hung up; returns `false` if that cannot be watched.
fn wait_for_hangup(terminals: &[OwnedFd]) -> bool {
    // No events are requested: POLLHUP is always reported.
    let mut watched: Vec<PollFd<'_>> =
        terminals.iter().map(|terminal| PollFd::new(terminal, PollFlags::empty())).collect();
    loop {
        match poll(&mut watched, None) {
            Err(Errno::INTR) => {}
            polled => return polled.is_ok(),
        }
    }
}
