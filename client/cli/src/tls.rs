//! Files for TLS: of the command line, the environment, contexts and nodes.toml.

use std::path::{Path, PathBuf};

use rantai_client::session::{ClientError, TlsFiles};
use rantai_tls::ClientTls;

use crate::exit::{Exit, Failure};
use crate::private_file::is_open_to_others;
use crate::terminal::note;

/// For commands that connect.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct TlsArguments {
    /// Trust the authorities whose certificates are in this file instead of the system's: for mqtts:// and wss://
    #[arg(long, global = true, value_name = "FILE", env = "RANTAI_CA", hide_env_values = true)]
    pub(crate) ca: Option<PathBuf>,
    /// A certificate to show to the broker, with its chain
    #[arg(long, global = true, value_name = "FILE", env = "RANTAI_CERT", hide_env_values = true)]
    pub(crate) cert: Option<PathBuf>,
    #[arg(
        id = "tls_key",
        long = "key",
        help = "The private key of --cert, if it is in another file",
        global = true,
        value_name = "FILE",
        env = "RANTAI_KEY",
        hide_env_values = true
    )]
    pub(crate) key: Option<PathBuf>,
}

impl TlsArguments {
    /// Returns these files, and those of `other` for files that are not set. A certificate and its key are taken from one source.
    pub(crate) fn or(&self, other: TlsFiles) -> Result<TlsFiles, Failure> {
        let ca = self.ca.clone().or(other.ca);
        let (certificate, key) = match (&self.cert, &self.key) {
            (None, None) => (other.certificate, other.key),
            (None, Some(_)) => {
                let text = "a key without a certificate: name the certificate with --cert or RANTAI_CERT";
                return Err(Failure::new(Exit::Usage, text));
            }
            (Some(certificate), None) => {
                check_has_key(certificate)?;
                (Some(certificate.clone()), None)
            }
            (certificate, key) => (certificate.clone(), key.clone()),
        };
        Ok(TlsFiles { ca, certificate, key })
    }
}

/// Returns an error if a file of a certificate contains no key; for use if no key file is given.
fn check_has_key(certificate: &Path) -> Result<(), Failure> {
    // A file that cannot be read is reported when it is used.
    if certificate.is_file() && std::fs::read(certificate).is_ok() && !has_key(certificate) {
        let text = format!(
            "a certificate without its key: there is none in {}; name the key's file with --key or RANTAI_KEY",
            certificate.display()
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(())
}

/// Reads the files, so that errors in them are reported before they are used.
pub(crate) fn check_files(files: &TlsFiles) -> Result<(), Failure> {
    if let (Some(certificate), None) = (&files.certificate, &files.key) {
        check_has_key(certificate)?;
    }
    if *files != TlsFiles::default() {
        match ClientTls::new(files, "localhost") {
            // Without authorities on this machine; the one that will use the files may have some.
            Ok(_) | Err(ClientError::NoAuthorities) => {}
            Err(error) => return Err(Failure::from_error(Exit::Usage, &error)),
        }
    }
    warn_of_open_key(files);
    Ok(())
}

/// Warns if other users may read a private key.
pub(crate) fn warn_of_open_key(files: &TlsFiles) {
    let Some(file) = files.key.as_deref().or(files.certificate.as_deref()) else { return };
    if file.metadata().is_ok_and(|about| about.is_file() && is_open_to_others(&about)) && has_key(file) {
        let shown = file.display();
        note(&format!("warning: others may read the key in {shown}; `chmod 600 {shown}` keeps it to you"));
    }
}

/// Checks whether a file contains a private key; a file with only a certificate may be readable by everybody.
fn has_key(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.contains("PRIVATE KEY-----"))
}
