//! Connections to the broker that runs in this process.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rantai_broker::{Connector, LocalCredentials};
use rantai_client::session::{Address, EmbeddedBroker, EmbeddedStream};

/// Broker of this process, as seen by the client library.
struct Own(Connector);

impl EmbeddedBroker for Own {
    fn connect(&self) -> io::Result<Box<dyn EmbeddedStream>> {
        Ok(Box::new(self.0.connect()?))
    }
}

/// Returns the address at which this process reaches its own broker, with the broker's local credentials: without a
/// socket if there is a connector, and otherwise (with rumqttd) at `address`, where the broker listens.
pub(crate) fn own_broker(
    connector: Option<Connector>,
    address: Option<SocketAddr>,
    credentials: Option<LocalCredentials>,
) -> Address {
    let address = match connector {
        Some(connector) => Address::embedded(Arc::new(Own(connector))),
        None => at(address.expect("rumqttd listens for its own process")),
    };
    match credentials {
        Some(LocalCredentials { user, password }) => address.with_credentials(user, password),
        None => address,
    }
}

fn at(address: SocketAddr) -> Address {
    let host = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("mqtt://{}", SocketAddr::new(host, address.port()))
        .parse()
        .expect("an address that is listened on")
}
