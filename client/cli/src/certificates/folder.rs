//! The folder of an authority: which file is what, and how they are written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rantai_group_commit::make_private_folder;
use rcgen::KeyPair;

use super::about::About;
use crate::exit::{Exit, Failure};
use crate::private_file;
use crate::private_file::lock;

/// A folder with an authority: its certificate `ca.pem` and key, those of servers beside them, those of clients in the
/// folder `clients`, the list of revoked ones in `crl.pem`, and everything that was signed in `issued`.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Keeps other processes from changing it.
    _lock: File,
}

/// A certificate and its private key, in two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The private key of a certificate that is about to be written.
pub(crate) enum Key {
    /// A new one, for its owner alone.
    New(KeyPair),
    /// A new one in the place of another, which the same user and group use.
    Renewed(KeyPair),
    /// The one that is in the file already.
    Kept(KeyPair),
}

impl Key {
    pub(crate) fn pair(&self) -> &KeyPair {
        let (Self::New(pair) | Self::Renewed(pair) | Self::Kept(pair)) = self;
        pair
    }
}

impl Folder {
    /// Makes the folder, for its owner alone, where it is missing, and keeps it to this process; waits while another one has it.
    pub(crate) fn make(path: &Path) -> Result<Self, Failure> {
        make_private_folder(path).map_err(|error| failed("make", path, &error))?;
        let index = path.join("issued");
        let lock = lock(&index).map_err(|error| failed("write", &index, &error))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The folder of an authority that is there.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let certificate = path.join("ca.pem");
        if !certificate.is_file() {
            let text = format!(
                "there is no authority in {}: no file ca.pem; make one with `rantai cert ca {}`",
                path.display(),
                path.display()
            );
            return Err(Failure::new(Exit::Usage, text));
        }
        Self::make(path)
    }

    /// The authority's own.
    pub(crate) fn authority(&self) -> Pair {
        Pair::in_folder(&self.path, "ca")
    }

    /// That of a server.
    pub(crate) fn server(&self, name: &str) -> Pair {
        Pair::in_folder(&self.path, name)
    }

    /// That of a client.
    pub(crate) fn client(&self, name: &str) -> Pair {
        Pair::in_folder(&self.path.join("clients"), name)
    }

    pub(super) fn index(&self) -> PathBuf {
        self.path.join("issued")
    }

    /// The list of revoked certificates.
    pub(crate) fn revocations(&self) -> PathBuf {
        self.path.join("crl.pem")
    }

    /// Every pair of a server, then every pair of a client, by name.
    pub(crate) fn pairs(&self) -> Result<(Vec<Pair>, Vec<Pair>), Failure> {
        let mut servers = pairs_in(&self.path)?;
        servers.retain(|pair| *pair != self.authority());
        Ok((servers, pairs_in(&self.path.join("clients"))?))
    }
}

impl Pair {
    fn in_folder(folder: &Path, name: &str) -> Self {
        Self { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) }
    }

    /// Refuses to replace what is there, unless that is wanted.
    pub(crate) fn check_free(&self, force: bool) -> Result<(), Failure> {
        let there = [&self.key, &self.certificate].into_iter().find(|path| path.symlink_metadata().is_ok());
        match there {
            Some(path) if !force => {
                let text = format!(
                    "{} is there already and stays as it is; --force makes a new one in its place, `rantai cert renew` keeps \
                     the key",
                    path.display()
                );
                Err(Failure::new(Exit::Usage, text))
            }
            _ => Ok(()),
        }
    }

    /// Writes the key, where it is a new one, and then the certificate.
    pub(crate) fn write(&self, certificate: &str, key: &Key) -> Result<(), Failure> {
        if let Some(folder) = self.key.parent() {
            make_private_folder(folder).map_err(|error| failed("make", folder, &error))?;
        }
        match key {
            Key::New(key) => write_secret(&self.key, &key.serialize_pem())?,
            Key::Renewed(key) => rewrite_secret(&self.key, &key.serialize_pem())?,
            Key::Kept(_) => {}
        }
        write_public(&self.certificate, certificate)
    }

    /// The certificate, the first of its file.
    pub(crate) fn about(&self) -> Result<About, Failure> {
        let certificates = rantai_tls::read_certificates(&self.certificate);
        let certificates = certificates.map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        About::read(&certificates[0]).map_err(|reason| {
            Failure::new(
                Exit::Usage,
                format!("cannot read the certificate in {}: {reason}", self.certificate.display()),
            )
        })
    }

    /// The private key.
    pub(crate) fn read_key(&self) -> Result<KeyPair, Failure> {
        let shown = self.key.display();
        let text = fs::read_to_string(&self.key).map_err(|error| failed("read", &self.key, &error))?;
        KeyPair::from_pem(&text).map_err(|error| {
            let text = format!(
                "cannot use the private key in {shown}: {error}; it has to be PKCS#8 in PEM (`-----BEGIN PRIVATE KEY-----`)"
            );
            Failure::new(Exit::Usage, text)
        })
    }
}

/// Writes a file that its owner alone may read, in the place of whatever was there.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    private_file::write_private(path, text).map_err(|error| failed("write", path, &error))
}

/// Writes a file that keeps its owner and group, and with them that the group may read it.
pub(crate) fn rewrite_secret(path: &Path, text: &str) -> Result<(), Failure> {
    private_file::rewrite(path, text).map_err(|error| failed("write", path, &error))
}

/// Writes a file that everybody may read who gets into its folder.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), Failure> {
    private_file::write_public(path, text).map_err(|error| failed("write", path, &error))
}

/// Certificates of a folder that have a key beside them.
fn pairs_in(folder: &Path) -> Result<Vec<Pair>, Failure> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", folder, &error)),
    };
    let names = entries.flatten().filter_map(|entry| {
        entry.file_name().to_str()?.strip_suffix(".pem").map(|name| Pair::in_folder(folder, name))
    });
    let mut pairs: Vec<Pair> = names.filter(|pair| pair.key.is_file()).collect();
    pairs.sort_unstable_by(|one, other| one.certificate.cmp(&other.certificate));
    Ok(pairs)
}

pub(crate) fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what} {}: {error}", path.display()))
}
