//! TLS configurations that are kept between connections, with the session tickets that let a client resume a TLS
//! session without exchanging certificates and signatures again.

use std::fs;
use std::path::Path;

use parking_lot::Mutex;
use rantai_tls::{ClientError, ClientTls, TlsFiles};

/// Maximum size of a TLS file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Configurations of one session, each with the digest of the files that it was made from.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Vec<KeptConfig>>);

#[derive(Debug)]
struct KeptConfig {
    host: String,
    digest: blake3::Hash,
    tls: ClientTls,
}

impl Tickets {
    /// Returns the configuration for this host. The files are read for every connection; a changed file leads to a new
    /// configuration, without the tickets of the old one.
    pub(super) fn config(&self, files: &TlsFiles, host: &str) -> Result<ClientTls, ClientError> {
        let Some(digest) = digest(files) else { return ClientTls::new(files, host) };
        let mut all = self.0.lock();
        if let Some(kept) = all.iter().find(|kept| kept.host == host && kept.digest == digest) {
            return Ok(kept.tls.clone());
        }
        let tls = ClientTls::new(files, host)?;
        all.retain(|kept| kept.host != host);
        all.push(KeptConfig { host: host.to_owned(), digest, tls: tls.clone() });
        Ok(tls)
    }
}

/// Returns a digest of the files' contents; `None` if one of them cannot be read, which creating the configuration then
/// reports.
fn digest(files: &TlsFiles) -> Option<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    for file in [&files.ca, &files.certificate, &files.key] {
        let bytes = match file {
            Some(file) => read(file)?,
            None => Vec::new(),
        };
        // The length comes first, so that moving bytes from one file to the next changes the digest.
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Some(hasher.finalize())
}

/// Reads a regular file. A pipe or a device would block, or be empty the second time.
fn read(file: &Path) -> Option<Vec<u8>> {
    let about = fs::metadata(file).ok()?;
    if about.is_file() && about.len() <= MAX_FILE_BYTES { fs::read(file).ok() } else { None }
}
