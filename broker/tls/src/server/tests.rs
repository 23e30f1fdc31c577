//! Handshakes in memory, with certificates made here.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, HandshakeKind, ServerConnection};

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::*;
use crate::client_failure;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// A certificate for `names`, and its key.
fn issue(authority: &Authority, names: &[&str], serial: u64) -> (rcgen::Certificate, KeyPair) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.serial_number = Some(SerialNumber::from(serial));
    let key = KeyPair::generate().expect("a key");
    (params.signed_by(&key, authority).expect("a certificate"), key)
}

struct Server {
    folder: tempfile::TempDir,
    authority: Authority,
    tls: ServerTls,
}

impl Server {
    fn with(clients: impl FnOnce(&Path) -> Option<ClientFiles>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = authority("of the server");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("written");
        write_pair(folder.path(), "server", &issue(&authority, &["127.0.0.1", "pi.local"], 1));
        let files = ServerFiles {
            default: pair(folder.path(), "server"),
            additional: Vec::new(),
            clients: clients(folder.path()),
        };
        let tls = ServerTls::open(files).expect("TLS");
        Self { folder, authority, tls }
    }

    fn of_anybody() -> Self {
        Self::with(|_| None)
    }

    fn of_clients(required: bool) -> Self {
        Self::with(|folder| Some(ClientFiles { roots: folder.join("ca.pem"), revocations: None, required }))
    }

    /// What a client is configured with that trusts this server's authority.
    fn client(&self, identity: Option<(rcgen::Certificate, KeyPair)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        Arc::new(match identity {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).expect("an identity")
            }
            None => builder.with_no_client_auth(),
        })
    }
}

fn pair(folder: &Path, name: &str) -> CertificateFiles {
    let file = |extension| folder.join(format!("{name}.{extension}"));
    CertificateFiles { certificate: file("pem"), key: file("key") }
}

fn write_pair(folder: &Path, name: &str, (certificate, key): &(rcgen::Certificate, KeyPair)) {
    let files = pair(folder, name);
    std::fs::write(files.certificate, certificate.pem()).expect("written");
    std::fs::write(files.key, key.serialize_pem()).expect("written");
}

/// A whole handshake, and a byte each way; the error of the side that fails first.
fn shake(
    server: &ServerTls,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<(ServerConnection, ClientConnection), Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(client.clone(), name)?;
    let mut server = ServerConnection::new(server.config())?;
    for _ in 0..4 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("into memory");
        }
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).expect("from memory");
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("into memory");
        }
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).expect("from memory");
            client.process_new_packets()?;
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    Ok((server, client))
}

#[test]
fn a_certificate_holds_for_its_ip_address_and_its_name_and_no_other() {
    let server = Server::of_anybody();
    let client = server.client(None);
    for name in ["127.0.0.1", "pi.local"] {
        shake(&server.tls, &client, name).expect(name);
    }
    let error = shake(&server.tls, &client, "10.0.0.1").expect_err("another address");
    assert!(matches!(error, Error::InvalidCertificate(_)), "{error:?}");
}

/// Returns the serial number of the certificate that a client was shown.
fn shown(client: &ClientConnection) -> u64 {
    let chain = client.peer_certificates().expect("a certificate");
    let (_, certificate) = X509Certificate::from_der(&chain[0]).expect("it can be parsed");
    certificate.serial.to_u64_digits()[0]
}

#[test]
fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = authority("of the server");
    write_pair(folder.path(), "one", &issue(&authority, &["one.local", "127.0.0.1"], 1));
    write_pair(folder.path(), "two", &issue(&authority, &["two.local", "*.two.local", "127.0.0.2"], 2));
    // A later one does not take the place of an earlier one.
    write_pair(folder.path(), "three", &issue(&authority, &["three.local", "two.local"], 3));
    let [default, two, three] = ["one", "two", "three"].map(|name| pair(folder.path(), name));
    let files = ServerFiles { default, additional: vec![two, three], clients: None };
    let server = Server { tls: ServerTls::open(files).expect("TLS"), folder, authority };
    let client = server.client(None);
    for (name, expected) in [
        ("one.local", 1),
        ("two.local", 2),
        ("TWO.local", 2),
        ("any.two.local", 2),
        ("three.local", 3),
        // An address is not sent: this is the default.
        ("127.0.0.1", 1),
    ] {
        let (_, client) = shake(&server.tls, &client, name).expect(name);
        assert_eq!(shown(&client), expected, "{name}");
    }
    for name in ["127.0.0.2", "four.local", "any.one.local"] {
        let error = shake(&server.tls, &client, name).expect_err("the default is for other names");
        assert!(matches!(error, Error::InvalidCertificate(_)), "{name}: {error:?}");
    }
    // Each of them is read again.
    write_pair(server.folder.path(), "three", &issue(&server.authority, &["three.local"], 4));
    assert!(server.tls.reload().expect("read again"));
    let (_, connected) = shake(&server.tls, &server.client(None), "three.local").expect("a handshake");
    assert_eq!(shown(&connected), 4);
    write_pair(server.folder.path(), "other", &issue(&server.authority, &["three.local"], 5));
    std::fs::rename(server.folder.path().join("other.key"), server.folder.path().join("three.key"))
        .expect("the key of another one");
    let error = server.tls.reload().expect_err("they do not belong together").to_string();
    assert!(error.contains("three.pem") && error.contains("three.key"), "{error}");
}

