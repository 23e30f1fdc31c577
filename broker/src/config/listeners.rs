//! Listeners beside those of `listen`: over what they carry MQTT, and whom they let in.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use rantai_tls::CertificateFiles;

/// A table of `[[listeners]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where to accept connections.
    pub endpoint: Endpoint,
    /// TLS, where connections use it.
    pub tls: Option<TlsSettings>,
    /// WebSocket, where connections carry MQTT in it.
    pub web: Option<WebSettings>,
    /// Whether clients without a user name are let in here. Default: as by [`Config::anonymous`](super::Config::anonymous).
    pub anonymous: Option<bool>,
    /// Users who may log in here. Default: all of them.
    pub users: Option<Vec<String>>,
    /// Clients connected here at one time. Default: no other limit than `limits.connections`.
    pub connections: Option<usize>,
}

/// Where a listener accepts connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// Permissions of the file, such as 0o660. Default: what the process's umask leaves of 0o777.
        mode: Option<u32>,
    },
}

/// TLS of a listener. Files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The listener's certificate, followed by those between it and its root.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Certificates for clients that ask for a server name (SNI) that one of them is valid for.
    pub additional_certificates: Vec<CertificateFiles>,
    /// Roots of the client certificates that are taken.
    pub client_ca: Option<PathBuf>,
    /// Which clients need a certificate. Default: without `client_ca` none, else all.
    pub client_certificates: ClientCertificates,
    /// The part of a client certificate that names its user.
    pub user_from: UserFrom,
    /// Revocation lists for client certificates.
    pub revocations: Option<PathBuf>,
}

impl TlsSettings {
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
    /// Nobody is asked for one.
    #[default]
    None,
    /// Clients may have one; the others log in as elsewhere.
    Wanted,
    /// The handshake fails without one.
    Required,
}

/// The part of a client certificate that names its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserFrom {
    /// The common name of its subject.
    #[default]
    Cn,
    /// The first DNS name or e-mail address of its subject alternative names.
    San,
}

/// WebSocket of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSettings {
    /// The path of the URL, without a query. Default: `/mqtt`.
    pub path: String,
    /// Which browsers' pages may connect.
    pub origins: Origins,
}

impl Default for WebSettings {
    fn default() -> Self {
        Self { path: "/mqtt".to_owned(), origins: Origins::default() }
    }
}

/// Pages of which sites browsers let connect. Clients that are no browsers send no origin, and are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages of the host that the listener is reached by, on whatever port.
    #[default]
    SameHost,
    /// Pages of these sites, in lower case: `scheme://host` or `scheme://host:port`.
    Of(Vec<String>),
    /// Any page.
    Any,
}

impl Listener {
    /// MQTT over TCP, for whoever the whole broker lets in.
    pub fn tcp(address: SocketAddr) -> Self {
        let endpoint = Endpoint::Tcp(address);
        Self { endpoint, tls: None, web: None, anonymous: None, users: None, connections: None }
    }

    /// The `protocol` of its table: `tcp`, `tls`, `ws`, `wss` or `unix`.
    pub fn protocol(&self) -> &'static str {
        match (&self.endpoint, &self.tls, &self.web) {
            (Endpoint::Unix { .. }, ..) => "unix",
            (_, None, None) => "tcp",
            (_, Some(_), None) => "tls",
            (_, None, Some(_)) => "ws",
            (_, Some(_), Some(_)) => "wss",
        }
    }

    /// What a message calls it.
    pub(crate) fn title(&self) -> String {
        format!("the {} listener on {}", self.protocol(), self.endpoint)
    }

    /// Its address; none for a unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.endpoint {
            Endpoint::Tcp(address) => Some(address),
            Endpoint::Unix { .. } => None,
        }
    }
}

impl Endpoint {
    /// Whether both are the same address or file; port 0 is another port each time.
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
