//! Server side of TLS: certificates that are read again while the server runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::by_name::ByName;
use crate::files::{FileError, Identity, read_certificates, read_identity, read_revocations};
use crate::problem::now;
use crate::provider;
use crate::warning::{CertificateWarning, Examined, examine};

/// PEM files of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Certificate for clients that send no server name, or one that no additional certificate is valid for.
    pub default: CertificateFiles,
    /// Certificates for clients that ask for one of their names (SNI).
    pub additional: Vec<CertificateFiles>,
    /// Checks of client certificates; `None` if clients are not asked for one.
    pub clients: Option<ClientFiles>,
}

/// PEM files of a certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificate, followed by its intermediate certificates.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
}

/// PEM files with which client certificates are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// Root certificates that issue client certificates.
    pub roots: PathBuf,
    /// Revocation lists of the issuers.
    pub revocations: Option<PathBuf>,
    /// Whether clients without a certificate are refused.
    pub required: bool,
}

/// Error of creating the TLS configuration of a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerTlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Certificate and key do not belong together, or are of an unsupported kind.
    #[error("cannot use {} with the key {}", certificate.display(), key.display())]
    Pair {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Problem of the pair.
        source: rustls::Error,
    },
    /// The root certificates for clients cannot be used.
    #[error("cannot check client certificates by {}: it has no root that can be used", path.display())]
    Roots {
        /// File of the root certificates.
        path: PathBuf,
        /// Problem of the file.
        source: VerifierBuilderError,
    },
    /// A revocation list cannot be used.
    #[error("cannot use the revocation lists of {}", path.display())]
    Revocations {
        /// File of the revocation lists.
        path: PathBuf,
        /// Problem of the list.
        source: VerifierBuilderError,
    },
    /// The cryptography provider refuses the configuration.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

/// TLS configuration of a listener, made of files and replaced when they change.
pub struct ServerTls {
    files: ServerFiles,
    /// Application protocols offered by ALPN; empty if ALPN is not used.
    protocols: Vec<Vec<u8>>,
    /// Encrypts session tickets. Kept across reloads, so that earlier tickets stay valid. The server stores no
    /// sessions.
    tickets: Arc<dyn ProducesTickets>,
    loaded: RwLock<Loaded>,
}

/// New contents of a server's files: read and checked, but not in use yet.
pub struct Renewal(Box<Loaded>);

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").finish_non_exhaustive()
    }
}

struct Loaded {
    contents: Contents,
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// Contents of the files.
#[derive(PartialEq)]
struct Contents {
    /// Certificates with their keys; the default first.
    identities: Vec<Identity>,
    roots: Vec<CertificateDer<'static>>,
    revocations: Vec<CertificateRevocationListDer<'static>>,
}

impl ServerFiles {
    /// Returns the files of all certificates, those of the default first.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &CertificateFiles> {
        std::iter::once(&self.default).chain(&self.additional)
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or the files do not belong together.
    pub fn open(files: ServerFiles) -> Result<Self, ServerTlsError> {
        Self::open_for(files, &[])
    }

    /// Reads the files of a server for these application protocols, by their ALPN names. A client that offers only
    /// other protocols is refused; one that does not use ALPN is accepted.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_for(files: ServerFiles, protocols: &[&str]) -> Result<Self, ServerTlsError> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tickets = rustls::crypto::ring::Ticketer::new().map_err(ServerTlsError::Setup)?;
        let contents = Contents::read(&files)?;
        let loaded = RwLock::new(Loaded::of(contents, &files, &protocols, &tickets)?);
        Ok(Self { files, protocols, tickets, loaded })
    }