#[test]
fn a_new_certificate_is_for_new_connections_and_tickets_stay_good() {
    let server = Server::of_anybody();
    let client = server.client(None);
    let (first, _) = shake(&server.tls, &client, "pi.local").expect("a handshake");
    assert_eq!(first.handshake_kind(), Some(HandshakeKind::Full));
    assert!(!server.tls.reload().expect("read again"), "nothing has changed");

    write_pair(server.folder.path(), "server", &issue(&server.authority, &["pi.local", "new.local"], 2));
    assert!(server.tls.reload().expect("read again"));
    let (again, _) = shake(&server.tls, &client, "pi.local").expect("with its ticket");
    assert_eq!(again.handshake_kind(), Some(HandshakeKind::Resumed));
    shake(&server.tls, &client, "new.local").expect("the new certificate");
}

#[test]
fn broken_files_keep_what_was_and_are_named() {
    let server = Server::of_anybody();
    let client = server.client(None);
    let (_, key) = issue(&server.authority, &["pi.local"], 3);
    std::fs::write(server.folder.path().join("server.key"), key.serialize_pem()).expect("written");
    let error = server.tls.reload().expect_err("the key of another certificate").to_string();
    assert!(error.contains("server.pem") && error.contains("server.key"), "{error}");
    std::fs::write(server.folder.path().join("server.pem"), "").expect("written");
    let error = server.tls.reload().expect_err("an empty file").to_string();
    assert!(error.contains("no certificate in") && error.contains("server.pem"), "{error}");
    shake(&server.tls, &client, "pi.local").expect("with the old certificate");
}

#[test]
fn a_required_certificate_is_checked_in_each_handshake() {
    let server = Server::of_clients(true);
    let error = shake(&server.tls, &server.client(None), "pi.local").expect_err("none");
    assert_eq!(error, Error::NoCertificatesPresented);
    assert!(client_failure(&error).contains("requires one"));

    let own = server.client(Some(issue(&server.authority, &["ada"], 4)));
    for _ in 0..2 {
        let (server, _) = shake(&server.tls, &own, "pi.local").expect("its own");
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full), "a ticket would outlive a revocation");
        assert_eq!(server.peer_certificates().map(<[_]>::len), Some(1));
    }
    let foreign = server.client(Some(issue(&authority("another"), &["ada"], 5)));
    let error = shake(&server.tls, &foreign, "pi.local").expect_err("of another authority");
    assert!(client_failure(&error).contains("client_ca"), "{error:?}");
}

#[test]
fn a_wanted_certificate_may_be_missing() {
    let server = Server::of_clients(false);
    let (connection, _) = shake(&server.tls, &server.client(None), "pi.local").expect("none");
    assert_eq!(connection.peer_certificates(), None);
    let own = server.client(Some(issue(&server.authority, &["ada"], 4)));
    let (connection, _) = shake(&server.tls, &own, "pi.local").expect("its own");
    assert!(connection.peer_certificates().is_some());
}

#[test]
fn a_certificate_that_is_revoked_meanwhile_is_refused_and_its_connection_not_trusted() {
    let revoked = |authority: &Authority, serials: &[u64]| {
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
        params.signed_by(authority).expect("a list").pem().expect("PEM")
    };
    let mut server = Server::of_clients(true);
    let file = server.folder.path().join("crl.pem");
    std::fs::write(&file, revoked(&server.authority, &[])).expect("written");
    let mut files = server.tls.files.clone();
    files.clients.as_mut().expect("clients").revocations = Some(file.clone());
    server.tls = ServerTls::open(files).expect("with a list");

    let (of_ada, of_eve) = (issue(&server.authority, &["ada"], 4), issue(&server.authority, &["eve"], 5));
    let chains = [vec![of_ada.0.der().clone()], vec![of_eve.0.der().clone()]];
    let (ada, eve) = (server.client(Some(of_ada)), server.client(Some(of_eve)));
    shake(&server.tls, &eve, "pi.local").expect("not revoked yet");
    std::fs::write(&file, revoked(&server.authority, &[5])).expect("written");
    assert!(server.tls.reload().expect("read again"));
    let error = shake(&server.tls, &eve, "pi.local").expect_err("revoked");
    assert_eq!(error, Error::InvalidCertificate(CertificateError::Revoked));
    shake(&server.tls, &ada, "pi.local").expect("not revoked");
    assert_eq!(server.tls.check_client(&chains[0]), Ok(()));
    assert_eq!(
        server.tls.check_client(&chains[1]),
        Err(Error::InvalidCertificate(CertificateError::Revoked))
    );
}
