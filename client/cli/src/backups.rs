//! Backups by a running process, which alone can read its databases. It listens on a unix socket in its data directory,
//! accessible only to its own user and root. `rantai backup` requests a backup there, without any choices.

use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rantai_backup::{Backup, BackupSettings, Manifest, back_up, finish_restore};
use rantai_broker::{Config, STORE_LAYOUT};
use rantai_client::error_chain;
use rantai_credentials::lower_priority;
use rantai_group_commit::{Layout, open_databases};
use rantai_site::LAYOUTS;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::exit::{Exit, Failure};

/// File name of the socket in a data directory.
pub(crate) const SOCKET: &str = "backup.sock";
/// Maximum length of the path of a socket, in bytes.
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Request for a backup.
pub(crate) const REQUEST: &[u8] = b"backup\n";
/// Time limit for a client to send its request, and to read the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of clients at a time; all but one are answered that a backup is in progress.
const MAX_CLIENTS: usize = 8;

/// Version of the program, as backups note it.
pub(crate) const PROGRAM: &str = concat!("rantai ", env!("CARGO_PKG_VERSION"));

/// Option of the commands that keep data.
#[derive(clap::Args)]
pub(crate) struct BackupOption {
    /// Where `rantai backup` has this process put its backups [default: `backups` in the data directory]
    #[arg(long, value_name = "DIR", env = "RANTAI_BACKUP_DIR", hide_env_values = true)]
    backup_dir: Option<PathBuf>,
}

/// Answer to a request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Made { path: PathBuf, manifest: Manifest },
    Failed(String),
}

/// Listens for requests until it is dropped; a backup in progress then continues until the process ends.
#[derive(Debug)]
pub(crate) struct BackupServer {
    socket: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for BackupServer {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Returns the layouts of all databases that this program opens.
pub(crate) fn layouts() -> Vec<&'static Layout> {
    std::iter::once(&STORE_LAYOUT).chain(LAYOUTS).collect()
}

/// Calls `with` with a path of the socket in a data directory, for an address that has room for 107 bytes.
///
/// # Errors
///
/// That of `with`, or the directory cannot be opened.
pub(crate) fn at_socket<T>(
    data_dir: &Path,
    with: impl FnOnce(&Path) -> std::io::Result<T>,
) -> std::io::Result<T> {
    let socket = data_dir.join(SOCKET);
    if socket.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
        return with(&socket);
    }
    let folder = std::fs::File::open(data_dir)?;
    with(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(SOCKET))
}

/// Completes a restore that was killed while it put its files into this data directory. To be called before any of its
/// files is opened.
pub(crate) fn finish_restores(data_dir: Option<&Path>) -> Result<(), Failure> {
    let Some(data_dir) = data_dir else { return Ok(()) };
    finish_restore(data_dir).map_err(|error| Failure::from_error(Exit::Failed, &error))
}

/// Returns the settings of backups in a folder, by default `backups` in the data directory.
pub(crate) fn settings(folder: Option<PathBuf>, data_dir: &Path, config: &Config) -> BackupSettings {
    let folder = folder.or_else(|| config.backup_dir.clone()).unwrap_or_else(|| data_dir.join("backups"));
    BackupSettings { folder, keep: config.backups_kept, free_space: config.limits.free_space_bytes }
}

impl BackupOption {
    /// Listens in the data directory, if there is one. Must be called once all databases of the process are open.
    /// Failures are only logged, because everything else works without backups.
    pub(crate) fn listen(&self, data_dir: Option<&Path>, config: &Config) -> Option<BackupServer> {
        let data_dir = data_dir?;
        let settings = settings(self.backup_dir.clone(), data_dir, config);
        match BackupServer::start(data_dir, settings) {
            Ok(server) => Some(server),
            Err(error) => {
                let socket = data_dir.join(SOCKET);
                tracing::warn!(socket = %socket.display(), "no backups while this process runs: {error}");
                None
            }
        }
    }
}

impl BackupServer {
    fn start(data_dir: &Path, settings: BackupSettings) -> std::io::Result<Self> {
        let socket = data_dir.join(SOCKET);
        match at_socket(data_dir, |socket| std::os::unix::net::UnixStream::connect(socket)) {
            Ok(_) => {
                let text = "another process makes those of this directory; give each its own";
                return Err(std::io::Error::new(ErrorKind::AddrInUse, text));
            }
            // The socket was left behind by a process that was killed.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(&socket)?,
            Err(_) => {}
        }
        let listener = at_socket(data_dir, |socket| UnixListener::bind(socket))?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(serve(listener, data_dir.to_owned(), Arc::new(settings)));
        Ok(Self { socket, task })
    }
}

async fn serve(listener: UnixListener, data_dir: PathBuf, settings: Arc<BackupSettings>) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Usually because of too many open files: waits until there are fewer.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (data_dir, settings) = (data_dir.clone(), Arc::clone(&settings));
        tokio::spawn(async move {
            let _place = place;
            answer(client, data_dir, settings).await;
        });
    }
}

/// Reads a request, and answers it when the backup is complete. Logs the outcome, because the client may be gone by
/// then.
async fn answer(mut client: UnixStream, data_dir: PathBuf, settings: Arc<BackupSettings>) {
    let own = rustix::process::geteuid().as_raw();
    if !client.peer_cred().is_ok_and(|peer| [0, own].contains(&peer.uid())) {
        return;
    }
    let mut request = [0; REQUEST.len()];
    let read = timeout(CLIENT_TIMEOUT, client.read_exact(&mut request)).await;
    if !matches!(read, Ok(Ok(_))) || request != REQUEST {
        return;
    }
    let answer = match make(data_dir, settings).await {
        Ok(Backup { path, manifest }) => {
            tracing::info!(path = %path.display(), bytes = manifest.bytes(), "backup made");
            Answer::Made { path, manifest }
        }
        Err(text) => {
            tracing::warn!("no backup: {text}");
            Answer::Failed(text)
        }
    };
    let text = serde_json::to_vec(&answer).expect("texts and numbers");
    let _ = timeout(CLIENT_TIMEOUT, client.write_all(&text)).await;
}

/// Makes a backup on its own thread, which waits for the disk, and has a lower priority than those that serve clients.
async fn make(data_dir: PathBuf, settings: Arc<BackupSettings>) -> Result<Backup, String> {
    let (told, made) = oneshot::channel();
    let run = move || {
        lower_priority();
        let made = back_up(&data_dir, open_databases(), PROGRAM, &settings);
        let _ = told.send(made.map_err(|error| error_chain(&error)));
    };
    let thread = std::thread::Builder::new().name("rantai-backup".to_owned()).spawn(run);
    thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    made.await.unwrap_or_else(|_| Err("the backup panicked; the log has more".to_owned()))
}
