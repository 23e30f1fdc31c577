//! Listeners besides those of `listen`: their transports, and the clients that they admit.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use rantai_tls::CertificateFiles;

/// A table of `[[listeners]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Endpoint on which to accept connections.
    pub endpoint: Endpoint,
    /// TLS settings, if connections use TLS.
    pub tls: Option<TlsSettings>,
    /// WebSocket settings, if connections carry MQTT over WebSocket.
    pub web: Option<WebSettings>,
    /// Whether clients without a user name are admitted here. Default: as by
    /// [`Config::anonymous`](super::Config::anonymous).
    pub anonymous: Option<bool>,
    /// Users who may log in here. Default: all of them.
    pub users: Option<Vec<String>>,
    /// Maximum number of simultaneous clients here. Default: no limit besides `limits.connections`.
    pub connections: Option<usize>,
}

/// Address or file on which a listener accepts connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP; port 0 picks a free port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Path of the socket.
        path: PathBuf,
        /// Permissions of the file, such as 0o660. Default: 0o777 less the process's umask.
        mode: Option<u32>,
    },
}

/// TLS settings of a listener. Files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificate of the listener, followed by the intermediate certificates up to its root.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
    /// Certificates for clients that ask for a server name (SNI) that one of them is valid for.
    pub additional_certificates: Vec<CertificateFiles>,
    /// Root certificates of accepted client certificates.
    pub client_ca: Option<PathBuf>,
    /// Which clients need a certificate. Default: none without `client_ca`, otherwise all.
    pub client_certificates: ClientCertificates,
    /// Part of a client certificate that names its user.
    pub user_from: UserFrom,
    /// Revocation lists for client certificates.
    pub revocations: Option<PathBuf>,
}

impl TlsSettings {
    /// Creates the settings of a listener with this certificate and key, which asks clients for no certificate.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            additional_certificates: Vec::new(),
            client_ca: None,
            client_certificates: ClientCertificates::default(),
            user_from: UserFrom::default(),
            revocations: None,
        }
    }

    /// Returns the files of all private keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Path> {
        let additional = self.additional_certificates.iter().map(|files| &*files.key);
        std::iter::once(&*self.key).chain(additional)
    }
}

/// Which clients of a TLS listener need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// No client is asked for a certificate.
    #[default]
    None,
    /// Clients may have a certificate; others log in with a password, or anonymously, as without TLS.
    Wanted,
    /// The handshake fails without a certificate.
    Required,
}

/// Part of a client certificate that names its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserFrom {
    /// Common name of the subject.
    #[default]
    Cn,
    /// First DNS name or e-mail address of the subject alternative names.
    San,
}

/// WebSocket settings of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSettings {
    /// Path of the URL, without a query. Default: `/mqtt`.
    pub path: String,
    /// Sites whose pages may connect from a browser.
    pub origins: Origins,
}

impl Default for WebSettings {
    fn default() -> Self {
        Self { path: "/mqtt".to_owned(), origins: Origins::default() }
    }
}

/// Sites whose pages may connect from a browser. Clients that are not browsers send no origin, and are admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages of the host by which the listener is reached, on any port.
    #[default]
    SameHost,
    /// Pages of these sites, in lower case: `scheme://host` or `scheme://host:port`.
    Of(Vec<String>),
    /// Any page.
    Any,
}

impl Listener {
    /// Creates a listener for MQTT over TCP, for all clients that the broker admits.
    pub fn tcp(address: SocketAddr) -> Self {
        let endpoint = Endpoint::Tcp(address);
        Self { endpoint, tls: None, web: None, anonymous: None, users: None, connections: None }
    }

    /// Returns the `protocol` of its table: `tcp`, `tls`, `ws`, `wss` or `unix`.
    pub fn protocol(&self) -> &'static str {
        match (&self.endpoint, &self.tls, &self.web) {
            (Endpoint::Unix { .. }, ..) => "unix",
            (_, None, None) => "tcp",
            (_, Some(_), None) => "tls",
            (_, None, Some(_)) => "ws",
            (_, Some(_), Some(_)) => "wss",
        }
    }

    /// Returns a description for errors and logs.
    pub(crate) fn title(&self) -> String {
        format!("the {} listener on {}", self.protocol(), self.endpoint)
    }

    /// Returns the TCP address; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.endpoint {
            Endpoint::Tcp(address) => Some(address),
            Endpoint::Unix { .. } => None,
        }
    }
}

impl Endpoint {
    /// Returns whether both are the same address or file. Port 0 never equals itself: it selects a different port each
    /// time.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => {
                let (one_ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
                one.port() != 0 && (one_ip, one.port()) == (other_ip, other.port())
            }
            (Self::Unix { path: one, .. }, Self::Unix { path: other, .. }) => one == other,
            _ => false,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => path.display().fmt(f),
        }
    }
}
