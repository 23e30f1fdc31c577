//! Brokers, each in its own process with a listener for each transport, and their clients.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rantai_load::connection::{Connection, Layer};
use rantai_load::failure::Failure;
use rantai_load::packet::Framing;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::child;
use crate::layers::{Tls, Web};
use crate::target::{self, Server};

/// Maximum time until a broker answers after its start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Broker under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rantai,
    Mosquitto,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rantai => "rantai",
            Self::Mosquitto => "mosquitto",
        })
    }
}

/// Transport of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Transport {
    pub(crate) const ALL: [Self; 4] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss];
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "ws",
            Self::Wss => "wss",
        })
    }
}

/// Self-signed certificate for this machine, and the TLS configuration of its clients.
pub(crate) struct Certificates {
    folder: TempDir,
    pub(crate) client: Arc<ClientConfig>,
}

impl Certificates {
    pub(crate) fn new() -> Result<Self, Failure> {
        let failed = |what: &dyn fmt::Display| Failure::new(format!("no certificate: {what}"));
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
        let made = made.map_err(|error| failed(&error))?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("server.pem"), made.cert.pem())?;
        fs::write(folder.path().join("server.key"), made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).map_err(|error| failed(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| failed(&error))?;
        let mut client = builder.with_root_certificates(roots).with_no_client_auth();
        // Without resumption, each handshake is a full one.
        client.resumption = Resumption::disabled();
        Ok(Self { folder, client: Arc::new(client) })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Running broker, and its addresses.
pub(crate) struct Running<'a> {
    pub(crate) server: Server,
    addresses: [SocketAddr; 4],
    certificates: &'a Certificates,
}

impl Kind {
    /// Returns the available brokers.
    pub(crate) fn chosen() -> Vec<Self> {
        let mut kinds = vec![Self::Rantai];
        match target::mosquitto() {
            Some(_) => kinds.push(Self::Mosquitto),
            None => eprintln!("mosquitto is not installed: nothing is compared with it"),
        }
        kinds
    }

    /// Starts a broker without persistence, with default limits.
    pub(crate) fn start(self, certificates: &Certificates) -> Result<Running<'_>, Failure> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("configuration");
        let addresses = free_addresses()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(child::MARK);
        match self {
            Self::Rantai => {
                fs::write(&path, rantai_configuration(&addresses, certificates))?;
                command.arg(child::CONFIGURED).arg(&path);
            }
            Self::Mosquitto => {
                let program =
                    target::mosquitto().ok_or_else(|| Failure::new("mosquitto is not installed"))?;
                fs::write(&path, mosquitto_configuration(&addresses, certificates))?;
                let address = addresses[0].to_string();
                command.arg(child::GUARD).arg(address).arg(program).arg("-c").arg(&path);
            }
        }
        let server = Server::launch_broker(command, Some(directory), Instant::now() + START_TIMEOUT);
        let server = server.map_err(|failure| failure.during(&format!("{self} did not start")))?;
        Ok(Running { server, addresses, certificates })
    }
}

impl Running<'_> {
    pub(crate) fn address(&self, transport: Transport) -> SocketAddr {
        self.addresses[transport as usize]
    }

    /// Connects without sending CONNECT.
    pub(crate) fn open(&self, transport: Transport, deadline: Instant) -> Result<Connection, Failure> {
        let connection = Connection::open(self.address(transport), Framing::Mqtt, deadline)?;
        let tls = || -> Box<dyn Layer> { Box::new(Tls::new(self.certificates.client.clone())) };
        Ok(connection.with_layer(match transport {
            Transport::Tcp => None,
            Transport::Tls => Some(tls()),
            Transport::Ws => Some(Box::new(Web::new(None))),
            Transport::Wss => Some(Box::new(Web::new(Some(tls())))),
        }))
    }

    /// Connects and waits for the CONNACK.
    pub(crate) fn connect(
        &self,
        transport: Transport,
        client_id: &str,
        deadline: Instant,
    ) -> Result<Connection, Failure> {
        let mut connection = self.open(transport, deadline)?;
        connection.log_in(client_id)?;
        Ok(connection)
    }
}

/// Returns addresses that are free at this moment, because mosquitto cannot report its ports.
fn free_addresses() -> Result<[SocketAddr; 4], Failure> {
    // All are bound at the same time, so that they differ.
    let mut listeners = Vec::new();
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); 4];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(addresses)
}

fn rantai_configuration(addresses: &[SocketAddr; 4], certificates: &Certificates) -> String {
    let files = format!(
        "certificate = '{}'\nkey = '{}'\n",
        certificates.file("server.pem").display(),
        certificates.file("server.key").display()
    );
    let protocols = [("tls", &*files), ("ws", ""), ("wss", &*files)];
    let listeners = protocols.iter().zip(&addresses[1..]).map(|((protocol, files), address)| {
        format!("[[listeners]]\nprotocol = '{protocol}'\naddress = '{address}'\n{files}")
    });
    format!("listen = ['{}']\n{}", addresses[0], listeners.collect::<Vec<_>>().concat())
}

/// Returns a configuration for speed, with which mosquitto neither drops nor delays messages in flight.
fn mosquitto_configuration(addresses: &[SocketAddr; 4], certificates: &Certificates) -> String {
    let files = format!(
        "certfile {}\nkeyfile {}\n",
        certificates.file("server.pem").display(),
        certificates.file("server.key").display()
    );
    let [tcp, tls, ws, wss] = addresses.map(|address| format!("listener {} 127.0.0.1\n", address.port()));
    format!(
        "per_listener_settings false\nallow_anonymous true\nuser root\nmax_queued_messages 0\n\
         max_inflight_messages 0\nset_tcp_nodelay true\nlog_type none\npersistence false\n\
         {tcp}{tls}{files}{ws}protocol websockets\n{wss}protocol websockets\n{files}"
    )
}
