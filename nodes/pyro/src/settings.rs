//! Settings of the Pyro gateway in nodes.toml.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rantai_client::error_chain;
use rantai_client::wire::user::User;
use rantai_tls::{CertificateFiles, ClientFiles, ServerFiles, ServerTls};
use serde::Deserialize;

/// Maximum of `frame_bytes`.
const LARGEST_FRAME: usize = 64 << 20;

/// Settings of the Pyro gateway: section `[pyro]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pyro {
    /// Address to listen on, such as `127.0.0.1:9090`, where Pyro clients look for a name server.
    pub listen: SocketAddr,
    /// Host and port in the URIs of objects, such as `pyro.example.org:9090`. Default: the address by which a client has reached
    /// the gateway.
    pub address: Option<String>,
    /// Objects that can be called; a name that ends in `*` is a prefix. Default: all objects.
    #[serde(default = "every")]
    pub objects: Vec<String>,
    /// User on whose behalf the gateway calls, as Pyro has no users. Its own user needs `acts_for` for it in broker.toml.
    pub user: Option<String>,
    /// PEM file of the server's certificate, followed by those of intermediate authorities; enables TLS (`SSL` of Pyro). It is
    /// read again when it changes.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    pub key: Option<PathBuf>,
    /// PEM file of an authority: only clients with a certificate signed by it may connect.
    pub client_ca: Option<PathBuf>,
    /// PEM file of that authority's revocation list.
    pub revocations: Option<PathBuf>,
    /// File whose first line is the HMAC key of Pyro4 (`_pyroHmacKey`). With it only Pyro4 clients with this key may connect.
    pub hmac_key_file: Option<PathBuf>,
    /// Addresses and networks whose clients may register names. Default: this host.
    #[serde(default = "this_host")]
    pub register_from: Vec<Network>,
    /// Addresses and networks of Pyro servers that may be registered, to which the gateway connects. Default: this host.
    #[serde(default = "this_host")]
    pub dial: Vec<Network>,
    /// UDP address where clients that look for a name server are answered, such as `0.0.0.0:9091`. Default: nowhere.
    pub broadcast: Option<SocketAddr>,
    /// Limits on clients and servers.
    #[serde(default)]
    pub limits: PyroLimits,
}

impl Pyro {
    /// Checks what the types do not.
    ///
    /// # Errors
    ///
    /// `address`, `user` or a limit is invalid, or the files of TLS cannot be used.
    pub fn check(&self) -> Result<(), String> {
        if let Some(address) = &self.address {
            public_address(address)?;
        }
        if let Some(user) = &self.user {
            User::new(user).map_err(|error| format!("user: {error}"))?;
        }
        let frame = self.limits.frame_bytes;
        if !(1_024..=LARGEST_FRAME).contains(&frame) {
            return Err(format!("limits: frame_bytes is {frame}; it is 1024 to {LARGEST_FRAME}"));
        }
        if let Some(files) = self.tls()? {
            ServerTls::open(files).map_err(|error| error_chain(&error))?;
        }
        Ok(())
    }

    /// Returns the files of TLS; `None` without TLS.
    ///
    /// # Errors
    ///
    /// A file is missing that the others need.
    pub(crate) fn tls(&self) -> Result<Option<ServerFiles>, String> {
        let Self { certificate, key, client_ca, revocations, .. } = self;
        if revocations.is_some() && client_ca.is_none() {
            return Err(
                "`revocations` needs `client_ca`: without it clients are asked for no certificate".to_owned()
            );
        }
        let (certificate, key) = match (certificate.clone(), key.clone()) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) if client_ca.is_none() => return Ok(None),
            (Some(_), None) => {
                return Err("`certificate` needs `key`: the file of its private key".to_owned());
            }
            (None, _) => {
                return Err("without `certificate` there is no TLS; add the file of this server's".to_owned());
            }
        };
        let clients = client_ca.clone().map(|roots| ClientFiles {
            roots,
            revocations: revocations.clone(),
            required: true,
        });
        let default = CertificateFiles { certificate, key };
        Ok(Some(ServerFiles { default, additional: Vec::new(), clients }))
    }

    /// Returns the paths in the settings, to resolve them.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let Self { certificate, key, client_ca, revocations, hmac_key_file, .. } = self;
        [certificate, key, client_ca, revocations, hmac_key_file].into_iter().flatten()
    }
}

