//! Selection of a server's certificate by the name that the client asks for.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates of one server. A client gets the first one that is valid for the server name it sends (SNI) and whose key it
/// can verify; a client that sends no name, as by an IP address, or an unknown one gets the default.
#[derive(Debug)]
pub(crate) struct ByName {
    /// Certificates; the first is the default.
    keys: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    /// Creates the selection. `keys` contains at least one certificate; the first is the default.
    pub(crate) fn new(keys: Vec<CertifiedKey>) -> Self {
        Self { keys: keys.into_iter().map(Arc::new).collect() }
    }

    fn find(&self, name: &str, can_verify: impl Fn(&CertifiedKey) -> bool) -> Option<&Arc<CertifiedKey>> {
        let name = ServerName::try_from(name).ok()?;
        self.keys.iter().find(|key| is_valid_for(key, &name) && can_verify(key))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let can_verify = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        let named = hello.server_name().filter(|_| self.keys.len() > 1);
        named.and_then(|name| self.find(name, can_verify)).or_else(|| self.keys.first()).cloned()
    }
}

fn is_valid_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    certificate.and_then(|certificate| verify_server_name(&certificate, name)).is_ok()
}
