//! The server's side: certificates that are read again while it runs.

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

/// The PEM files of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Certificate for every client that none of the additional ones is for.
    pub default: CertificateFiles,
    /// Certificates for the server names (SNI) that they are valid for.
    pub additional: Vec<CertificateFiles>,
    /// What clients need; `None`: they are asked for no certificate.
    pub clients: Option<ClientFiles>,
}

/// The PEM files of a certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by those between it and its root.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// The PEM files that client certificates are checked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The roots that issue them.
    pub roots: PathBuf,
    /// Revocation lists of those who issue them.
    pub revocations: Option<PathBuf>,
    /// Whether each client needs one.
    pub required: bool,
}

/// Why a server cannot use its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerTlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("cannot use {} with the key {}", certificate.display(), key.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The roots of client certificates are none.
    #[error("cannot check client certificates by {}: it has no root that can be used", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VerifierBuilderError,
    },
    /// A revocation list cannot be used.
    #[error("cannot use the revocation lists of {}", path.display())]
    Revocations {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VerifierBuilderError,
    },
    /// The cryptography of this machine fails.
    #[error("cannot set TLS up")]
    Setup(#[source] rustls::Error),
}

/// TLS of a listener: its configuration of now, made of files.
pub struct ServerTls {
    files: ServerFiles,
    /// Protocols above TLS that may be agreed on (ALPN); none where clients are not asked.
    protocols: Vec<Vec<u8>>,
    /// Encrypts session tickets; kept when files are read again, so that tickets stay good. The server keeps nothing of a
    /// session.
    tickets: Arc<dyn ProducesTickets>,
    loaded: RwLock<Loaded>,
}

/// What the files of a server hold by now, checked and not used yet.
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

/// What the files hold.
#[derive(PartialEq)]
struct Contents {
    /// The default certificate first.
    identities: Vec<Identity>,
    roots: Vec<CertificateDer<'static>>,
    revocations: Vec<CertificateRevocationListDer<'static>>,
}

impl ServerFiles {
    /// Returns the files of every certificate, those of the default one first.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &CertificateFiles> {
        std::iter::once(&self.default).chain(&self.additional)
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or files that do not go together.
    pub fn open(files: ServerFiles) -> Result<Self, ServerTlsError> {
        Self::open_for(files, &[])
    }

    /// Reads the files of a server that speaks one of these protocols, by their names in ALPN. A client that offers others
    /// alone is refused; one that offers none is not.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_for(files: ServerFiles, protocols: &[&str]) -> Result<Self, ServerTlsError> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tickets = rustls::crypto::ring::Ticketer::new().map_err(ServerTlsError::Setup)?;
        let contents = Contents::read(&files)?;
        let loaded = RwLock::new(Loaded::of(contents, &files, &protocols, &tickets)?);
        Ok(Self { files, protocols, tickets, loaded })
    }

    /// The configuration for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.loaded.read().config.clone()
    }

    /// Reads the files again, and uses them for new connections; true where they have changed. Blocks for as long as the
    /// disk does.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open). Everything is then as before.
    pub fn reload(&self) -> Result<bool, ServerTlsError> {
        let renewal = self.read_again()?;
        Ok(renewal.map(|renewal| self.renew(renewal)).is_some())
    }

    /// Reads the files again and checks them, and uses nothing of it before [`renew`](Self::renew); `None` where they have
    /// not changed. Blocks for as long as the disk does.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn read_again(&self) -> Result<Option<Renewal>, ServerTlsError> {
        let contents = Contents::read(&self.files)?;
        if self.loaded.read().contents == contents {
            return Ok(None);
        }
        let loaded = Loaded::of(contents, &self.files, &self.protocols, &self.tickets)?;
        Ok(Some(Renewal(Box::new(loaded))))
    }

    /// Uses for new connections what its files held when they were [read again](Self::read_again).
    pub fn renew(&self, renewal: Renewal) {
        *self.loaded.write() = *renewal.0;
    }

    /// What is wrong with the files in use at this time, or will be soon.
    pub fn warnings(&self) -> Vec<CertificateWarning> {
        let loaded = self.loaded.read();
        let Contents { identities, roots, revocations } = &loaded.contents;
        examine(&self.files, &Examined { identities, roots, revocations }, now())
    }

    /// Checks the chain that a connected client has shown, by the files of now.
    ///
    /// # Errors
    ///
    /// It would not be let in now: revoked, expired, or of a root that is none any more.
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
            // This also checks that the two belong together.
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
            // A ticket would let a certificate in that is revoked by now: each connection shows it anew.
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
    // Those between it and the root would each need a list of their own.
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
