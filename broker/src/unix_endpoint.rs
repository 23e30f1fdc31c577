//! Listening on a Unix socket.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

/// Number of connections that the system queues until they are accepted.
const ACCEPT_BACKLOG: i32 = 1_024;
/// Time to wait for another program that has bound a socket and is not listening on it yet.
const LISTEN_GRACE: Duration = Duration::from_millis(100);

/// A listening Unix socket. Its file is removed on drop, unless another file has replaced it.
#[derive(Debug)]
pub(crate) struct UnixEndpoint {
    listener: UnixListener,
    path: PathBuf,
    file: FileId,
}

/// Identity of an open file, independent of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(about: &Metadata) -> Self {
        Self { device: about.dev(), inode: about.ino() }
    }
}

impl UnixEndpoint {
    /// Binds the socket, and sets the permissions of its file before any client can connect. A socket on which no
    /// process listens is replaced.
    ///
    /// # Errors
    ///
    /// Another file exists at the path, and is not changed; or the system refuses the socket.
    pub(crate) fn bind(path: &Path, mode: Option<u32>) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        remove_left_over(path, &address)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address).map_err(|error| match error.kind() {
            ErrorKind::NotFound => say(ErrorKind::NotFound, "its folder does not exist; create it"),
            ErrorKind::AddrInUse => say(ErrorKind::AddrInUse, "another program has just made a file there"),
            _ => error,
        })?;
        let file = FileId::from(&fs::symlink_metadata(path)?);
        // Until the socket listens, clients are refused regardless of the permissions.
        if let Some(mode) = mode
            && let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode))
        {
            remove(path, file);
            return Err(error);
        }
        let listening = socket.listen(ACCEPT_BACKLOG).and_then(|()| UnixListener::from_std(socket.into()));
        let listener = listening.inspect_err(|_| remove(path, file))?;
        Ok(Self { listener, path: path.to_owned(), file })
    }

    /// Returns whether `path` is its file.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|about| FileId::from(&about) == self.file)
    }

    /// Accepts the next client. Returns its stream and a substitute for its address.
    pub(crate) async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        Ok((stream, address_of(user)))
    }
}

impl Drop for UnixEndpoint {
    fn drop(&mut self) {
        // While the listener is open, no other file can have the same inode number.
        remove(&self.path, self.file);
    }
}

/// Removes a file, unless another one has replaced it.
fn remove(path: &Path, file: FileId) {
    if fs::symlink_metadata(path).is_ok_and(|about| FileId::from(&about) == file) {
        let _ = fs::remove_file(path);
    }
}

/// Removes a socket at `path` on which no process listens.
///
/// # Errors
///
/// Something else exists at the path.
fn remove_left_over(path: &Path, address: &SockAddr) -> io::Result<()> {
    let taken = |what: &str| Err(say(ErrorKind::AddrInUse, what));
    let about = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        about => about?,
    };
    let kind = about.file_type();
    if kind.is_symlink() {
        return taken("there is a symbolic link; name the file it points to, or another one");
    }
    if kind.is_dir() {
        return taken("there is a folder; name a file in it, or another one");
    }
    if !kind.is_socket() {
        return taken("there is a file that is no socket; remove it, or name another one");
    }
    // A program that has bound its socket and is about to listen also refuses connections.
    for pause in [LISTEN_GRACE, Duration::ZERO] {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A blocking connect would wait for space in the accept queue of the other program.
        socket.set_nonblocking(true)?;
        match socket.connect(address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => sleep(pause),
            // Another process has removed it in the meantime.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return taken("there is a socket of another user; remove it, or name another file");
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                return Err(say(
                    ErrorKind::AddrInUse,
                    &format!(
                        "there is a socket, and nobody can tell who uses it ({error}); name another file"
                    ),
                ));
            }
            _ => return taken("another program listens on it; stop that program, or name another file"),
        }
    }
    remove(path, FileId::from(&about));
    Ok(())
}

fn say(kind: ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text)
}

