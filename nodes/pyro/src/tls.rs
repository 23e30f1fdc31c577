//! TLS of the gateway, and reading its files again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rantai_client::error_chain;
use rantai_tls::{ServerFiles, ServerTls, ServerTlsError};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

/// Interval of reading the files again.
const LOOK: Duration = Duration::from_secs(2);

/// Certificate in use.
pub(crate) struct Tls {
    server: ServerTls,
    certificate: PathBuf,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Tls {
    pub(crate) fn open(files: ServerFiles) -> Result<Arc<Self>, ServerTlsError> {
        let certificate = files.default.certificate.clone();
        Ok(Arc::new(Self { server: ServerTls::open(files)?, certificate }))
    }

    /// Returns an acceptor with the certificate of now, for one connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.server.config())
    }

    /// Reads the files again every two seconds, for new connections, until this future is dropped. If they cannot be used, the
    /// earlier ones stay in use, and that is logged once.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut problem = None;
        loop {
            ticks.tick().await;
            // On a blocking thread, as the disk may be slow.
            let tls = self.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || tls.server.reload()).await else { return };
            match read {
                Ok(is_new) => {
                    problem = None;
                    if is_new {
                        tracing::info!("read the certificate {} again", self.certificate.display());
                    }
                }
                Err(error) => {
                    let error = error_chain(&error);
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
}
