//! The side of a connection that calls: whom it trusts, who it is, and which server it means.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::files::{FileError, Identity, read_certificates, read_identity};
use crate::problem::{Presented, TlsProblem, explain};
use crate::provider;
use crate::verifier::Remembering;

/// Files of a client in PEM. Without any of them it trusts the authorities of the system and shows no certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that are trusted, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// The client's certificate with its chain.
    pub certificate: Option<PathBuf>,
    /// The private key of the certificate; without it in the same file.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// The certificates of the authorities that are trusted: those of the file, else those of the system.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, ClientError> {
        let certificates = match &self.ca {
            Some(path) => read_certificates(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        if certificates.is_empty() { Err(ClientError::NoAuthorities) } else { Ok(certificates) }
    }

    /// The client's certificate and key, where it has one.
    pub fn identity(&self) -> Result<Option<Identity>, ClientError> {
        match (&self.certificate, &self.key) {
            (None, None) => Ok(None),
            (None, Some(key)) => Err(ClientError::KeyAlone { key: key.clone() }),
            (Some(certificate), key) => {
                Ok(Some(read_identity(certificate, key.as_ref().unwrap_or(certificate))?))
            }
        }
    }
}

/// Why there is no configuration for a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate of an authority cannot be trusted as such.
    #[error("cannot trust a certificate in {}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with the certificate.
        source: rustls::Error,
    },
    /// The system knows no authorities.
    #[error("this system has no certificates of authorities; name a file with them (`ca`)")]
    NoAuthorities,
    /// There is a key without a certificate.
    #[error("{} is the key of a certificate that is not named", key.display())]
    KeyAlone {
        /// The file of the key.
        key: PathBuf,
    },
    /// Certificate and key do not go together, or are of a kind that is not known.
    #[error("cannot use the certificate in {} with the key in {}", certificate.display(), key.display())]
    Identity {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The host is none that a certificate could name.
    #[error("{0:?} is no host that a certificate could name")]
    ServerName(String),
}

/// The configuration for connections to one server, which remembers what certificate the server shows: errors tell about
/// it. Connections that share it, or clones of it, resume the sessions of those before them.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    seen: Arc<Remembering>,
    server: ServerName<'static>,
}

impl ClientTls {
    /// Reads the files, so that a certificate which was renewed is used from the next connection on. Checks the server's
    /// certificate for this host, a name or an IP address.
    pub fn new(files: &TlsFiles, host: &str) -> Result<Self, ClientError> {
        let unknown = |_| ClientError::ServerName(host.to_owned());
        let server = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(unknown)?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(authorities(files)?, provider()).build();
        let seen = Arc::new(Remembering::new(verifier.map_err(|_| ClientError::NoAuthorities)?));
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(seen.clone());
        let config = match (files.identity()?, &files.certificate) {
            (Some(identity), Some(certificate)) => {
                let key = files.key.as_ref().unwrap_or(certificate);
                builder.with_client_auth_cert(identity.chain, identity.key).map_err(|source| {
                    ClientError::Identity { certificate: certificate.clone(), key: key.clone(), source }
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), seen, server })
    }

    /// The configuration, for a connection to [`server_name`](Self::server_name).
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The server whose certificate is expected.
    pub fn server_name(&self) -> ServerName<'static> {
        self.server.clone()
    }

    /// What an error of the connection means.
    pub fn explain(&self, error: &rustls::Error) -> TlsProblem {
        explain(error, &Presented { chain: self.seen.chain(), server: self.server.to_str().into_owned() })
    }
}

/// Whom a client trusts.
fn authorities(files: &TlsFiles) -> Result<Arc<RootCertStore>, ClientError> {
    let Some(path) = &files.ca else { return system_authorities() };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        let refused = |source| ClientError::Authority { path: path.clone(), source };
        roots.add(certificate).map_err(refused)?;
    }
    Ok(Arc::new(roots))
}

/// The authorities of the system, which are read once: there are some hundred of them.
fn system_authorities() -> Result<Arc<RootCertStore>, ClientError> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() { Err(ClientError::NoAuthorities) } else { Ok(roots.clone()) }
}
