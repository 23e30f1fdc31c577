//! TLS of a gateway: the files of its certificate, what is served by them, and reading them again when they change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use rantai_tls::{FileError, provider, read_certificates, read_identity};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{Error as RustlsError, RootCertStore, ServerConfig};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The PEM files of a gateway that speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// Why no TLS can be served with some files.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// A file is missing or damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// The private key is not that of the certificate, or of a kind that is not known.
    #[error("cannot use {} with the key in {}", certificate.display(), key.display())]
    Identity { certificate: PathBuf, key: PathBuf, source: RustlsError },
    /// The certificates of an authority cannot be used.
    #[error("cannot take certificates of clients by {}", path.display())]
    Authority { path: PathBuf, source: AuthorityError },
    /// The cryptography lacks what TLS needs.
    #[error("cannot set up TLS")]
    Setup(#[source] RustlsError),
}

/// Why certificates are not those of an authority.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) enum AuthorityError {
    Certificate(#[from] RustlsError),
    Verifier(#[from] VerifierBuilderError),
}

/// A file as it was: when it was written, and its length; nothing where it cannot be looked at.
type Stamp = Option<(SystemTime, u64)>;

impl TlsFiles {
    /// Those of a configuration; `None` where it has none.
    ///
    /// # Errors
    ///
    /// When one of them is missing without which the others mean nothing.
    pub(super) fn new(
        certificate: Option<&Path>,
        key: Option<&Path>,
        client_ca: Option<&Path>,
    ) -> Result<Option<Self>, String> {
        match (certificate, key, client_ca) {
            (Some(certificate), Some(key), _) => Ok(Some(Self {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                client_ca: client_ca.map(ToOwned::to_owned),
            })),
            (None, None, None) => Ok(None),
            (Some(_), None, _) => Err("`certificate` needs `key`: the file of its private key".to_owned()),
            (None, ..) => {
                Err("without `certificate` there is no TLS; add the file of this server's certificate"
                    .to_owned())
            }
        }
    }

    /// What is served with these files.
    pub(super) fn config(&self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let wrong = |source| TlsError::Authority { path: path.clone(), source };
                let mut roots = RootCertStore::empty();
                for certificate in read_certificates(path)? {
                    roots.add(certificate).map_err(|error| wrong(error.into()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(error.into()))?)
            }
        };
        let identity = read_identity(&self.certificate, &self.key)?;
        let mut config = builder.with_single_cert(identity.chain, identity.key).map_err(|source| {
            TlsError::Identity { certificate: self.certificate.clone(), key: self.key.clone(), source }
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn stamps(&self) -> [Stamp; 3] {
        let stamp = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        [stamp(&self.certificate), stamp(&self.key), self.client_ca.as_deref().and_then(stamp)]
    }
}

/// The certificate that is served now.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    /// As the files were before they were last read.
    stamps: Mutex<[Stamp; 3]>,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    pub(super) fn open(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let stamps = Mutex::new(files.stamps());
        let current = RwLock::new(Arc::new(files.config()?));
        Ok(Arc::new(Self { files, stamps, current }))
    }

    /// Accepts one connection, by the certificate of now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.read().clone())
    }

    /// Reads the files again whenever one of them has changed. Connections that are open go on; where the files are wrong
    /// the earlier certificate is served, and the log says so.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.read_again().await {
                None => {}
                Some(Ok(())) => {
                    tracing::info!("read the certificate {} again", self.files.certificate.display());
                }
                Some(Err(error)) => {
                    let error = told(&error);
                    tracing::warn!(
                        "the certificate is not replaced, the earlier one is still served: {error}"
                    );
                }
            }
        }
    }

    /// Reads the files again; `None` where they are as they were.
    pub(super) async fn read_again(&self) -> Option<Result<(), TlsError>> {
        let (files, known) = (self.files.clone(), *self.stamps.lock());
        // They may be on a disk that is slow.
        let looked = tokio::task::spawn_blocking(move || {
            let stamps = files.stamps();
            (stamps != known).then(|| (stamps, files.config()))
        });
        let (stamps, read) = looked.await.ok()??;
        *self.stamps.lock() = stamps;
        Some(read.map(|config| {
            *self.current.write() = Arc::new(config);
        }))
    }
}

/// An error with its causes.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
