//! Listening on a unix socket.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A unix socket that accepts. Its file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct UnixEndpoint {
    listener: UnixListener,
    path: PathBuf,
}

impl UnixEndpoint {
    /// Binds the socket, with these permissions of its file. A socket that nobody listens on any more is replaced.
    pub(crate) fn bind(path: &Path, mode: Option<u32>) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_left_over(path)? => {
                fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        let endpoint = Self { listener, path: path.to_owned() };
        if let Some(mode) = mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(endpoint)
    }

    /// The next client, and what stands for its address.
    pub(crate) async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        Ok((stream, address_of(user)))
    }
}

impl Drop for UnixEndpoint {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the file is a socket that nobody listens on.
fn is_left_over(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    let connected = std::os::unix::net::UnixStream::connect(path);
    Ok(connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
}

/// What stands for the address of a client of this user of the system, in limits and in the log: an IPv6 network of 64 bits
/// for each, in `100::/32`, where no network has its addresses.
fn address_of(user: u32) -> SocketAddr {
    let (high, low) = ((user >> 16) as u16, user as u16);
    SocketAddr::from((Ipv6Addr::new(0x100, 0, high, low, 0, 0, 0, 0), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_left_over_is_replaced_and_one_in_use_or_a_file_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mqtt.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let endpoint = UnixEndpoint::bind(&path, Some(0o600)).expect("in place of what was left");
        let mode = fs::metadata(&path).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = UnixEndpoint::bind(&path, None).expect_err("somebody listens");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(path.exists());
        drop(endpoint);
        assert!(!path.exists(), "removed with its listener");
        fs::write(&path, "precious").expect("a file");
        UnixEndpoint::bind(&path, None).expect_err("a file");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");
    }

    #[test]
    fn each_user_of_the_system_has_a_network_of_its_own() {
        let network = |user| match address_of(user) {
            SocketAddr::V6(address) => address.ip().to_bits() >> 64,
            SocketAddr::V4(_) => 0,
        };
        assert_ne!(network(0), network(1_000));
        assert_ne!(network(1), network(1 << 16));
    }
}
