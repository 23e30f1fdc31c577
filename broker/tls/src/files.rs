//! PEM files: certificates, private keys and revocation lists.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Maximum size of a PEM file, in bytes. The bundle of a system's authorities has 250 KiB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Identity of one side of a connection: its certificate with the intermediate certificates, and its private key.
#[derive(Debug, PartialEq)]
pub struct Identity {
    /// Certificates in the order of the handshake: that of this side first, then the intermediate ones.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the first certificate.
    pub key: PrivateKeyDer<'static>,
}

/// Error of reading a PEM file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file has no section of the expected kind.
    #[error("no {what} in {}: it has to be a PEM file with a section `-----BEGIN {label}-----`", path.display())]
    Missing {
        /// Path of the file.
        path: PathBuf,
        /// Kind of section, for people, such as `private key`.
        what: &'static str,
        /// PEM label of such a section.
        label: &'static str,
    },
    /// A section of the file is damaged.
    #[error("{} is no PEM file that can be read: {reason}", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Problem of the section.
        reason: String,
    },
}

/// Reads the certificates of a file, in its order; at least one.
///
/// # Errors
///
/// The file cannot be read, is damaged, or contains no certificate.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| damaged(path, &error))?;
    if certificates.is_empty() {
        return Err(FileError::Missing { path: path.to_owned(), what: "certificate", label: "CERTIFICATE" });
    }
    Ok(certificates)
}

/// Reads a certificate with its chain, and the private key (PKCS#8, PKCS#1 or SEC 1) from another file or the same
/// one.
///
/// # Errors
///
/// A file cannot be read, is damaged, or lacks the certificate or the key.
pub fn read_identity(certificate: &Path, key: &Path) -> Result<Identity, FileError> {
    let chain = read_certificates(certificate)?;
    let private = match PrivateKeyDer::from_pem_slice(&read(key)?) {
        Ok(private) => private,
        Err(pem::Error::NoItemsFound) => {
            return Err(FileError::Missing {
                path: key.to_owned(),
                what: "private key",
                label: "PRIVATE KEY",
            });
        }
        Err(error) => return Err(damaged(key, &error)),
    };
    Ok(Identity { chain, key: private })
}

/// Reads the revocation lists of a file; at least one.
///
/// # Errors
///
/// The file cannot be read, is damaged, or contains no revocation list.
pub fn read_revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let bytes = read(path)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let lists = lists.map_err(|error| damaged(path, &error))?;
    if lists.is_empty() {
        return Err(FileError::Missing { path: path.to_owned(), what: "revocation list", label: "X509 CRL" });
    }
    Ok(lists)
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(damaged(path, &format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

fn damaged(path: &Path, reason: &impl ToString) -> FileError {
    FileError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn a_chain_and_its_key_are_read_from_two_files_and_from_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["pi.local".to_owned()]).expect("a certificate");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let apart = (write(&folder, "cert.pem", &certificate), write(&folder, "key.pem", &key));
        let together = write(&folder, "both.pem", &format!("{key}{certificate}{certificate}"));
        let identity = read_identity(&apart.0, &apart.1).expect("two files");
        assert_eq!(identity.chain, [made.cert.der().clone()]);
        assert_eq!(identity.key.secret_der(), made.signing_key.serialized_der());
        let identity = read_identity(&together, &together).expect("one file");
        assert_eq!(identity.chain.len(), 2);
    }

    #[test]
    fn errors_name_the_file_and_what_it_lacks() {
        let folder = tempfile::tempdir().expect("a folder");
        let nowhere = folder.path().join("nowhere.pem");
        let text = write(&folder, "text.pem", "hello\n");
        let cut = write(&folder, "cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
        let certificate = rcgen::generate_simple_self_signed(vec![]).expect("a certificate").cert.pem();
        let alone = write(&folder, "alone.pem", &certificate);
        for (error, told) in [
            (read_certificates(&nowhere).expect_err("no file"), "cannot read"),
            (read_certificates(&text).expect_err("no PEM"), "no certificate in"),
            (read_certificates(&cut).expect_err("cut short"), "is no PEM file that can be read"),
            (read_identity(&alone, &alone).expect_err("no key"), "no private key in"),
            (read_revocations(&alone).expect_err("no list"), "no revocation list in"),
        ] {
            let error = error.to_string();
            assert!(error.contains(told) && error.contains(".pem"), "{error}");
        }
    }
}
