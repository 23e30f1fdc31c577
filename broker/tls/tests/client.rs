//! What a client is told about a server whose certificate it does not take, and about one that takes none of its own. Client
//! and server are connected in memory.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use rantai_tls::{ClientError, ClientTls, TlsFiles, TlsProblem};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tempfile::TempDir;

/// An authority, whose certificate is the file `ca.pem`.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate with its key.
struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        Self::named("the\u{1b}[31m lab")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("written");
        Self { folder, issuer: Issuer::new(params, key), certificate }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { ca: Some(self.file("ca.pem")), ..TlsFiles::default() }
    }

    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(vec!["pi.local".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 2].into()));
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        Issued { certificate: params.signed_by(&key, &self.issuer).expect("a certificate"), key }
    }
}

impl Issued {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("PKCS#8")
    }
}

/// A server with a certificate, which takes those of clients by an authority where there is one.
fn server(own: &Issued, clients: Option<&Authority>) -> ServerConnection {
    let builder = ServerConfig::builder_with_provider(rantai_tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).expect("an authority");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), rantai_tls::provider()).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let config = builder.with_single_cert(vec![own.certificate.der().clone()], own.key());
    ServerConnection::new(Arc::new(config.expect("certificate and key"))).expect("a server")
}

/// Carries bytes between the two until neither has more to say.
fn handshake(files: &TlsFiles, host: &str, mut server: ServerConnection) -> Result<(), TlsProblem> {
    let tls = ClientTls::new(files, host).expect("files");
    let mut client = ClientConnection::new(tls.config(), tls.server_name()).expect("a client");
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("in memory");
        server.read_tls(&mut &*bytes).expect("in memory");
        let _ = server.process_new_packets();
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("in memory");
        }
        client.read_tls(&mut &*bytes).expect("in memory");
        client.process_new_packets().map_err(|error| tls.explain(&error))?;
    }
    client.writer().write_all(b"hello").expect("agreed on");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("in memory");
    server.read_tls(&mut &*bytes).expect("in memory");
    server.process_new_packets().expect("the client is welcome");
    let mut said = [0; 5];
    server.reader().read_exact(&mut said).expect("it came");
    assert_eq!(&said, b"hello");
    Ok(())
}

fn problem(files: &TlsFiles, host: &str, server: ServerConnection) -> TlsProblem {
    handshake(files, host, server).expect_err("not taken")
}

#[test]
fn certificates_are_checked_for_names_and_addresses() {
    let authority = Authority::new();
    let own = authority.issue(|_| {});
    for host in ["pi.local", "PI.local", "10.0.0.2"] {
        assert_eq!(handshake(&authority.files(), host, server(&own, None)), Ok(()), "{host}");
    }
    for host in ["localhost", "10.0.0.3", "::1"] {
        let error = problem(&authority.files(), host, server(&own, None)).to_string();
        assert_eq!(error, format!("its certificate is for pi.local, 10.0.0.2, not for {host}"));
    }
    let many = authority.issue(|params| {
        let name = |number| SanType::DnsName(format!("host{number}").try_into().expect("a name"));
        params.subject_alt_names = (0..20).map(name).collect();
    });
    let error = problem(&authority.files(), "pi.local", server(&many, None)).to_string();
    assert!(error.contains("host7 and 12 more, not"), "{error}");
    assert!(matches!(ClientTls::new(&authority.files(), "a b"), Err(ClientError::ServerName(_))));
}

#[test]
fn unknown_authorities_are_named_without_what_steers_a_terminal() {
    let (authority, other) = (Authority::new(), Authority::named("the town"));
    let own = authority.issue(|_| {});
    let error = problem(&Authority::new().files(), "pi.local", server(&own, None)).to_string();
    assert!(error.contains("has it been made anew?") && !error.contains('\u{1b}'), "{error}");
    let error = problem(&other.files(), "pi.local", server(&own, None)).to_string();
    assert!(error.contains("lab\"") && error.contains("does not trust"), "{error}");
    assert!(!error.contains('\u{1b}'), "{error}");
    let Ok(itself) = rcgen::generate_simple_self_signed(vec!["pi.local".to_owned()]) else { panic!("made") };
    let itself = Issued { certificate: itself.cert, key: itself.signing_key };
    let error = problem(&other.files(), "pi.local", server(&itself, None)).to_string();
    assert!(error.contains("(itself)"), "{error}");
}

#[test]
fn times_are_told_beside_the_clock_of_this_machine() {
    let authority = Authority::new();
    for (from, until, told) in [(2010, 2011, "Jan  1 00:00:00 2010"), (2600, 2601, "Jan  1 00:00:00 2600")] {
        let own = authority.issue(|params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        });
        let problem = problem(&authority.files(), "pi.local", server(&own, None));
        let error = problem.to_string();
        assert!(
            problem.may_pass() && error.contains(told) && error.contains("is the clock right?"),
            "{error}"
        );
    }
}

#[test]
fn servers_that_want_a_certificate_are_told_from_those_that_refuse_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.issue(|_| {});
    let wanted = problem(&authority.files(), "pi.local", server(&own, Some(&authority)));
    assert_eq!(wanted, TlsProblem::CertificateRequired);

    let write = |issued: &Issued| {
        std::fs::write(authority.file("client.pem"), issued.certificate.pem()).expect("written");
        std::fs::write(authority.file("client.key"), issued.key.serialize_pem()).expect("written");
    };
    let (certificate, key) = (Some(authority.file("client.pem")), Some(authority.file("client.key")));
    let files = TlsFiles { certificate, key, ..authority.files() };
    write(&authority.issue(|_| {}));
    assert_eq!(handshake(&files, "pi.local", server(&own, Some(&authority))), Ok(()));
    for other in [other, Authority::named("the town")] {
        write(&other.issue(|_| {}));
        let refused = problem(&files, "pi.local", server(&own, Some(&authority)));
        assert!(matches!(refused, TlsProblem::CertificateRefused(_)), "{refused:?}");
    }
    write(&authority.issue(|params| params.not_after = date_time_ymd(2011, 1, 1)));
    let late = problem(&files, "pi.local", server(&own, Some(&authority))).to_string();
    assert!(late.contains("by the clock of the server"), "{late}");

    let alone = TlsFiles { certificate: None, ..files.clone() };
    assert!(matches!(ClientTls::new(&alone, "pi.local"), Err(ClientError::KeyAlone { .. })));
    std::fs::write(authority.file("client.key"), KeyPair::generate().expect("a key").serialize_pem())
        .expect("written");
    assert!(matches!(ClientTls::new(&files, "pi.local"), Err(ClientError::Identity { .. })));
}

#[test]
fn other_protocols_and_authorities_as_servers_are_recognized() {
    let authority = Authority::new();
    let tls = ClientTls::new(&authority.files(), "pi.local").expect("files");
    for answer in [&[0xE0, 2, 0x82, 0][..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let mut client = ClientConnection::new(tls.config(), tls.server_name()).expect("a client");
        client.read_tls(&mut &*answer).expect("in memory");
        let error = client.process_new_packets().expect_err("no TLS");
        assert_eq!(tls.explain(&error), TlsProblem::NotTls, "{error:?}");
    }
    let own = authority.issue(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let problem = problem(&authority.files(), "pi.local", server(&own, None));
    assert_eq!(problem, TlsProblem::AuthorityItself);
}
