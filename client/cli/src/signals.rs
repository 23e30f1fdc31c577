//! How a process is told to stop.

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

/// Ctrl-C or SIGTERM, for a command that has something to say before it ends. Must be called within a runtime.
pub(crate) fn interrupted() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// [`stop_signal`] for a process that serves, which also stops when the terminal it was started on is gone. Any other SIGHUP
/// is logged and ignored.
pub(crate) fn server_stop_signal() -> io::Result<impl Future<Output = &'static str>> {
    server_stop_signal_or(|| {
        tracing::warn!(
            "SIGHUP ignored: the configuration cannot be read again while the process runs; restart it to apply \
             changes (certificates of gateways are read again by themselves)"
        );
    })
}

/// [`server_stop_signal`] where any other SIGHUP does something.
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

/// The terminals that are stdin and stdout.
///
/// Not every hangup comes as a signal: only the session of a terminal gets SIGHUP from it.
struct Terminals {
    files: Arc<[OwnedFd]>,
    /// Notified when one of them is hung up.
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
            // A thread of its own, which nobody waits for: it sleeps until there is a hangup.
            thread::Builder::new().name("rantai-terminal".to_owned()).spawn(move || {
                if wait_for_hangup(&files) {
                    hangup.notify_one();
                }
            })?;
        }
        Ok(Self { files, hangup })
    }

    /// Whether one of them has been hung up: it is no terminal any more.
    fn are_gone(&self) -> bool {
        self.files.iter().any(|file| !file.is_terminal())
    }

    /// Waits until one of them has been hung up; for good where there are none.
    async fn gone(&self) {
        self.hangup.notified().await;
    }
}

/// Waits until one of them is hung up; `false` where that cannot be watched.
fn wait_for_hangup(terminals: &[OwnedFd]) -> bool {
    // Nothing is asked for: a hangup is told in any case.
    let mut watched: Vec<PollFd<'_>> =
        terminals.iter().map(|terminal| PollFd::new(terminal, PollFlags::empty())).collect();
    loop {
        match poll(&mut watched, None) {
            Err(Errno::INTR) => {}
            polled => return polled.is_ok(),
        }
    }
}
