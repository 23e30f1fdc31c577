//! Certificate authority that exists for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Certificate authority with a folder for its files.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
    issued: AtomicUsize,
}

/// Certificate issued by an [`Authority`], with its files.
#[derive(Debug)]
pub struct Issued {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
    x509: rcgen::Certificate,
    pair: KeyPair,
}

impl Authority {
    /// Creates an authority of this name, in a temporary folder.
    pub fn new(name: &str) -> Self {
        Self::with(name, tempfile::tempdir().expect("a folder"))
    }

    /// Creates an authority whose folder is made in `parent`.
    pub(crate) fn new_in(name: &str, parent: &Path) -> Self {
        Self::with(name, tempfile::tempdir_in(parent).expect("a folder"))
    }

    fn with(name: &str, folder: TempDir) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("written");
        Self { folder, certificate, issuer: Issuer::new(params, key), issued: AtomicUsize::new(0) }
    }

    /// Returns the folder of its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the folder, which is not removed on drop any more.
    pub(crate) fn into_folder(self) -> PathBuf {
        self.folder.keep()
    }

    /// Returns the file of the authority's own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder().join("ca.pem")
    }

    /// Issues a certificate for these host names and addresses.
    pub fn issue(&self, hosts: &[&str]) -> Issued {
        self.issue_with(hosts, |_| {})
    }

    /// Issues a certificate for these hosts, after `change` has modified its parameters.
    pub fn issue_with(&self, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).expect("names and addresses");
        change(&mut params);
        let pair = KeyPair::generate().expect("a key");
        let issued = params.signed_by(&pair, &self.issuer).expect("a certificate");
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let [certificate, key] = ["pem", "key"].map(|kind| self.folder().join(format!("{number}.{kind}")));
        std::fs::write(&certificate, issued.pem()).expect("written");
        std::fs::write(&key, pair.serialize_pem()).expect("written");
        Issued { certificate, key, x509: issued, pair }
    }
}

impl Issued {
    /// Returns the TLS configuration of a server with this certificate. With `clients`, it accepts only clients with a
    /// certificate of that authority.
    pub fn server(&self, clients: Option<&Authority>) -> Arc<ServerConfig> {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.der().clone()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let key = PrivateKeyDer::try_from(self.pair.serialize_der()).expect("PKCS#8");
        let config = builder.with_single_cert(vec![self.x509.der().clone()], key);
        Arc::new(config.expect("certificate and key belong together"))
    }
}
