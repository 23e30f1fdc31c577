//! The transport by which clients of a test reach its broker.

use std::cell::Cell;
use std::fmt;
use std::io::Write as _;
use std::marker::PhantomData;
use std::str::FromStr;

use crate::files::server_files;

/// The variable that names the transport: `tcp`, `tls`, `ws`, `wss` or `unix`.
const TRANSPORT: &str = "RANTAI_TEST_TRANSPORT";
/// The variable that names a file with a line for each test that was kept to TCP.
const KEPT: &str = "RANTAI_TEST_KEPT";

/// What carries MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TLS on TCP.
    Tls,
    /// WebSocket on TCP.
    Ws,
    /// WebSocket on TLS.
    Wss,
    /// A unix socket.
    Unix,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Unix];

    /// The one that `RANTAI_TEST_TRANSPORT` names. TCP without it, and in tests that [`keep_to_tcp`].
    ///
    /// # Panics
    ///
    /// The variable names none.
    pub fn chosen() -> Self {
        if IS_KEPT.get() { Self::Tcp } else { named() }
    }

    /// Its name in `RANTAI_TEST_TRANSPORT`, and as `protocol` of a listener in broker.toml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    /// Whether it encrypts.
    pub fn uses_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether it has frames.
    pub fn uses_web(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// `[[listeners]]` of a broker.toml at `place`: an address with a port, or the path of a socket.
    pub fn listener(self, place: &str) -> String {
        let key = if self == Self::Unix { "socket" } else { "address" };
        let listener = format!("[[listeners]]\nprotocol = '{}'\n{key} = '{place}'\n", self.name());
        if !self.uses_tls() {
            return listener;
        }
        let files = server_files();
        let (certificate, private) = (files.certificate.display(), files.key.display());
        format!("{listener}certificate = '{certificate}'\nkey = '{private}'\n")
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|transport| transport.name() == name);
        found.ok_or_else(|| format!("{TRANSPORT} is tcp, tls, ws, wss or unix, and not {name:?}"))
    }
}

fn named() -> Transport {
    let name = std::env::var(TRANSPORT).unwrap_or_else(|_| "tcp".to_owned());
    name.parse().unwrap_or_else(|error| panic!("{error}"))
}

thread_local! {
    static IS_KEPT: Cell<bool> = const { Cell::new(false) };
}

/// Keeps a test to TCP, whatever transport is chosen, for as long as this lives. On its thread.
#[derive(Debug)]
#[must_use = "the test is kept to TCP for as long as this lives"]
pub struct KeptToTcp {
    before: bool,
    /// Another thread has its own.
    not_send: PhantomData<*const ()>,
}

/// Keeps a test to TCP whose subject is TCP itself, or whose connections nothing may stand in front of. It runs all the
/// same, and is counted ([`note_kept`]) where another transport is chosen.
pub fn keep_to_tcp(why: &str) -> KeptToTcp {
    note_kept(why);
    KeptToTcp { before: IS_KEPT.replace(true), not_send: PhantomData }
}

/// Keeps a test to TCP, like [`keep_to_tcp`], where unix sockets are chosen, whose clients have no addresses.
pub fn keep_to_addresses() -> Option<KeptToTcp> {
    let has_none = Transport::chosen() == Transport::Unix;
    has_none.then(|| keep_to_tcp("its clients have different addresses"))
}

impl Drop for KeptToTcp {
    fn drop(&mut self) {
        IS_KEPT.set(self.before);
    }
}

/// Notes that the test of this thread runs on TCP though another transport is chosen: on standard error, and with a line in
/// the file that `RANTAI_TEST_KEPT` names.
pub fn note_kept(why: &str) {
    if Transport::chosen() == Transport::Tcp {
        return;
    }
    let thread = std::thread::current();
    let line = format!("{}\t{why}\n", thread.name().unwrap_or("a test"));
    eprint!("kept to TCP: {line}");
    if let Some(file) = std::env::var_os(KEPT) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
        // One write: lines of several processes do not mix.
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("RANTAI_TEST_KEPT names a file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_read_back_by_their_names() {
        for transport in Transport::ALL {
            assert_eq!(transport.name().parse(), Ok(transport));
        }
        assert!("quic".parse::<Transport>().is_err_and(|error| error.contains("tcp, tls, ws, wss or unix")));
    }

    #[test]
    fn a_test_is_kept_to_tcp_for_as_long_as_it_says() {
        let chosen = Transport::chosen();
        let outer = keep_to_tcp("it is about TCP");
        drop(keep_to_tcp("it is, too"));
        assert_eq!(Transport::chosen(), Transport::Tcp);
        drop(outer);
        assert_eq!(Transport::chosen(), chosen);
    }
}
