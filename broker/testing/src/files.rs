//! Files shared by all tests of one build: a server certificate for this machine, and unix sockets.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::authority::Authority;
use crate::name::unique;

/// Host names and addresses in the certificate.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// PEM files of a server on this machine, and of the authority that its clients trust.
#[derive(Debug)]
pub struct ServerFiles {
    /// Certificate of the authority.
    pub ca: PathBuf,
    /// Certificate of the server.
    pub certificate: PathBuf,
    /// Private key of the server.
    pub key: PathBuf,
}

/// Returns the files of the server. They are created once and shared by all tests of a build: a folder for each
/// process would be left behind when the process ends.
pub fn server_files() -> &'static ServerFiles {
    static FILES: OnceLock<ServerFiles> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = folder().join("authority");
        if !folder.exists() {
            create(&folder);
        }
        let file = |name: &str| folder.join(name);
        ServerFiles { ca: file("ca.pem"), certificate: file("0.pem"), key: file("0.key") }
    })
}

/// Creates the folder, unless another process has created it first.
fn create(folder: &Path) {
    let authority = Authority::new_in("authority of these tests", self::folder());
    authority.issue(&HOSTS);
    let made = authority.into_folder();
    if let Err(error) = std::fs::rename(&made, folder) {
        std::fs::remove_dir_all(&made).expect("ours");
        assert!(folder.exists(), "cannot make {}: {error}", folder.display());
    }
}

/// Returns an unused path for a unix socket.
pub fn socket_path() -> PathBuf {
    folder().join(format!("{}-{}.sock", std::process::id(), unique()))
}

/// Returns the TLS configuration of a client that trusts the server of [`server_files`].
pub(crate) fn client_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(&server_files().ca).expect("a certificate");
        roots.add(authority).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    config.clone()
}

/// Returns the folder of such files, beside the programs of the build.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let program = std::env::current_exe().expect("this program has a path");
        // The program is target/debug/deps/NAME; the build is target/debug.
        let build = program.ancestors().nth(2).expect("it is in a folder");
        let folder = build.join("rantai-testing");
        std::fs::create_dir_all(&folder).expect("the build can be written to");
        folder
    })
}
