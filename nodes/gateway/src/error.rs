//! Error of starting a gateway.

use std::io;

use rantai_tls::ServerTlsError;

/// Error of starting a gateway.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// Its address cannot be listened on.
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    /// Users of the configuration, or of its password file, cannot be used.
    #[error("cannot use its users")]
    Users(#[source] io::Error),
    /// Some of the files of TLS are missing in the configuration.
    #[error("cannot serve HTTPS: {0}")]
    Incomplete(String),
    /// The files of TLS cannot be used.
    #[error("cannot serve HTTPS")]
    Tls(#[source] Box<ServerTlsError>),
}
