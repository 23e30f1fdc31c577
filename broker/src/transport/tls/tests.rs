//! TLS in memory, with rustls as the client.

use rantai_tls::{CertificateFiles, ServerFiles, provider};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::transport::{MAX_DISCARDED_BYTES, memory_pair};

/// Files of a server in a temporary folder, and the configuration of a client that trusts it.
struct TestServer {
    _folder: tempfile::TempDir,
    server: Arc<ServerTls>,
    client: Arc<ClientConfig>,
}

impl TestServer {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["pi.local".to_owned()]).expect("a certificate");
        let written = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let certificate = written("server.pem", made.cert.pem());
        let key = written("server.key", made.signing_key.serialize_pem());
        let files = ServerFiles {
            default: CertificateFiles { certificate, key },
            additional: Vec::new(),
            clients: None,
        };
        let server = ServerTls::open(files).expect("TLS");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { _folder: folder, server: Arc::new(server), client: Arc::new(client) }
    }

    fn pair(&self, capacity: usize) -> (Tls, Client) {
        let (ours, theirs) = memory_pair(capacity);
        let tls = Tls::new(Socket::Memory(ours), self.server.clone()).expect("TLS");
        let name = ServerName::try_from("pi.local").expect("a name");
        let connection = ClientConnection::new(self.client.clone(), name).expect("a client");
        (tls, Client { connection, socket: Socket::Memory(theirs) })
    }

    /// Returns both sides after the handshake.
    fn connected(&self, capacity: usize) -> (Tls, Client) {
        let (tls, mut client) = self.pair(capacity);
        for _ in 0..1_000 {
            client.exchange();
            if shake(&tls).expect("a handshake") && !client.connection.is_handshaking() {
                client.exchange();
                return (tls, client);
            }
        }
        panic!("the handshake does not end");
    }
}

/// Continues a handshake, with its computations on this thread. Returns whether it is complete.
fn shake(tls: &Tls) -> Result<bool, HandshakeError> {
    loop {
        match tls.try_handshake()? {
            TlsStep::Done => return Ok(true),
            TlsStep::Reads | TlsStep::Writes => return Ok(false),
            TlsStep::Computes(computation) => tls.resume(computation.run())?,
        }
    }
}

struct Client {
    connection: ClientConnection,
    socket: Socket,
}

impl Client {
    /// Sends and receives as much as the stream allows.
    fn exchange(&mut self) {
        let mut below = Below { socket: &self.socket, first: &mut None };
        while self.connection.wants_write() && self.connection.write_tls(&mut below).is_ok() {}
        while self.connection.read_tls(&mut below).is_ok_and(|count| count > 0) {
            self.connection.process_new_packets().expect("TLS of the server");
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.connection.writer().write_all(bytes).expect("room");
        self.exchange();
    }

    fn read(&mut self) -> Vec<u8> {
        self.exchange();
        let mut read = Vec::new();
        let _ = self.connection.reader().read_to_end(&mut read);
        read
    }
}

fn read(tls: &Tls, most: usize) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    tls.try_read(&mut (&mut read).limit(most)).map(|_| read)
}

