//! Notifications to systemd (`sd_notify(3)`): readiness, reloads, the end, and that the broker's thread runs.

use std::env;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use rantai_broker::Monitor;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{sleep, timeout};

/// Service manager of this process; without one, nothing is sent.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
}

impl Supervisor {
    /// Returns the service manager that the environment names (`NOTIFY_SOCKET`).
    pub(crate) fn of_this_process() -> Self {
        let name = env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty());
        let socket = name.and_then(|name| match connect(&name) {
            Ok(socket) => Some(Arc::new(socket)),
            Err(error) => {
                tracing::warn!("cannot notify the service manager at {name}: {error}");
                None
            }
        });
        Self { socket }
    }

    /// Notifies that everything is served; also after a reload.
    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    /// Notifies that the process ends.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Notifies that the configuration is being reloaded; [`ready`](Self::ready) must follow.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000));
    }

    /// Starts a task that notifies the watchdog, if there is one, as long as this thread runs and the broker's thread
    /// answers. If the broker is stuck, nothing is sent, and systemd restarts the process.
    pub(crate) fn watch(&self, monitor: Option<Monitor>) {
        if let Some(limit) = watchdog(|name| env::var(name).ok()) {
            tokio::spawn(self.clone().tell_life(limit, monitor));
        }
    }

    async fn tell_life(self, limit: Duration, monitor: Option<Monitor>) {
        loop {
            let lives = match &monitor {
                Some(monitor) => timeout(limit, monitor.readings()).await.is_ok_and(|read| read.is_ok()),
                None => true,
            };
            if lives {
                self.send("WATCHDOG=1");
            }
            sleep(limit / 3).await;
        }
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!("cannot notify the service manager: {error}");
        }
    }
}

/// Connects to a socket by its path, or by an abstract name, which begins with `@`.
fn connect(name: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A service manager that does not read must not block the broker.
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        return Ok(socket);
    }
    socket.connect(name)?;
    Ok(socket)
}

/// Returns the time limit of the watchdog, if there is one and it is for this process.
fn watchdog(variable: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let process = variable("WATCHDOG_PID");
    if process.is_some_and(|process| process != std::process::id().to_string()) {
        return None;
    }
    let microseconds: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (microseconds > 0).then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use rantai_broker::{Broker, Config};
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn watchdog_is_not_notified_while_the_broker_is_stuck() {
        let runtime = || Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (brokers, own) = (runtime(), runtime());
        let broker = brokers.block_on(Broker::start(Config::on_free_port())).expect("started");
        let (ours, theirs) = UnixDatagram::pair().expect("a pair");
        theirs.set_nonblocking(true).expect("set");
        let supervisor = Supervisor { socket: Some(Arc::new(ours)) };
        let limit = Duration::from_millis(60);
        own.spawn(supervisor.tell_life(limit, broker.monitor()));
        let mut message = [0; 64];
        // The runtime of the broker does not run.
        own.block_on(async { sleep(5 * limit).await });
        assert_eq!(theirs.recv(&mut message).expect_err("silent").kind(), ErrorKind::WouldBlock);
        let told = std::thread::spawn(move || {
            theirs.set_nonblocking(false).expect("set");
            theirs.set_read_timeout(Some(Duration::from_mins(1))).expect("set");
            let length = theirs.recv(&mut message).expect("a sign of life");
            message[..length].to_vec()
        });
        // Both runtimes run.
        let brokers =
            std::thread::spawn(move || brokers.block_on(async { sleep(Duration::from_secs(2)).await }));
        own.block_on(async { sleep(Duration::from_secs(2)).await });
        brokers.join().expect("it ran");
        assert_eq!(told.join().expect("told"), b"WATCHDOG=1");
    }

    #[test]
    fn watchdog_of_another_process_is_ignored() {
        let own = std::process::id().to_string();
        for (microseconds, process, expected) in [
            (Some("30000000"), None, Some(Duration::from_secs(30))),
            (Some("30000000"), Some(&*own), Some(Duration::from_secs(30))),
            (Some("30000000"), Some("1"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, None, None),
        ] {
            let variable = |name: &str| match name {
                "WATCHDOG_USEC" => microseconds.map(str::to_owned),
                _ => process.map(str::to_owned),
            };
            assert_eq!(watchdog(variable), expected, "{microseconds:?} {process:?}");
        }
    }
}
