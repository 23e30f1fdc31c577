//! Transport by which the clients of a test connect to its broker.

use std::cell::Cell;
use std::fmt;
use std::io::Write as _;
use std::marker::PhantomData;
use std::str::FromStr;

use crate::files::server_files;

/// Environment variable with the transport: `tcp`, `tls`, `ws`, `wss` or `unix`.
const TRANSPORT_VARIABLE: &str = "RANTAI_TEST_TRANSPORT";
/// Environment variable with the path of a file, to which each test that was limited to TCP appends a line.
const KEPT_VARIABLE: &str = "RANTAI_TEST_KEPT";

/// Transport of MQTT.
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
    /// Unix socket.
    Unix,
}

impl Transport {
    /// All transports.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Unix];

    /// Returns the transport in `RANTAI_TEST_TRANSPORT`; TCP if it is not set, and in tests that [`keep_to_tcp`].
    ///
    /// # Panics
    ///
    /// Panics if the variable has another value.
    pub fn chosen() -> Self {
        if IS_KEPT.get() { Self::Tcp } else { named() }
    }

    /// Returns the name in `RANTAI_TEST_TRANSPORT`, which is also the `protocol` of a listener in broker.toml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    /// Returns whether the transport uses TLS.
    pub fn uses_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Returns whether the transport uses WebSocket.
    pub fn uses_web(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Returns the `[[listeners]]` table of a broker.toml for `place`: an address with a port, or the path of a
    /// socket.
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
        found.ok_or_else(|| format!("{TRANSPORT_VARIABLE} is tcp, tls, ws, wss or unix, and not {name:?}"))
    }
}

fn named() -> Transport {
    let name = std::env::var(TRANSPORT_VARIABLE).unwrap_or_else(|_| "tcp".to_owned());
    name.parse().unwrap_or_else(|error| panic!("{error}"))
}

thread_local! {
    static IS_KEPT: Cell<bool> = const { Cell::new(false) };
}

/// Guard that limits the tests of its thread to TCP until it is dropped.
#[derive(Debug)]
#[must_use = "the test is kept to TCP for as long as this lives"]
pub struct KeptToTcp {
    before: bool,
    /// Makes the guard `!Send`: it applies to its own thread.
    not_send: PhantomData<*const ()>,
}

/// Limits a test to TCP, because it tests TCP itself, or because its connections must not have other layers. The test
/// still runs, and is recorded by [`note_kept`] if another transport is chosen.
pub fn keep_to_tcp(why: &str) -> KeptToTcp {
    note_kept(why);
    KeptToTcp { before: IS_KEPT.replace(true), not_send: PhantomData }
}

/// Limits a test to TCP if unix sockets are chosen, whose clients have no addresses.
pub fn keep_to_addresses() -> Option<KeptToTcp> {
    let has_none = Transport::chosen() == Transport::Unix;
    has_none.then(|| keep_to_tcp("its clients have different addresses"))
}

impl Drop for KeptToTcp {
    fn drop(&mut self) {
        IS_KEPT.set(self.before);
    }
}

/// Records that the test of this thread runs on TCP although another transport is chosen: on stderr, and in the file
/// named by `RANTAI_TEST_KEPT`.
pub fn note_kept(why: &str) {
    if Transport::chosen() == Transport::Tcp {
        return;
    }
    let thread = std::thread::current();
    let line = format!("{}\t{why}\n", thread.name().unwrap_or("a test"));
    eprint!("kept to TCP: {line}");
    if let Some(file) = std::env::var_os(KEPT_VARIABLE) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
        // Written in one call, so that lines of several processes are not mixed.
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("RANTAI_TEST_KEPT names a file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_equal_after_a_round_trip_as_names() {
        for transport in Transport::ALL {
            assert_eq!(transport.name().parse(), Ok(transport));
        }
        assert!("quic".parse::<Transport>().is_err_and(|error| error.contains("tcp, tls, ws, wss or unix")));
    }

    #[test]
    fn a_test_is_limited_to_tcp_until_its_guard_is_dropped() {
        let chosen = Transport::chosen();
        let outer = keep_to_tcp("it is about TCP");
        drop(keep_to_tcp("it is, too"));
        assert_eq!(Transport::chosen(), Transport::Tcp);
        drop(outer);
        assert_eq!(Transport::chosen(), chosen);
    }
}
