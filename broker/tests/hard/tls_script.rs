//! Behavior of a hostile client of a TLS listener, derived from arbitrary bytes; used by the fuzz target and by a
//! seeded test.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Time after which a client is considered to be blocked.
const STEP_TIMEOUT: Duration = Duration::from_mins(1);
const CONNECT: &[u8] = b"\x10\x0D\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00";
const PINGREQ: &[u8] = &[0xC0, 0];
const PINGRESP: &[u8] = &[0xD0, 0];
/// Maximum length of the contents of a record, in bytes.
const MAX_RECORD_BYTES: usize = 16 << 10;

/// Clients of a server whose certificate they trust.
pub(crate) struct TlsClients {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl TlsClients {
    /// Creates clients of a server; `certificate` is the server's self-signed one, for 127.0.0.1.
    pub(crate) fn new(address: SocketAddr, certificate: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { address, config: Arc::new(config) }
    }

    /// Connects a client that follows the protocol. Fails unless it is accepted and answered.
    pub(crate) fn behave(&self) -> Result<(), String> {
        let (mut connection, mut stream) = self.connected()?;
        let mut stream = rustls::Stream::new(&mut connection, &mut stream);
        let told = |error: std::io::Error| format!("a client that behaves: {error}");
        stream.write_all(CONNECT).map_err(told)?;
        stream.write_all(PINGREQ).map_err(told)?;
        let mut answer = Vec::new();
        while !answer.ends_with(PINGRESP) {
            let mut chunk = [0; 256];
            match stream.read(&mut chunk).map_err(told)? {
                0 => return Err("the broker has closed on a client that behaves".to_owned()),
                count => answer.extend_from_slice(&chunk[..count]),
            }
        }
        Ok(())
    }

    /// Executes `script`, and waits until the broker has closed the connection.
    ///
    /// # Errors
    ///
    /// The broker does not close the connection, or accepts none.
    pub(crate) fn attack(&self, script: &[u8]) -> Result<(), String> {
        let [how, piece, rest @ ..] = script else { return Ok(()) };
        let kind = how % 10;
        // A client that was accepted must end the connection itself. Most others leave this to the broker.
        let ends = kind >= 7 || how & 0x80 != 0;
        let (bytes, mut stream) = if kind < 7 {
            (self.before_the_handshake(kind, rest), self.open()?)
        } else {
            let (mut connection, stream) = self.connected()?;
            (after_the_handshake(kind, rest, &mut connection), stream)
        };
        for piece in bytes.chunks(usize::from(*piece).max(1)) {
            // The broker may close the connection before the end.
            match stream.write_all(piece) {
                Err(error) if is_late(&error) => return Err("the broker neither reads nor closes".to_owned()),
                Err(_) => return Ok(()),
                Ok(()) => {}
            }
        }
        if ends {
            let _ = stream.shutdown(Shutdown::Write);
        }
        loop {
            match stream.read(&mut [0; 4 << 10]) {
                Ok(1..) => {}
                Err(error) if is_late(&error) => return Err("the broker does not close".to_owned()),
                Ok(0) | Err(_) => return Ok(()),
            }
        }
    }

    fn before_the_handshake(&self, kind: u8, rest: &[u8]) -> Vec<u8> {
        match kind {
            // Random bytes, and MQTT without TLS.
            0 => rest.to_vec(),
            1 => [CONNECT, rest].concat(),
            // Records of any type and version, including alerts, with right or wrong lengths.
            2 => rest.chunks(40).flat_map(any_record).collect(),
            3 => {
                let mut hello = self.hello();
                change(&mut hello, rest);
                hello
            }
            4 => {
                let hello = self.hello();
                let end = number(rest) % hello.len();
                hello[..end].to_vec()
            }
            // A ClientHello in many records, of one byte and more.
            5 => {
                let hello = self.hello();
                let mut left = &hello[5..];
                let mut records = Vec::new();
                for &length in rest.iter().cycle().take(left.len()) {
                    let (part, behind) = left.split_at(usize::from(length % 32 + 1).min(left.len()));
                    records.extend(record(0x16, part));
                    left = behind;
                }
                records
            }
            // An endless handshake message.
            _ => {
                let kind = rest.first().map_or(1, |kind| kind % 25);
                let mut endless = record(0x16, &[&[kind, 0xFF, 0xFF, 0xFF][..], rest].concat());
                for _ in 0..32 {
                    endless.extend(record(0x16, &[0x5A; MAX_RECORD_BYTES]));
                }
                endless
            }
        }
    }

    /// Returns the first bytes that a client sends.
    fn hello(&self) -> Vec<u8> {
        let mut hello = Vec::new();
        self.client().write_tls(&mut hello).expect("into memory");
        hello
    }

    fn client(&self) -> ClientConnection {
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        ClientConnection::new(self.config.clone(), name).expect("a client")
    }

    fn open(&self) -> Result<TcpStream, String> {
        let stream = TcpStream::connect(self.address).map_err(|error| format!("nobody accepts: {error}"))?;
        let timeout = Some(STEP_TIMEOUT);
        stream
            .set_read_timeout(timeout)
            .and(stream.set_write_timeout(timeout))
            .expect("a socket has timeouts");
        stream.set_nodelay(true).expect("TCP has no-delay");
        Ok(stream)
    }

    fn connected(&self) -> Result<(ClientConnection, TcpStream), String> {
        let (mut connection, mut stream) = (self.client(), self.open()?);
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| format!("a handshake: {error}"))?;
        }
        Ok((connection, stream))
    }
}

fn after_the_handshake(kind: u8, rest: &[u8], connection: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    match kind {
        // Records that cannot be decrypted.
        7 => bytes = rest.chunks(40).flat_map(any_record).collect(),
        // Truncated or damaged records.
        8 => {
            connection.writer().write_all(CONNECT).expect("room");
            connection.writer().write_all(rest).expect("room");
            connection.write_tls(&mut bytes).expect("into memory");
            change(&mut bytes, rest);
            let end = bytes.len() - number(rest) % bytes.len() / 2;
            bytes.truncate(end);
        }
        // The end of the stream between other records, empty records, and arbitrary bytes after them.
        _ => {
            connection.writer().write_all(CONNECT).expect("room");
            connection.writer().write_all(PINGREQ).expect("room");
            connection.write_tls(&mut bytes).expect("into memory");
            connection.send_close_notify();
            connection.write_tls(&mut bytes).expect("into memory");
            bytes.extend(rest.chunks(40).flat_map(any_record));
        }
    }
    bytes
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a short body").to_be_bytes();
    [&[kind, 3, 3], &length[..], body].concat()
}

/// Returns a record whose type, version and length are derived from the first bytes; mostly valid ones.
fn any_record(bytes: &[u8]) -> Vec<u8> {
    let mut made = record(0x14 + bytes[0] % 5, &bytes[1..]);
    if bytes[0] & 0x40 != 0 {
        made[2] = bytes[0] % 7;
    }
    if bytes[0] & 0x80 != 0 {
        made[4] = bytes[0];
    }
    made
}

/// Changes up to eight bytes: `changes` contains positions and values.
fn change(bytes: &mut [u8], changes: &[u8]) {
    for change in changes.chunks_exact(3).take(8) {
        let place = number(change) % bytes.len();
        bytes[place] = change[2];
    }
}

/// Returns the number in the first two bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().take(2).fold(0, |number, &byte| number << 8 | usize::from(byte))
}
