//! TLS configurations that are kept from one connection to the next: with them the tickets by which a client resumes a
//! session of TLS, without certificates and their signatures.

use std::fs;
use std::path::Path;

use parking_lot::Mutex;
use rantai_tls::{ClientError, ClientTls, TlsFiles};

/// Bytes of the longest file that is looked at.
const MAX_FILE: u64 = 16 << 20;

/// The configurations of one session, each with the digest of the files that it was made of.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Vec<Kept>>);

#[derive(Debug)]
struct Kept {
    host: String,
    digest: blake3::Hash,
    tls: ClientTls,
}

impl Tickets {
    /// The configuration for this host. The files are read at every connection; one that has changed makes a new
    /// configuration, without the tickets of the old one.
    pub(super) fn config(&self, files: &TlsFiles, host: &str) -> Result<ClientTls, ClientError> {
        let Some(digest) = digest(files) else { return ClientTls::new(files, host) };
        let mut all = self.0.lock();
        if let Some(kept) = all.iter().find(|kept| kept.host == host && kept.digest == digest) {
            return Ok(kept.tls.clone());
        }
        let tls = ClientTls::new(files, host)?;
        all.retain(|kept| kept.host != host);
        all.push(Kept { host: host.to_owned(), digest, tls: tls.clone() });
        Ok(tls)
    }
}

/// A digest of what the files hold; `None` where one of them is no file that can be read, which making the configuration
/// explains.
fn digest(files: &TlsFiles) -> Option<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    for file in [&files.ca, &files.certificate, &files.key] {
        let bytes = match file {
            Some(file) => read(file)?,
            None => Vec::new(),
        };
        // Its length before it: bytes that move from one file to the next are a change.
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Some(hasher.finalize())
}

/// What a file holds; a pipe or a device would block, or be empty the second time.
fn read(file: &Path) -> Option<Vec<u8>> {
    let about = fs::metadata(file).ok()?;
    if about.is_file() && about.len() <= MAX_FILE { fs::read(file).ok() } else { None }
}
