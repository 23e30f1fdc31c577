//! Folder of an authority: its files, and how they are written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rantai_group_commit::make_private_folder;
use rcgen::KeyPair;

use super::about::About;
use crate::exit::{Exit, Failure};
use crate::private_file;
use crate::private_file::lock;

/// Folder of an authority: its certificate `ca.pem` and key, the certificates of servers beside them, those of clients in the
/// folder `clients`, the list of revoked ones in `crl.pem`, and a list of all signed certificates in `issued`.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Lock against other processes that change the folder.
    _lock: File,
}

/// Files of a certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Private key of a certificate that is about to be written.
pub(crate) enum Key {
    /// New key, readable by its owner only.
    New(KeyPair),
    /// New key that replaces another and is used by the same user and group.
    Renewed(KeyPair),
    /// Key that is in the file already.
    Kept(KeyPair),
}

impl Key {
    pub(crate) fn pair(&self) -> &KeyPair {
        let (Self::New(pair) | Self::Renewed(pair) | Self::Kept(pair)) = self;
        pair
    }
}

impl Folder {
    /// Creates the folder if it is missing, accessible to its owner only, and locks it; waits while another process holds the
    /// lock.
    pub(crate) fn make(path: &Path) -> Result<Self, Failure> {
        make_private_folder(path).map_err(|error| failed("make", path, &error))?;
        let index = path.join("issued");
        let lock = lock(&index).map_err(|error| failed("write", &index, &error))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Opens the folder of an existing authority, and locks it.
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

    /// Returns the files of the authority's certificate.
    pub(crate) fn authority(&self) -> Pair {
        Pair::in_folder(&self.path, "ca")
    }

    /// Returns the files of a server's certificate.
    pub(crate) fn server(&self, name: &str) -> Pair {
        Pair::in_folder(&self.path, name)
    }

    /// Returns the files of a client's certificate.
    pub(crate) fn client(&self, name: &str) -> Pair {
        Pair::in_folder(&self.path.join("clients"), name)
    }

    pub(super) fn index(&self) -> PathBuf {
        self.path.join("issued")
    }

    /// Returns the path of the list of revoked certificates.
    pub(crate) fn revocations(&self) -> PathBuf {
        self.path.join("crl.pem")
    }

    /// Returns the certificates of all servers, and those of all clients, sorted by name.
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

    /// Fails if one of the files exists, unless `force` is true.
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

    /// Writes the key, if it is new, and then the certificate.
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

    /// Reads the certificate, the first of its file.
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

    /// Reads the private key.
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

/// Writes a file that only its owner may read, and replaces an existing one.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    private_file::write_private(path, text).map_err(|error| failed("write", path, &error))
}

/// Replaces a file, and keeps its owner, group and the group's read permission.
pub(crate) fn rewrite_secret(path: &Path, text: &str) -> Result<(), Failure> {
    private_file::rewrite(path, text).map_err(|error| failed("write", path, &error))
}

/// Writes a file that every user may read who has access to its folder.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), Failure> {
    private_file::write_public(path, text).map_err(|error| failed("write", path, &error))
}

/// Returns the certificates of a folder that have a key beside them.
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