/// Returns the substitute for the address of a client with this user id, for limits and the log: an IPv6 network of 64
/// bits per user in `100::/32`, which is not used by real networks.
fn address_of(user: u32) -> SocketAddr {
    let (high, low) = ((user >> 16) as u16, user as u16);
    SocketAddr::from((Ipv6Addr::new(0x100, 0, high, low, 0, 0, 0, 0), 0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener as BlockingListener, UnixStream as BlockingStream};

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mqtt.sock");
        (folder, path)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_that_was_left_over_is_replaced_and_the_new_one_is_removed_at_the_end() {
        let (_folder, path) = folder();
        drop(BlockingListener::bind(&path).expect("bound"));
        let endpoint = UnixEndpoint::bind(&path, Some(0o600)).expect("in place of what was left");
        assert_eq!(mode(&path), 0o600);
        let error = UnixEndpoint::bind(&path, None).expect_err("somebody listens");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        BlockingStream::connect(&path).expect("as before");
        drop(endpoint);
        assert!(!path.exists(), "removed with its listener");
    }

    #[tokio::test]
    async fn other_files_at_the_path_are_reported_and_kept() {
        let (folder, path) = folder();
        let told = |what: &str| {
            let before = fs::symlink_metadata(&path).expect("it is there");
            let error = UnixEndpoint::bind(&path, Some(0o600)).expect_err(what);
            assert!(error.kind() == ErrorKind::AddrInUse && error.to_string().contains(what), "{error}");
            let after = fs::symlink_metadata(&path).expect("it is still there");
            assert_eq!((FileId::from(&before), before.mode()), (FileId::from(&after), after.mode()));
        };
        fs::write(&path, "precious").expect("a file");
        told("a file that is no socket");
        fs::remove_file(&path).expect("removed");

        fs::create_dir(&path).expect("a folder");
        told("a folder");
        fs::remove_dir(&path).expect("removed");

        // The link's target is a socket on which no process listens, but it must not be removed.
        let target = folder.path().join("target.sock");
        drop(BlockingListener::bind(&target).expect("bound"));
        std::os::unix::fs::symlink(&target, &path).expect("a link");
        told("a symbolic link");
        assert!(target.exists());
        fs::remove_file(&path).expect("removed");

        let datagrams = UnixDatagram::bind(&path).expect("a socket");
        told("a socket, and nobody can tell");
        drop(datagrams);
        fs::remove_file(&path).expect("removed");

        // The accept queue is full, so that a blocking connect would wait.
        let full = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        full.bind(&SockAddr::unix(&path).expect("a path")).expect("bound");
        full.listen(0).expect("it listens");
        let mut waiting = Vec::new();
        loop {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("set");
            match socket.connect(&SockAddr::unix(&path).expect("a path")) {
                Ok(()) => waiting.push(socket),
                Err(_) => break,
            }
        }
        told("another program listens on it");
    }

    #[tokio::test]
    async fn a_file_that_replaced_the_socket_is_not_removed() {
        let (folder, path) = folder();
        let first = UnixEndpoint::bind(&path, None).expect("bound");
        fs::rename(&path, folder.path().join("aside.sock")).expect("moved");
        let second = UnixEndpoint::bind(&path, None).expect("bound");
        drop(first);
        BlockingStream::connect(&path).expect("the second one");
        fs::rename(&path, folder.path().join("aside.sock")).expect("moved");
        fs::write(&path, "precious").expect("a file");
        drop(second);
        assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");
    }

    #[tokio::test]
    async fn a_missing_folder_is_reported() {
        let (folder, _) = folder();
        let error = UnixEndpoint::bind(&folder.path().join("run/mqtt.sock"), None).expect_err("no folder");
        assert!(error.to_string().contains("folder does not exist; create it"), "{error}");
    }

    #[test]
    fn each_user_of_the_system_has_its_own_substitute_network() {
        let network = |user| match address_of(user) {
            SocketAddr::V6(address) => address.ip().to_bits() >> 64,
            SocketAddr::V4(_) => 0,
        };
        assert_ne!(network(0), network(1_000));
        assert_ne!(network(1), network(1 << 16));
    }
}
