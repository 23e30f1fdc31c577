//! Client side of a TLS connection: trusted authorities, the client's own certificate, and the expected server.

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

/// PEM files of a client. By default, the client trusts the authorities of the system and presents no certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the trusted authorities, in place of those of the system.
    pub ca: Option<PathBuf>,
    /// Certificate of the client, followed by its chain.
    pub certificate: Option<PathBuf>,
    /// Private key of the certificate. If `None`, the key is read from the file of the certificate.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// Returns the certificates of the trusted authorities, from the file if there is one, otherwise from the system.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or there are no authorities.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, ClientError> {
        let certificates = match &self.ca {
            Some(path) => read_certificates(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        if certificates.is_empty() { Err(ClientError::NoAuthorities) } else { Ok(certificates) }
    }

    /// Returns the client's certificate and key, if they are configured.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or a key is configured without a certificate.
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

/// Error of creating the TLS configuration of a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate in the file of authorities cannot serve as a trust anchor.
    #[error("cannot trust a certificate in {}", path.display())]
    Authority {
        /// File of the authorities.
        path: PathBuf,
        /// Problem of the certificate.
        source: rustls::Error,
    },
    /// The system has no certificates of authorities.
    #[error("this system has no certificates of authorities; name a file with them (`ca`)")]
    NoAuthorities,
    /// A key is configured without a certificate.
    #[error("{} is the key of a certificate that is not named", key.display())]
    KeyAlone {
        /// File of the key.
        key: PathBuf,
    },
    /// Certificate and key do not belong together, or are of an unsupported kind.
    #[error("cannot use the certificate in {} with the key in {}", certificate.display(), key.display())]
    Identity {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Problem of the pair.
        source: rustls::Error,
    },
    /// The host is not one that a certificate could name.
    #[error("{0:?} is no host that a certificate could name")]
    ServerName(String),
}

/// TLS configuration for connections to one server. It remembers the certificate that the server presents, so that errors
/// can describe it. Connections that share this configuration, or clones of it, resume the TLS sessions of earlier
/// connections.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    seen: Arc<Remembering>,
    server: ServerName<'static>,
}

impl ClientTls {
    /// Reads the files, so a renewed certificate is used from the next call on. The server's certificate is checked for
    /// `host`, a name or an IP address.
    ///
    /// # Errors
    ///
    /// A file cannot be used, there are no authorities, or a certificate cannot name the host.
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

    /// Returns the configuration of rustls, for a connection to [`server_name`](Self::server_name).
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// Returns the name that the server's certificate must be valid for.
    pub fn server_name(&self) -> ServerName<'static> {
        self.server.clone()
    }

    /// Explains an error of a connection with this configuration.
    pub fn explain(&self, error: &rustls::Error) -> TlsProblem {
        explain(error, &Presented { chain: self.seen.chain(), server: self.server.to_str().into_owned() })
    }
}

/// Returns the authorities that a client trusts.
fn authorities(files: &TlsFiles) -> Result<Arc<RootCertStore>, ClientError> {
    let Some(path) = &files.ca else { return system_authorities() };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        let refused = |source| ClientError::Authority { path: path.clone(), source };
        roots.add(certificate).map_err(refused)?;
    }
    Ok(Arc::new(roots))
}

/// Returns the authorities of the system. They are read once per process, as there are some hundred of them.
fn system_authorities() -> Result<Arc<RootCertStore>, ClientError> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() { Err(ClientError::NoAuthorities) } else { Ok(roots.clone()) }
}
