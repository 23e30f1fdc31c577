//! TLS of a gateway: its configured files, and reloading them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rantai_tls::{CertificateFiles, ClientFiles, ServerFiles, ServerTls, ServerTlsError};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// Interval of reading the files again.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// PEM files of a configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) certificate: Option<&'a Path>,
    pub(super) key: Option<&'a Path>,
    pub(super) client_ca: Option<&'a Path>,
    pub(super) revocations: Option<&'a Path>,
}

impl<'a> Named<'a> {
    /// Creates it from the keys `certificate`, `key`, `client_ca` and `revocations`, in this order.
    pub(super) fn new(keys: [&'a Option<PathBuf>; 4]) -> Self {
        let [certificate, key, client_ca, revocations] = keys.map(Option::as_deref);
        Self { certificate, key, client_ca, revocations }
    }

    /// Returns the files of a server; `None` without TLS.
    ///
    /// # Errors
    ///
    /// A file is missing that the others need.
    pub(super) fn files(self) -> Result<Option<ServerFiles>, String> {
        let Self { certificate, key, client_ca, revocations } = self;
        let owned = |path: Option<&Path>| path.map(ToOwned::to_owned);
        if revocations.is_some() && client_ca.is_none() {
            let text = "`revocations` needs `client_ca`: without it clients are asked for no certificate";
            return Err(text.to_owned());
        }
        let client = |roots: &Path| ClientFiles {
            roots: roots.to_owned(),
            revocations: owned(revocations),
            required: true,
        };
        match (certificate, key, client_ca) {
            (Some(certificate), Some(key), clients) => Ok(Some(ServerFiles {
                default: CertificateFiles { certificate: certificate.to_owned(), key: key.to_owned() },
                additional: Vec::new(),
                clients: clients.map(client),
            })),
            (None, None, None) => Ok(None),
            (Some(_), None, _) => Err("`certificate` needs `key`: the file of its private key".to_owned()),
            (None, ..) => {
                Err("without `certificate` there is no TLS; add the file of this server's certificate"
                    .to_owned())
            }
        }
    }
}

/// Certificate in use, which can be reloaded.
#[derive(Debug)]
pub(super) struct Tls {
    server: ServerTls,
    certificate: PathBuf,
    /// Number of changes of the files.
    changes: watch::Sender<u64>,
}

impl Tls {
    pub(super) fn open(files: ServerFiles) -> Result<Arc<Self>, ServerTlsError> {
        let certificate = files.default.certificate.clone();
        let server = ServerTls::open_for(files, &["http/1.1"])?;
        Ok(Arc::new(Self { server, certificate, changes: watch::Sender::new(0) }))
    }

    /// Returns an acceptor with the current certificate, for one connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.server.config())
    }

    /// Reloads the files every two seconds, for new connections. If they cannot be used, the previous ones stay in use, and
    /// that is logged once.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut ticks = interval(RELOAD_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut problem = None;
        loop {
            ticks.tick().await;
            match self.clone().read_again().await {
                Ok(is_new) => {
                    problem = None;
                    if is_new {
                        tracing::info!("read the certificate {} again", self.certificate.display());
                    }
                }
                Err(error) => {
                    let error = with_sources(&error);
                    if problem.as_ref() != Some(&error) {
                        tracing::warn!(
                            "the certificate is not replaced, the earlier one is still served: {error}"
                        );
                        problem = Some(error);
                    }
                }
            }
        }
    }

    /// Reloads the files; returns whether they have changed.
    pub(super) async fn read_again(self: Arc<Self>) -> Result<bool, ServerTlsError> {
        // On a blocking thread, as the disk may be slow.
        let tls = self.clone();
        let read = tokio::task::spawn_blocking(move || tls.server.reload()).await;
        // An error would mean a panic or the end of the runtime; neither can happen here.
        let read = read.unwrap_or(Ok(false));
        if let Ok(true) = read {
            self.changes.send_modify(|changes| *changes += 1);
        }
        read
    }

    /// Waits until the reloaded files would refuse a connected client that has presented these certificates.
    pub(super) async fn no_longer_takes(&self, client: Vec<CertificateDer<'static>>) {
        let mut changes = self.changes.subscribe();
        loop {
            // Cannot fail: `self` holds the sender.
            let _ = changes.changed().await;
            if self.server.check_client(&client).is_err() {
                return;
            }
        }
    }
}

/// Formats an error with its sources.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
