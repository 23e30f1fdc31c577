//! PEM files: certificates, private keys and revocation lists.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// More bytes than any file of certificates that is meant: the bundle of a system has 250 KiB.
const LONGEST_FILE: u64 = 16 << 20;

/// Who a side of a connection is: its certificate with those of intermediate authorities behind it, and its private key.
#[derive(Debug, PartialEq)]
pub struct Identity {
    /// The certificate of this side first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the first certificate.
    pub key: PrivateKeyDer<'static>,
}

/// Why a PEM file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has no section of this kind.
    #[error("no {what} in {}: it has to be a PEM file with a section `-----BEGIN {label}-----`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// The label of such a section.
        label: &'static str,
    },
    /// A section of the file is damaged.
    #[error("{} is no PEM file that can be read: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The certificates of a file, in its order; one at least.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| damaged(path, &error))?;
    if certificates.is_empty() {
        return Err(FileError::Missing { path: path.to_owned(), what: "certificate", label: "CERTIFICATE" });
    }
    Ok(certificates)
}

/// A certificate with its chain, and the private key (PKCS#8, PKCS#1 or SEC 1) of another file or of the same one.
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

/// The revocation lists of a file; one at least.
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
    let read = File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    read.map_err(failed)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(damaged(path, &format!("it is longer than {LONGEST_FILE} bytes")));
    }
    Ok(bytes)
}

fn damaged(path: &Path, reason: &impl ToString) -> FileError {
    FileError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn a_chain_and_its_key_are_read_from_two_files_and_from_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["pi.local".to_owned()]).expect("a certificate");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let apart = (written(&folder, "cert.pem", &certificate), written(&folder, "key.pem", &key));
        let together = written(&folder, "both.pem", &format!("{key}{certificate}{certificate}"));
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
        let text = written(&folder, "text.pem", "hello\n");
        let cut = written(&folder, "cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
        let certificate = rcgen::generate_simple_self_signed(vec![]).expect("a certificate").cert.pem();
        let alone = written(&folder, "alone.pem", &certificate);
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
