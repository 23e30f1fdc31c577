//! TCP connections to hosts with several addresses: attempts are staggered, and the first that succeeds is used (RFC
//! 8305).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Delay between the starts of two attempts (RFC 8305, 5: Connection Attempt Delay).
const STAGGER: Duration = Duration::from_millis(250);

/// Error of connecting to a host by TCP.
#[derive(Debug)]
pub(super) enum DialError {
    /// The host name could not be resolved.
    Unresolved(io::Error),
    /// None of the host's addresses could be connected to.
    Unreachable(io::Error),
}

/// Resolves a host and connects to one of its addresses. Dropping the future ends all attempts.
pub(super) async fn dial(host: &str, port: u16) -> Result<TcpStream, DialError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return TcpStream::connect((address, port)).await.map_err(DialError::Unreachable);
    }
    let found: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(DialError::Unresolved)?.collect();
    if found.is_empty() {
        let none = io::Error::new(io::ErrorKind::NotFound, "it has no addresses");
        return Err(DialError::Unresolved(none));
    }
    race(found).await.map_err(DialError::Unreachable)
}

/// Connects to one of several addresses: the next attempt begins as soon as one has failed, or [`STAGGER`] after the last
/// one began. Returns the first connection; fails once every attempt has.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = in_turns(addresses);
    let mut attempts = JoinSet::new();
    let mut errors = Vec::new();
    loop {
        if let Some(address) = waiting.pop_front() {
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = sleep(STAGGER), if !waiting.is_empty() => continue,
        };
        match ended {
            Some(Ok((_, Ok(stream)))) => return Ok(stream),
            Some(Ok((address, Err(error)))) => errors.push((address, error)),
            Some(Err(panic)) => return Err(io::Error::other(panic)),
            None => return Err(joined(errors)),
        }
    }
}

/// Orders the addresses so that the address families alternate (RFC 8305, 4), without duplicates.
fn in_turns(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let Some(is_first_v6) = addresses.first().map(SocketAddr::is_ipv6) else { return VecDeque::new() };
    let mut families = [VecDeque::new(), VecDeque::new()];
    for address in addresses {
        let family = &mut families[usize::from(address.is_ipv6() != is_first_v6)];
        if !family.contains(&address) {
            family.push_back(address);
        }
    }
    let mut ordered = VecDeque::new();
    while families.iter().any(|family| !family.is_empty()) {
        ordered.extend(families.iter_mut().filter_map(VecDeque::pop_front));
    }
    ordered
}

/// Joins the errors of several attempts: the first alone if all are the same, else each with its address.
fn joined(errors: Vec<(SocketAddr, io::Error)>) -> io::Error {
    let mut texts: Vec<String> = errors.iter().map(|(_, error)| error.to_string()).collect();
    texts.dedup();
    if texts.len() > 1 {
        let kind = errors[0].1.kind();
        let each = errors.iter().map(|(address, error)| format!("{}: {error}", address.ip()));
        return io::Error::new(kind, each.collect::<Vec<_>>().join("; "));
    }
    let first = errors.into_iter().next().map(|(_, error)| error);
    first.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no addresses"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;

    /// Time limit of these tests: less than the two minutes after which the kernel gives up an attempt without an
    /// answer.
    const PATIENCE: Duration = Duration::from_mins(1);
    const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

    /// Returns an address that neither accepts nor refuses connections, because its listen queue is full.
    async fn hanging() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((LOCAL, 0).into()).expect("a free port");
        let listener = socket.listen(0).expect("it listens");
        let address = listener.local_addr().expect("bound");
        let mut filling = Vec::new();
        while let Ok(connected) = timeout(STAGGER * 2, TcpStream::connect(address)).await {
            filling.push(connected.expect("the queue takes it"));
        }
        (address, listener, filling)
    }

    /// Returns an address where nothing listens.
    async fn refusing() -> SocketAddr {
        let listener = TcpListener::bind((LOCAL, 0)).await.expect("a free port");
        listener.local_addr().expect("bound")
    }

    #[tokio::test]
    async fn hanging_or_refusing_address_does_not_delay_later_ones() {
        let (hanging, _listener, _filling) = hanging().await;
        let refusing = refusing().await;
        let listener = TcpListener::bind((LOCAL, 0)).await.expect("a free port");
        let good = listener.local_addr().expect("bound");
        for addresses in
            [vec![hanging, good], vec![refusing, good], vec![refusing, hanging, good], vec![good, hanging]]
        {
            let stream = timeout(PATIENCE, race(addresses)).await.expect("in time").expect("connected");
            assert_eq!(stream.peer_addr().expect("connected"), good);
        }
    }

    #[tokio::test]
    async fn error_names_each_address_if_the_causes_differ() {
        let refusing = refusing().await;
        let error = race(vec![refusing]).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // TCP cannot connect to a broadcast address.
        let error = race(vec![refusing, SocketAddr::from(([255, 255, 255, 255], 9))]).await;
        let text = error.expect_err("nobody listens").to_string();
        assert!(text.contains("127.0.0.1: ") && text.contains("255.255.255.255: "), "{text}");
    }

    #[tokio::test]
    async fn unresolved_names_are_distinguished_from_unreachable_hosts() {
        let unknown = dial("no-such-host.invalid", 1883).await.expect_err("no such name");
        assert!(matches!(unknown, DialError::Unresolved(_)), "{unknown:?}");
        let address = refusing().await;
        let silent = dial("127.0.0.1", address.port()).await.expect_err("nobody listens");
        assert!(matches!(silent, DialError::Unreachable(_)), "{silent:?}");
    }

    #[test]
    fn address_families_alternate_from_that_of_the_first_address() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        let ordered =
            in_turns(addresses(&["[::1]:1", "[::2]:1", "[::1]:1", "1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1"]));
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "3.3.3.3:1"]);
        assert_eq!(Vec::from(ordered), expected);
        assert!(in_turns(Vec::new()).is_empty());
    }
}
