//! Errors of starting a gateway.

use std::io;

use rantai_tls::ServerTlsError;

/// Error of starting a gateway.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The gateway cannot listen on its address.
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    /// The users of the configuration or its password file are invalid.
    #[error("cannot use its users")]
    Users(#[source] io::Error),
    /// The configuration lacks some of the files for TLS.
    #[error("cannot serve HTTPS: {0}")]
    Incomplete(String),
    /// The files for TLS cannot be used.
    #[error("cannot serve HTTPS")]
    Tls(#[source] Box<ServerTlsError>),
}
