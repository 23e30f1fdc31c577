//! Answers to clients that look for a name server by UDP broadcast.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep};

use crate::nameserver;
use crate::uri::PyroUri;

/// Question of a client.
const QUESTION: &[u8] = b"GET_NSURI";
/// Maximum number of answers per second: a question may have a forged address, which gets the answer.
const PER_SECOND: u32 = 50;

/// Answers until this future is dropped, with the address of the gateway: the configured one, else the one that it listens on.
pub(crate) async fn answer(socket: UdpSocket, listening: SocketAddr, configured: Option<(String, u16)>) {
    let mut question = [0; 64];
    let (mut second, mut answers) = (Instant::now(), 0);
    loop {
        let (size, client) = match socket.recv_from(&mut question).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!("a broadcast was not received: {error}");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if second.elapsed() >= Duration::from_secs(1) {
            (second, answers) = (Instant::now(), 0);
        }
        if question[..size] != *QUESTION || answers >= PER_SECOND {
            continue;
        }
        answers += 1;
        let uri = match &configured {
            Some((host, port)) => PyroUri::new(nameserver::NAME, host, *port),
            None => match interface(listening.ip(), client).await {
                Some(address) => PyroUri::new(nameserver::NAME, address.to_string(), listening.port()),
                None => continue,
            },
        };
        if let Err(error) = socket.send_to(uri.to_string().as_bytes(), client).await {
            tracing::debug!("the answer to the broadcast of {client} was not sent: {error}");
        }
    }
}

/// Returns the address by which a client reaches this host.
async fn interface(listening: IpAddr, client: SocketAddr) -> Option<IpAddr> {
    if !listening.is_unspecified() {
        return Some(listening);
    }
    let any: SocketAddr = if client.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    // Connecting a UDP socket sends nothing; it selects the interface.
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(client).await.ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_question_is_answered_and_nothing_else_is() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let address = socket.local_addr().expect("an address");
        let listening: SocketAddr = "0.0.0.0:9090".parse().expect("an address");
        let answering = tokio::spawn(answer(socket, listening, None));
        let client = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        for question in [&b"GET"[..], &[0; 100], QUESTION] {
            client.send_to(question, address).await.expect("sent");
        }
        let mut received = [0; 100];
        let size = client.recv(&mut received).await.expect("an answer");
        assert_eq!(&received[..size], b"PYRO:Pyro.NameServer@127.0.0.1:9090");
        answering.abort();
    }
}
