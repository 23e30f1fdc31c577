//! Certificates made for a test, and blocking MQTT clients over TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rantai_broker::{ClientCertificates, Listener, TlsSettings, UserFrom};
use rantai_testing::{Connect, Packet, length_of_first, read_packet};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::Version;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with the files of a broker, and the authority that has issued them.
pub(super) struct Site {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

pub(super) type Issued = (rcgen::Certificate, KeyPair);

impl Site {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let site = Self { folder, authority };
        site.write("ca.pem", &site.authority.pem());
        site.renew(&["127.0.0.1"]);
        site.revoke(&[]);
        site
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    /// Gives the broker another certificate, for these names.
    pub(super) fn renew(&self, names: &[&str]) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &self.authority);
        self.write("server.pem", &certificate.expect("a certificate").pem());
        self.write("server.key", &key.serialize_pem());
    }

    /// A client's certificate.
    pub(super) fn issue(&self, user: &str, serial: u64) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.authority).expect("a certificate"), key)
    }

    pub(super) fn revoke(&self, serials: &[u64]) {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.authority).expect("a list");
        self.write("crl.pem", &list.pem().expect("PEM"));
    }

    /// A listener with TLS on a free port.
    pub(super) fn listener(&self, client_certificates: ClientCertificates) -> Listener {
        let asks = client_certificates != ClientCertificates::None;
        let tls = TlsSettings {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            additional_certificates: Vec::new(),
            client_ca: asks.then(|| self.path("ca.pem")),
            client_certificates,
            user_from: UserFrom::Cn,
            revocations: asks.then(|| self.path("crl.pem")),
        };
        Listener { tls: Some(tls), ..Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))) }
    }

    pub(super) fn connect(&self, address: SocketAddr, name: &str, own: Option<&Issued>) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match own {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).expect("an identity")
            }
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        TlsClient { stream: StreamOwned::new(connection, open(address)), received: Vec::new() }
    }
}

pub(super) fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// A client over TLS, which blocks.
pub(super) struct TlsClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
}

impl TlsClient {
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    pub(super) fn receive(&mut self, version: Version) -> io::Result<Packet> {
        loop {
            if let Some(length) = length_of_first(&self.received).expect("MQTT")
                && length <= self.received.len()
            {
                let packet: Vec<u8> = self.received.drain(..length).collect();
                return Ok(read_packet(version, &packet).expect("MQTT"));
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// The code of the CONNACK; an error where the handshake or the connection fails.
    pub(super) fn present(&mut self, connect: &Connect) -> io::Result<u8> {
        self.send(&connect.encode())?;
        match self.receive(connect.version)? {
            Packet::Connack(connack) => Ok(connack.code),
            other => panic!("a CONNACK, not {other:?}"),
        }
    }

    /// Whether the broker has closed the stream, in whatever way.
    pub(super) fn is_ended(&mut self) -> bool {
        !matches!(self.stream.read(&mut [0]), Ok(1..))
    }
}
