//! Addresses of brokers with their transports.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::transport::Transport;

/// Address at which a broker listens, and its transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    transport: Transport,
    pub(crate) at: At,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Port(SocketAddr),
    Socket(PathBuf),
}

impl Place {
    /// Creates a place from an address with a port.
    ///
    /// # Panics
    ///
    /// Panics for [`Transport::Unix`], which has no port.
    pub fn new(transport: Transport, address: SocketAddr) -> Self {
        assert_ne!(transport, Transport::Unix, "a unix socket is at a path");
        Self { transport, at: At::Port(address) }
    }

    /// Creates a place from the path of a unix socket.
    pub fn socket(path: PathBuf) -> Self {
        Self { transport: Transport::Unix, at: At::Socket(path) }
    }

    /// Returns the transport.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Returns the address.
    ///
    /// # Panics
    ///
    /// Panics for a unix socket, which has no address.
    pub fn address(&self) -> SocketAddr {
        match &self.at {
            At::Port(address) => *address,
            At::Socket(path) => panic!("{} has no port", path.display()),
        }
    }

    /// Returns the path of a unix socket; `None` for other transports.
    pub fn path(&self) -> Option<&Path> {
        match &self.at {
            At::Port(_) => None,
            At::Socket(path) => Some(path),
        }
    }

    /// Returns the place of a relay at this port: with the same transport, or with TCP for a unix socket.
    #[must_use]
    pub fn through(&self, port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        match self.transport {
            Transport::Unix => Self::new(Transport::Tcp, address),
            transport => Self::new(transport, address),
        }
    }

    /// Returns the same place without TLS and WebSocket, for relays that forward bytes.
    #[must_use]
    pub fn bare(&self) -> Self {
        match &self.at {
            At::Port(address) => Self::new(Transport::Tcp, *address),
            At::Socket(_) => self.clone(),
        }
    }
}

/// Creates a place with plain TCP.
impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::new(Transport::Tcp, address)
    }
}

/// Formats the place as a URL.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.at, self.transport) {
            (At::Socket(path), _) => write!(f, "unix:{}", path.display()),
            (At::Port(address), Transport::Tls) => write!(f, "mqtts://{address}"),
            (At::Port(address), Transport::Ws) => write!(f, "ws://{address}/mqtt"),
            (At::Port(address), Transport::Wss) => write!(f, "wss://{address}/mqtt"),
            (At::Port(address), _) => write!(f, "mqtt://{address}"),
        }
    }
}

/// Parses a URL, which may contain a user. Resolves its host.
impl FromStr for Place {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            return Ok(Self::socket(path.into()));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("{url} has no scheme"))?;
        let transport = match scheme {
            "mqtt" => Transport::Tcp,
            "mqtts" => Transport::Tls,
            "ws" => Transport::Ws,
            "wss" => Transport::Wss,
            _ => return Err(format!("{url}: the scheme is mqtt, mqtts, ws, wss or unix")),
        };
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let host = host.split('/').next().expect("a text has a first part");
        let address = host.to_socket_addrs().ok().and_then(|mut all| all.next());
        Ok(Self::new(transport, address.ok_or_else(|| format!("{host} is no host with a port"))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_equal_after_a_round_trip_as_urls() {
        for url in [
            "mqtt://127.0.0.1:1883",
            "mqtts://127.0.0.1:8883",
            "ws://[::1]:80/mqtt",
            "wss://127.0.0.1:443/mqtt",
            "unix:/run/mqtt.sock",
        ] {
            assert_eq!(url.parse::<Place>().expect(url).to_string(), url);
        }
        let place: Place = "mqtts://ada:s@cret@127.0.0.1:9".parse().expect("a URL");
        assert_eq!(place.to_string(), "mqtts://127.0.0.1:9");
        assert_eq!(place.bare().through(7).to_string(), "mqtt://127.0.0.1:7");
    }
}
