//! TLS sessions are resumed at a reconnect: without that, each client costs the broker a signature, and itself the
//! verification of certificates, whenever a network comes back.

use std::net::SocketAddr;
use std::sync::Arc;

use rantai_client::Client;
use rantai_client::session::{Address, Filter, Publish, Status};
use rantai_testing::Authority;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};

use super::{HOSTS, address, broker};

/// TLS server in front of a broker.
struct Front {
    port: u16,
    /// Closes the present connections.
    cut: Arc<Notify>,
    /// Kinds of the handshakes so far.
    kinds: mpsc::UnboundedReceiver<HandshakeKind>,
}

async fn front(config: Arc<ServerConfig>, broker: SocketAddr) -> Front {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let cut = Arc::new(Notify::new());
    let (told, kinds) = mpsc::unbounded_channel();
    let ended = cut.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, told, ended) = (TlsAcceptor::from(config.clone()), told.clone(), ended.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = told.send(stream.get_ref().1.handshake_kind().expect("it is done"));
                let mut broker = TcpStream::connect(broker).await.expect("a broker");
                tokio::select! {
                    _ = copy_bidirectional(&mut stream, &mut broker) => {}
                    () = ended.notified() => {}
                }
            });
        }
    });
    Front { port, cut, kinds }
}

/// Connects, loses the connection, and reconnects; returns the kinds of both handshakes.
async fn handshakes(address: Address, front: &mut Front, between: impl FnOnce()) -> [HandshakeKind; 2] {
    let client = Client::builder(address).connect().await.expect("a client");
    let mut status = client.status();
    let first = front.kinds.recv().await.expect("a handshake");
    // A message that comes back has passed the tickets, which the server sends after its handshake.
    let mut echoed = client.subscribe(vec![Filter::new("test")]).await.expect("subscribed");
    client.publish(Publish::new("test", "x")).await.expect("acknowledged");
    echoed.next().await.expect("it comes");
    between();
    front.cut.notify_waiters();
    status.wait_for(|status| *status == Status::Online(2)).await.expect("it comes back");
    client.close().await;
    [first, front.kinds.recv().await.expect("a handshake")]
}

#[tokio::test]
async fn a_reconnect_resumes_the_session_of_tls() {
    let (_broker, broker) = broker().await;
    let authority = Authority::new("lab");
    let mut front = front(authority.issue(&HOSTS).server(None), broker).await;
    let address = address(&format!("mqtts://localhost:{}", front.port), &authority);
    let kinds = handshakes(address.clone(), &mut front, || ()).await;
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
    // Another client does not have the tickets of the first one.
    let other = Client::builder(address).connect().await.expect("a client");
    assert_eq!(front.kinds.recv().await, Some(HandshakeKind::Full));
    other.close().await;
}

#[tokio::test]
async fn files_that_have_changed_are_used_at_the_reconnect() {
    let (_broker, broker) = broker().await;
    let authority = Authority::new("lab");
    let mut front = front(authority.issue(&HOSTS).server(None), broker).await;
    let address = address(&format!("mqtts://localhost:{}", front.port), &authority);
    let ca = authority.file();
    let another = std::fs::read_to_string(&ca).expect("read")
        + &std::fs::read_to_string(Authority::new("town").file()).expect("read");
    let kinds = handshakes(address, &mut front, || std::fs::write(&ca, another).expect("written")).await;
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Full]);
}
