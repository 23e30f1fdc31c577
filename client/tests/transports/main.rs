//! Clients on every transport: through tunnels for TLS, WebSocket and unix sockets in front of a broker on TCP.

#![allow(missing_docs, reason = "a test binary has no readers of documentation")]

mod errors;
mod resumption;
mod several;

use std::net::SocketAddr;
use std::path::PathBuf;

use rantai_broker::{Broker, Config};
use rantai_client::Client;
use rantai_client::session::{Address, Filter, Publish, TlsFiles};
use rantai_testing::{Authority, Layers, Tunnel};

/// Names of this machine in certificates.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

async fn broker() -> (Broker, SocketAddr) {
    let broker = Broker::start(Config::on_free_port()).await.expect("a broker starts");
    let address = broker.addresses()[0];
    (broker, address)
}

/// Parses an address, and adds the certificate of this authority.
fn address(text: &str, authority: &Authority) -> Address {
    let files = TlsFiles { ca: Some(authority.file()), ..TlsFiles::default() };
    text.parse::<Address>().expect(text).with_tls(files)
}

fn tunnel(layers: Layers, broker: SocketAddr) -> Tunnel {
    Tunnel::start(layers, broker).expect("a tunnel starts")
}

/// Sends messages of many sizes and receives them: some exceed the buffer of a socket, a TLS record, or a WebSocket
/// message.
async fn exchange(address: Address) {
    let shown = address.to_string();
    let client = Client::builder(address).connect().await.expect(&shown);
    let mut echoed = client.subscribe(vec![Filter::new("test/#")]).await.expect("subscribed");
    let sizes = [0, 1, 125, 126, 16_384, 65_536, 65_537, 1_500_000];
    for (number, size) in sizes.into_iter().enumerate() {
        let publish = Publish::new(format!("test/{number}"), vec![number as u8; size]);
        client.publish(publish).await.expect("acknowledged");
    }
    for (number, size) in sizes.into_iter().enumerate() {
        let message = echoed.next().await.expect("it comes");
        assert_eq!((&*message.topic, message.payload.len()), (&*format!("test/{number}"), size), "{shown}");
        assert!(message.payload.iter().all(|byte| usize::from(*byte) == number), "{shown}");
    }
    client.close().await;
}

#[tokio::test]
async fn messages_of_all_sizes_pass_on_every_transport() {
    let (_broker, broker) = broker().await;
    let authority = Authority::new("lab");
    let server = authority.issue(&HOSTS).server(None);
    let socket: PathBuf = authority.folder().join("mqtt.sock");
    for (layers, urls) in [
        (Layers::Tcp, &["mqtt://127.0.0.1:PORT", "localhost:PORT"][..]),
        (Layers::Tls(server.clone()), &["mqtts://localhost:PORT", "mqtts://127.0.0.1:PORT"]),
        (Layers::Web(None), &["ws://127.0.0.1:PORT", "ws://localhost:PORT/any/path"]),
        (Layers::Web(Some(server)), &["wss://localhost:PORT", "wss://127.0.0.1:PORT/"]),
        (Layers::Unix(socket.clone()), &["unix:SOCKET", "unix://SOCKET"]),
    ] {
        let is_unix = matches!(layers, Layers::Unix(_));
        let tunnel = tunnel(layers, broker);
        let port = if is_unix { String::new() } else { tunnel.port().to_string() };
        for url in urls {
            let url = url.replace("PORT", &port).replace("SOCKET", socket.to_str().expect("UTF-8"));
            exchange(address(&url, &authority)).await;
        }
    }
}