fn is_blocked<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn is_readable(tls: &Tls) -> bool {
    tls.poll_readable(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
}

#[test]
fn all_bytes_arrive_in_order_with_reads_of_any_size() {
    let site = TestServer::new();
    let (tls, mut client) = site.connected(64 << 10);
    let sent: Vec<u8> = (0..10_000_u32).map(|number| (number % 251) as u8).collect();
    client.write(&sent);
    let mut got = read(&tls, 7).expect("a few");
    assert_eq!(got.len(), 7);
    // The socket is empty, but decrypted bytes are still readable.
    while got.len() < sent.len() {
        assert!(is_readable(&tls), "{} of {}", got.len(), sent.len());
        got.extend(read(&tls, 600).expect("the rest"));
    }
    assert_eq!(got, sent);
    assert!(is_blocked(&read(&tls, 1)) && !is_readable(&tls));
}

#[test]
fn unsent_bytes_are_bounded_and_sent_later() {
    let site = TestServer::new();
    let (tls, mut client) = site.connected(4 << 10);
    let sent: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let taken = tls.try_write(&[IoSlice::new(&sent)]).expect("taken");
    assert!(taken <= MAX_ENCRYPTED_BYTES && tls.has_unsent(), "{taken}");
    assert!(is_blocked(&tls.try_write(&[IoSlice::new(&sent[taken..])])), "nothing more is encrypted");
    let (mut got, mut taken) = (Vec::new(), taken);
    while got.len() < sent.len() {
        got.extend(client.read());
        assert!(tls.try_flush().is_ok());
        if let Ok(more) = tls.try_write(&[IoSlice::new(&sent[taken..])]) {
            taken += more;
        }
    }
    assert_eq!(got, sent);
    assert!(tls.try_flush().expect("flushed") && !tls.has_unsent());
}

#[test]
fn close_notify_is_sent_after_all_unsent_bytes() {
    let site = TestServer::new();
    let (tls, mut client) = site.connected(1 << 10);
    tls.try_write(&[IoSlice::new(&[1; 5_000])]).expect("taken");
    tls.shutdown(Shutdown::Write);
    assert!(tls.has_unsent());
    let mut got = Vec::new();
    while tls.has_unsent() {
        got.extend(client.read());
        tls.try_flush().expect("flushed");
    }
    got.extend(client.read());
    assert_eq!(got.len(), 5_000);
    assert_eq!(client.connection.reader().read(&mut [0]).expect("a clean end"), 0);
}

#[test]
fn a_closed_stream_is_detected_with_and_without_close_notify() {
    let site = TestServer::new();
    for says_so in [true, false] {
        let (tls, mut client) = site.connected(4 << 10);
        client.write(b"last");
        if says_so {
            client.connection.send_close_notify();
            client.exchange();
        }
        drop(client);
        assert_eq!(read(&tls, 100).expect("what came before"), b"last");
        assert_eq!(read(&tls, 100).expect("the end"), b"");
        assert!(is_readable(&tls), "the end stays");
    }
}

#[test]
fn other_protocols_are_recognized() {
    let site = TestServer::new();
    for (bytes, told) in [
        (&b"\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0"[..], "MQTT without TLS on a TLS listener"),
        (b"GET /mqtt HTTP/1.1\r\n\r\n", "HTTP without TLS on a TLS listener"),
        (b"\x16\x03\x01\0\x05\x09\0\0\x01\0", "what it sends breaks the rules of TLS"),
        (b"\0\0\0\0\0\0\0\0", "what it sends is not TLS"),
    ] {
        let (tls, client) = site.pair(4 << 10);
        client.socket.try_write(bytes).expect("room");
        assert_eq!(shake(&tls), Err(HandshakeError::Failed(told)));
        assert_eq!(tls.violation(), Some(told));
        read(&tls, 10).expect_err("it stays so");
        tls.shutdown(Shutdown::Write);
        assert!(is_blocked(&read(&tls, 10)), "what still comes is read and forgotten");
    }
}

/// Once, bytes decrypted before a damaged record were never read: the task that waited for the client's end was woken
/// again and again without being able to read, which delayed every other client of the thread.
#[test]
fn bytes_before_a_damaged_record_are_read() {
    let site = TestServer::new();
    for (most, first) in [(100, &b"last"[..]), (2, b"la")] {
        let (tls, mut client) = site.connected(64 << 10);
        let mut bytes = Vec::new();
        client.connection.writer().write_all(b"last").expect("room");
        client.connection.write_tls(&mut bytes).expect("into memory");
        bytes.extend([0x17, 3, 3, 0, 20]);
        bytes.extend([7; 20]);
        client.socket.try_write(&bytes).expect("room");
        assert_eq!(read(&tls, most).expect("what came before"), first);
        tls.shutdown(Shutdown::Write);
        assert!(is_blocked(&read(&tls, most)), "read and forgotten");
        assert!(!is_readable(&tls));
        client.socket.try_write(&[7; 1_000]).expect("room");
        assert!(is_readable(&tls) && is_blocked(&read(&tls, most)));
        drop(client);
        assert_eq!(read(&tls, most).expect("the end"), b"");
    }
}

#[test]
fn bytes_after_a_failed_stream_are_discarded_up_to_a_maximum() {
    let site = TestServer::new();
    let (tls, client) = site.pair(64 << 10);
    client.socket.try_write(b"GET / HTTP/1.1\r\n").expect("room");
    shake(&tls).expect_err("no TLS");
    tls.shutdown(Shutdown::Write);
    let mut sent = 0;
    loop {
        sent += client.socket.try_write(&vec![b'x'; 64 << 10]).expect("room");
        match read(&tls, 100) {
            Ok(read) if read.is_empty() => break,
            blocked => assert!(is_blocked(&blocked), "{blocked:?}"),
        }
    }
    assert!((MAX_DISCARDED_BYTES..MAX_DISCARDED_BYTES + (1 << 20)).contains(&sent), "{sent}");
}

/// Random bytes, before and after the handshake, cause an error or a wait, but neither a panic nor unbounded memory.
#[test]
fn random_bytes_and_damaged_records_end_in_an_error_or_a_wait() {
    let site = TestServer::new();
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..300 {
        let (tls, mut client) = if round % 3 == 0 { site.connected(64 << 10) } else { site.pair(64 << 10) };
        let mut bytes = Vec::new();
        if round % 2 == 0 {
            // Real records with some bytes changed.
            if round % 3 == 0 {
                client.connection.writer().write_all(&[7; 500]).expect("room");
            }
            while client.connection.wants_write() {
                client.connection.write_tls(&mut bytes).expect("into memory");
            }
            for _ in 0..=next() % 3 {
                let at = next() as usize % bytes.len();
                bytes[at] = next() as u8;
            }
        } else {
            bytes.extend([0x16 + (next() % 2) as u8, 3, 3]);
            bytes.extend((0..next() % 5_000).map(|_| next() as u8));
        }
        for piece in bytes.chunks(1 + next() as usize % 700) {
            client.socket.try_write(piece).expect("room");
            let _ = if round % 3 == 0 { read(&tls, 4_096).map(drop).is_ok() } else { shake(&tls).is_ok() };
        }
        drop(client);
        for _ in 0..100 {
            match read(&tls, 4_096) {
                Ok(read) if read.is_empty() => break,
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}