    /// Returns the configuration for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.loaded.read().config.clone()
    }

    /// Reads the files again, and uses them for new connections. Returns whether they have changed. Blocks on the
    /// disk.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open); the previous configuration stays in use.
    pub fn reload(&self) -> Result<bool, ServerTlsError> {
        let renewal = self.read_again()?;
        Ok(renewal.map(|renewal| self.renew(renewal)).is_some())
    }

    /// Reads and checks the files again, without using them until [`renew`](Self::renew). `None` if they have not
    /// changed. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn read_again(&self) -> Result<Option<Renewal>, ServerTlsError> {
        let contents = Contents::read(&self.files)?;
        if self.loaded.read().contents == contents {
            return Ok(None);
        }
        let loaded = Loaded::of(contents, &self.files, &self.protocols, &self.tickets)?;
        Ok(Some(Renewal(Box::new(loaded))))
    }

    /// Uses the contents from [`read_again`](Self::read_again) for new connections.
    pub fn renew(&self, renewal: Renewal) {
        *self.loaded.write() = *renewal.0;
    }

    /// Returns the current and upcoming problems of the files in use.
    pub fn warnings(&self) -> Vec<CertificateWarning> {
        let loaded = self.loaded.read();
        let Contents { identities, roots, revocations } = &loaded.contents;
        examine(&self.files, &Examined { identities, roots, revocations }, now())
    }

    /// Checks the certificate chain of a connected client against the current files.
    ///
    /// # Errors
    ///
    /// The certificate is revoked or expired, or its root is no longer trusted.
    pub fn check_client(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let verifier = self.loaded.read().verifier.clone();
        let (Some(verifier), [first, others @ ..]) = (verifier, chain) else { return Ok(()) };
        verifier.verify_client_cert(first, others, UnixTime::now()).map(drop)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Contents {
    fn read(files: &ServerFiles) -> Result<Self, FileError> {
        let identities = files.certificates().map(|files| read_identity(&files.certificate, &files.key));
        let clients = files.clients.as_ref();
        let revocations = clients.and_then(|clients| clients.revocations.as_deref());
        Ok(Self {
            identities: identities.collect::<Result<_, _>>()?,
            roots: clients.map_or(Ok(Vec::new()), |clients| read_certificates(&clients.roots))?,
            revocations: revocations.map_or(Ok(Vec::new()), read_revocations)?,
        })
    }
}

impl Loaded {
    fn of(
        contents: Contents,
        files: &ServerFiles,
        protocols: &[Vec<u8>],
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, ServerTlsError> {
        let provider = provider();
        let keys = contents.identities.iter().zip(files.certificates()).map(|(identity, files)| {
            // Also checks that certificate and key belong together.
            CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), &provider).map_err(
                |source| ServerTlsError::Pair {
                    certificate: files.certificate.clone(),
                    key: files.key.clone(),
                    source,
                },
            )
        });
        let by_name = ByName::new(keys.collect::<Result<_, _>>()?);
        let verifier = files.clients.as_ref().map(|clients| verifier(&contents, clients)).transpose()?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ServerTlsError::Setup)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(by_name));
        config.alpn_protocols = protocols.to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if verifier.is_some() {
            // No session tickets: a resumed session would not check whether the certificate was revoked in the
            // meantime.
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = tickets.clone();
            config.send_tls13_tickets = 1;
        }
        Ok(Self { contents, config: Arc::new(config), verifier })
    }
}

fn verifier(
    contents: &Contents,
    clients: &ClientFiles,
) -> Result<Arc<dyn ClientCertVerifier>, ServerTlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(contents.roots.iter().cloned());
    let revocations = contents.revocations.iter().cloned();
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).with_crls(revocations);
    // A check of the intermediate certificates would need a revocation list of each of their issuers.
    builder = builder.only_check_end_entity_revocation();
    if !clients.required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|source| match (source, &clients.revocations) {
        (source @ VerifierBuilderError::InvalidCrl(_), Some(path)) => {
            ServerTlsError::Revocations { path: path.clone(), source }
        }
        (source, _) => ServerTlsError::Roots { path: clients.roots.clone(), source },
    })
}

#[cfg(test)]
mod tests;
