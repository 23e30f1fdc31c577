//! TLS by rustls and ring, shared by broker, client and gateways. Certificates, keys and revocation lists are PEM files.

mod by_name;
mod client;
mod files;
mod problem;
mod reasons;
mod server;
mod subject;
mod verifier;
mod warning;

use std::sync::Arc;

pub use client::{ClientError, ClientTls, TlsFiles};
pub use files::{FileError, Identity, read_certificates, read_identity, read_revocations};
pub use problem::TlsProblem;
pub use reasons::client_failure;
use rustls::crypto::CryptoProvider;
pub use rustls::pki_types::CertificateDer;
pub use server::{CertificateFiles, ClientFiles, Renewal, ServerFiles, ServerTls, ServerTlsError};
pub use subject::{NameField, SubjectError, user_name};
pub use warning::CertificateWarning;

/// Returns the cryptography provider of every configuration: ring.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
