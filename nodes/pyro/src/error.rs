//! Errors of starting the gateway.

use std::io;
use std::path::PathBuf;

use rantai_tls::ServerTlsError;

/// Error of starting the gateway.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PyroGatewayError {
    /// The gateway cannot listen on its address.
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    /// The gateway cannot receive broadcasts.
    #[error("cannot receive broadcasts")]
    Broadcast(#[source] io::Error),
    /// The file of the HMAC key cannot be used.
    #[error("cannot read the HMAC key in {}: {reason}", file.display())]
    Key {
        /// Path of the file.
        file: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The files of TLS cannot be used.
    #[error("cannot use TLS")]
    Tls(#[source] Box<ServerTlsError>),
    /// The settings are invalid.
    #[error("{0}")]
    Settings(String),
}