/// Splits host and port; an IPv6 address stands in brackets, which are removed.
pub(crate) fn public_address(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("address: {text:?} is no host and port, such as \"pyro.example.org:9090\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 || host.contains(['/', '@', ' ']) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

fn every() -> Vec<String> {
    vec!["*".to_owned()]
}

fn this_host() -> Vec<Network> {
    ["127.0.0.0/8", "::1/128"].map(|text| Network(text.parse().expect("a network"))).to_vec()
}

/// Address, or network such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Returns whether one of the networks has this address.
    pub(crate) fn any_has(networks: &[Self], address: IpAddr) -> bool {
        networks.iter().any(|network| network.0.contains(&address.to_canonical()))
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network
            .map(Self)
            .map_err(|_| format!("{text:?} is neither an address nor a network such as 10.0.0.0/8"))
    }
}

/// Limits on clients of the gateway and on Pyro servers that register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PyroLimits {
    /// Maximum number of connections; further ones are closed. Each proxy of a client is one.
    pub connections: NonZeroUsize,
    /// Maximum number of connections of one address. Default: half of `connections`, for this host all of them.
    pub connections_per_address: Option<NonZeroUsize>,
    /// Time limit for the handshake of a new connection to arrive, in milliseconds.
    pub connect_ms: u64,
    /// Time limit from the first byte of a message to its last, in milliseconds.
    pub frame_ms: u64,
    /// Time limit for a client to take a reply, in milliseconds.
    pub send_ms: u64,
    /// Time after which a connection without a call is closed, in milliseconds; 0 for never, as Pyro does.
    pub idle_ms: u64,
    /// Maximum size of a message, and of its data when inflated, in bytes.
    pub frame_bytes: usize,
    /// Time limit of a call, in milliseconds.
    pub call_ms: u64,
    /// Maximum number of calls in progress, of which each address gets its fair share.
    pub calls: u64,
    /// Maximum number of one-way calls in progress; further ones wait.
    pub oneways: NonZeroUsize,
    /// Maximum number of open streams, of which each address gets its fair share.
    pub streams: u64,
    /// Maximum number of registered names. Where all are taken, one whose server is not reachable gives way.
    pub registrations: usize,
    /// Maximum number of connections to one Pyro server, each of which carries out one call at a time.
    pub connections_per_server: NonZeroUsize,
    /// Time after which a server that is not reachable is removed from the bus, in milliseconds.
    pub lost_ms: u64,
}

impl Default for PyroLimits {
    fn default() -> Self {
        let count = |count| NonZeroUsize::new(count).expect("not 0");
        Self {
            connections: count(1_024),
            connections_per_address: None,
            connect_ms: 10_000,
            frame_ms: 10_000,
            send_ms: 10_000,
            idle_ms: 0,
            frame_bytes: 1 << 20,
            call_ms: 30_000,
            calls: 160,
            oneways: count(256),
            streams: 256,
            registrations: 256,
            connections_per_server: count(8),
            lost_ms: 10_000,
        }
    }
}

impl PyroLimits {
    pub(crate) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub(crate) fn frame(&self) -> Duration {
        Duration::from_millis(self.frame_ms)
    }

    pub(crate) fn send(&self) -> Duration {
        Duration::from_millis(self.send_ms)
    }

    pub(crate) fn idle(&self) -> Option<Duration> {
        (self.idle_ms > 0).then(|| Duration::from_millis(self.idle_ms))
    }

    pub(crate) fn call(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    pub(crate) fn lost(&self) -> Duration {
        Duration::from_millis(self.lost_ms)
    }

    /// Returns the maximum number of connections of an address.
    pub(crate) fn connections_of(&self, address: IpAddr) -> u64 {
        let all = self.connections.get();
        let default = if address.to_canonical().is_loopback() { all } else { all.div_ceil(2) };
        self.connections_per_address.map_or(default, NonZeroUsize::get) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Pyro, String> {
        let settings: Pyro = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.check().map(|()| settings)
    }

    #[test]
    fn this_host_alone_may_register_and_be_registered() {
        let settings = parsed("listen = '127.0.0.1:9090'").expect("settings");
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(Network::any_has(&settings.register_from, address), expected, "{address}");
            assert_eq!(Network::any_has(&settings.dial, address), expected, "{address}");
        }
        assert!(settings.broadcast.is_none());
    }

    #[test]
    fn invalid_settings_are_named() {
        let listen = "listen = '127.0.0.1:9090'\n";
        for (text, expected) in [
            ("address = 'example.org'", "address"),
            ("address = 'http://example.org:80'", "address"),
            ("user = ''", "user"),
            ("dial = ['localhost']", "neither an address nor a network"),
            ("limits = { frame_bytes = 0 }", "frame_bytes"),
            ("limits = { frames = 5 }", "unknown field"),
            ("port = 9090", "unknown field"),
            ("certificate = 'a.pem'", "`key`"),
            ("client_ca = 'a.pem'", "`certificate`"),
            ("revocations = 'a.pem'", "`client_ca`"),
            ("certificate = 'no.pem'\nkey = 'no.key'", "no.pem"),
        ] {
            let error = parsed(&format!("{listen}{text}")).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(public_address("[::1]:9090"), Ok(("::1".to_owned(), 9090)));
    }
}
