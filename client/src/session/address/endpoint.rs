//! Place where a broker can be reached, with credentials.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::session::embedded::Embedded;
#[cfg(test)]
use crate::simulation::SimulatedPlace;

/// Path of WebSocket connections, if the address has none.
const DEFAULT_PATH: &str = "/mqtt";

/// Place of a broker, with the user name and password to use there.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::session) struct Endpoint {
    pub(in crate::session) place: Place,
    pub(in crate::session) user: Option<(String, String)>,
}

/// Place of a broker, and the layers of the connection.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::session) enum Place {
    /// A port of a host.
    Network {
        /// A name or an IP address.
        host: String,
        port: u16,
        tls: bool,
        /// Path of the WebSocket; `None` for plain MQTT.
        path: Option<String>,
    },
    /// A unix socket.
    Unix(PathBuf),
    /// A broker in the same process.
    Embedded(Embedded),
    /// A broker of the simulation.
    #[cfg(test)]
    Simulated(SimulatedPlace),
}

impl Place {
    /// Returns whether others than the users of this machine can read what is sent.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Embedded(_) | Self::Network { tls: true, .. } => false,
            #[cfg(test)]
            Self::Simulated(_) => false,
            Self::Network { host, .. } => match host.parse::<IpAddr>() {
                Ok(address) => !address.is_loopback(),
                Err(_) => !host.eq_ignore_ascii_case("localhost"),
            },
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Network { tls: true, .. })
    }
}

impl Endpoint {
    /// Parses one address. The error is only the reason.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') {
                return Err("behind unix: stands the path of a socket, from / on");
            }
            return Ok(Self { place: Place::Unix(path.into()), user: None });
        }
        let whole = if text.contains("://") { text.to_owned() } else { format!("mqtt://{text}") };
        let url = Url::parse(&whole).map_err(|_| "it cannot be read")?;
        let (tls, web, port) = match url.scheme() {
            "mqtt" | "tcp" => (false, false, 1883),
            "mqtts" | "ssl" | "tls" => (true, false, 8883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            _ => return Err("the scheme is mqtt, mqtts, ws, wss or unix"),
        };
        if url.query().is_some() || url.fragment().is_some() || !(web || matches!(url.path(), "" | "/")) {
            return Err(if web { "nothing follows the path" } else { "nothing follows the port" });
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err("there is no host"),
        };
        // A URL of WebSocket always has a path when parsed; this checks whether one was written.
        let is_written = whole.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        let path = web.then(|| if is_written { url.path() } else { DEFAULT_PATH }.to_owned());
        let decode = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(Into::into).map_err(|_| "the user name or password is not UTF-8")
        };
        let user = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decode(user)?, decode(password.unwrap_or_default())?)),
        };
        Ok(Self { place: Place::Network { host, port: url.port().unwrap_or(port), tls, path }, user })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port, tls, path) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Embedded(broker) => return broker.fmt(f),
            #[cfg(test)]
            Self::Simulated(place) => return write!(f, "simulated:{}", place.number()),
            Self::Network { host, port, tls, path } => (host, port, *tls, path),
        };
        let scheme = match (tls, path.is_some()) {
            (false, false) => "mqtt",
            (true, false) => "mqtts",
            (false, true) => "ws",
            (true, true) => "wss",
        };
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{host}{close}:{port}{}", path.as_deref().unwrap_or_default())
    }
}
