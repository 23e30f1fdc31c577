//! Latency of an honest client during a flood of TLS handshakes.
//!
//! The attackers send the first bytes of a recorded handshake, wait for the answer, and disconnect. This costs them
//! almost nothing, and the broker a key exchange and a signature. The flood is directed at the client's broker and, in
//! turn, at another one on the same machine: the difference between the two is caused by the broker, not by the load
//! on the shared cores.

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

/// Number of attacking threads.
const ATTACKERS: usize = 4;
/// Number of concurrent connections per thread.
const CONNECTIONS_PER_ATTACKER: usize = 16;
/// Time limit, longer than any part of a round.
const TIME_LIMIT: Duration = Duration::from_mins(2);

/// Returns the p99 of the client's echo over TLS in microseconds, without a flood, with a flood of another broker, and
/// with a flood of its own broker; and the number of handshakes per second that its own broker has answered.
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
    let deadline = Instant::now() + TIME_LIMIT;
    let mut echo = Echo::over(own.connect(Transport::Tls, "bench-echo", deadline)?)?;
    let mut quiet = Latencies::new();
    echo.repeat_for(sample, &mut quiet)?;
    let mut beside = |flooded: SocketAddr| {
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..ATTACKERS {
                scope.spawn(|| {
                    cores::lower_priority();
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

/// Starts some handshakes concurrently. Returns the number of answered ones.
fn attack(address: SocketAddr, hello: &[u8]) -> usize {
    let open = (0..CONNECTIONS_PER_ATTACKER).filter_map(|_| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        // Resetting the connection frees its port at once.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
        stream.write_all(hello).ok()?;
        Some(stream)
    });
    let open: Vec<_> = open.collect();
    open.into_iter().filter_map(|mut stream| stream.read(&mut [0; 5]).ok()).filter(|count| *count > 0).count()
}
