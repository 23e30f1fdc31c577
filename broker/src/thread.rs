//! Broker on its own thread.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::{Administration, Broker, Config, Connector, LocalCredentials, Monitor, Reloader, StartError};

/// Broker with its own thread and runtime, which is not delayed by other tasks of the process.
///
/// Dropping it stops the broker without a DISCONNECT to its clients; [`shutdown`](Self::shutdown) sends one.
#[derive(Debug)]
pub struct BrokerThread {
    addresses: Vec<SocketAddr>,
    damaged: Option<PathBuf>,
    local_credentials: Option<LocalCredentials>,
    connector: Option<Connector>,
    reloader: Option<Reloader>,
    monitor: Option<Monitor>,
    administration: Option<Administration>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl BrokerThread {
    /// Starts a thread and a broker on it: see [`Broker::start`]. Dropping the future stops the broker.
    ///
    /// # Errors
    ///
    /// Those of [`Broker::start`], and [`StartError::Thread`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (started, start) = oneshot::channel();
        let thread = thread::Builder::new().name("rantai-broker".to_owned());
        thread.spawn(move || run(config, started)).map_err(StartError::Thread)?;
        match start.await {
            Ok(started) => started,
            Err(_) => Err(StartError::Thread(io::Error::other("it panicked"))),
        }
    }

    /// Returns the addresses of the TCP listeners: see [`Broker::addresses`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the path of a damaged database: see [`Broker::damaged`].
    pub fn damaged(&self) -> Option<&Path> {
        self.damaged.as_deref()
    }

    /// Returns credentials for this process: see [`Broker::local_credentials`].
    pub fn local_credentials(&self) -> Option<LocalCredentials> {
        self.local_credentials.clone()
    }

    /// Returns a handle that opens connections without a socket: see [`Broker::connector`].
    pub fn connector(&self) -> Option<Connector> {
        self.connector.clone()
    }

    /// Returns a handle that rereads the configuration file: see [`Broker::reloader`].
    pub fn reloader(&self) -> Option<Reloader> {
        self.reloader.clone()
    }

    /// Returns a handle that reads the broker's state: see [`Broker::monitor`].
    pub fn monitor(&self) -> Option<Monitor> {
        self.monitor.clone()
    }

    /// Returns a handle that administers the broker: see [`Broker::administration`].
    pub fn administration(&self) -> Option<Administration> {
        self.administration.clone()
    }

    /// Stops the broker gracefully: see [`Broker::shutdown`]. The broker also stops if the future is dropped.
    pub async fn shutdown(self) {
        if self.stop.send(()).is_ok() {
            // Fails if the thread has ended already.
            let _ = self.ended.await;
        }
    }
}

fn run(config: Config, started: oneshot::Sender<Result<BrokerThread, StartError>>) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(StartError::Thread(error)));
            return;
        }
    };
    // Dropped last, so that the waiting task continues only when nothing of the broker is left.
    let (end, ended) = oneshot::channel::<()>();
    runtime.block_on(async {
        let broker = match Broker::start(config).await {
            Ok(broker) => broker,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let (stop, stopped) = oneshot::channel();
        let handle = BrokerThread {
            addresses: broker.addresses().to_vec(),
            damaged: broker.damaged().map(Path::to_owned),
            local_credentials: broker.local_credentials(),
            connector: broker.connector(),
            reloader: broker.reloader(),
            monitor: broker.monitor(),
            administration: broker.administration(),
            stop,
            ended,
        };
        if started.send(Ok(handle)).is_ok() && stopped.await.is_ok() {
            broker.shutdown().await;
        }
    });
    runtime.shutdown_background();
    drop(end);
}
