//! A flood of handshakes beside a client that behaves.
//!
//! The attackers send the first bytes of a handshake that was recorded before, wait for the answer, and go: that costs them
//! next to nothing, and the broker a key exchange and a signature. The client's broker is flooded, and in turn another one on
//! the same machine: what differs between the two is the broker's doing, not that of the cores they share.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rantai_load::echo::Echo;
use rantai_load::failure::Failure;
use rantai_load::latencies::Latencies;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::brokers::{Certificates, Kind, Transport};
use crate::cores;

/// Attacking threads.
const ATTACKERS: usize = 4;
/// Connections of each at one time.
const AT_ONCE: usize = 16;
/// Longer than any part of a round takes.
const LIMIT: Duration = Duration::from_mins(2);

/// The p99 of the client's echo over TLS in microseconds, quiet, with another broker flooded and with its own flooded; and the
/// handshakes a second that its own broker has answered.
pub(crate) fn measure(
    kind: Kind,
    certificates: &Certificates,
    sample: Duration,
) -> Result<([f64; 3], f64), Failure> {
    let (own, other) = (kind.start(certificates)?, kind.start(certificates)?);
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let mut hello = Vec::new();
    let client = ClientConnection::new(certificates.client.clone(), name);
    client.expect("a client").write_tls(&mut hello).expect("into memory");
    let deadline = Instant::now() + LIMIT;
    let mut echo = Echo::over(own.connect(Transport::Tls, "bench-echo", deadline)?)?;
    let mut quiet = Latencies::new();
    echo.repeat_for(sample, &mut quiet)?;
    let mut beside = |flooded: SocketAddr| {
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..ATTACKERS {
                scope.spawn(|| {
                    cores::give_way();
                    while !stop.load(Ordering::Relaxed) {
                        answered.fetch_add(attack(flooded, &hello), Ordering::Relaxed);
                    }
                });
            }
            thread::sleep(sample / 4);
            let mut latencies = Latencies::new();
            let (before, began) = (answered.load(Ordering::Relaxed), Instant::now());
            let measured = echo.repeat_for(sample, &mut latencies);
            let count = answered.load(Ordering::Relaxed) - before;
            stop.store(true, Ordering::Relaxed);
            measured.map(|()| (latencies.micros(0.99), count as f64 / began.elapsed().as_secs_f64()))
        })
    };
    let (elsewhere, _) = beside(other.address(Transport::Tls))?;
    let (here, flooded) = beside(own.address(Transport::Tls))?;
    Ok(([quiet.micros(0.99), elsewhere, here], flooded))
}

/// Begins some handshakes at once; how many were answered.
fn attack(address: SocketAddr, hello: &[u8]) -> usize {
    let open = (0..AT_ONCE).filter_map(|_| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        // A port is free at once where the connection is reset.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
        stream.write_all(hello).ok()?;
        Some(stream)
    });
    let open: Vec<_> = open.collect();
    open.into_iter().filter_map(|mut stream| stream.read(&mut [0; 5]).ok()).filter(|count| *count > 0).count()
}
