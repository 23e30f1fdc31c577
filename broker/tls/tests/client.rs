//! Errors of a client that refuses the server's certificate, and of one whose own certificate is refused. Client and
//! server are connected in memory.

use std::io::{Read as _, Write as _};

use rantai_testing::{Authority, Issued};
use rantai_tls::{ClientError, ClientTls, TlsFiles, TlsProblem};
use rcgen::{BasicConstraints, IsCa, SanType, date_time_ymd};
use rustls::{ClientConnection, ServerConnection};

const HOSTS: [&str; 2] = ["pi.local", "10.0.0.2"];

fn authority() -> Authority {
    Authority::new("the\u{1b}[31m lab")
}

/// Returns the files of a client that trusts only this authority.
fn files(authority: &Authority) -> TlsFiles {
    TlsFiles { ca: Some(authority.file()), ..TlsFiles::default() }
}

fn server(own: &Issued, clients: Option<&Authority>) -> ServerConnection {
    ServerConnection::new(own.server(clients)).expect("a server")
}

/// Passes bytes between client and server until both sides are idle.
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
    let authority = self::authority();
    let own = authority.issue(&HOSTS);
    for host in ["pi.local", "PI.local", "10.0.0.2"] {
        assert_eq!(handshake(&files(&authority), host, server(&own, None)), Ok(()), "{host}");
    }
    for host in ["localhost", "10.0.0.3", "::1"] {
        let error = problem(&files(&authority), host, server(&own, None)).to_string();
        assert_eq!(error, format!("its certificate is for pi.local, 10.0.0.2, not for {host}"));
    }
    let many = authority.issue_with(&HOSTS, |params| {
        let name = |number| SanType::DnsName(format!("host{number}").try_into().expect("a name"));
        params.subject_alt_names = (0..20).map(name).collect();
    });
    let error = problem(&files(&authority), "pi.local", server(&many, None)).to_string();
    assert!(error.contains("host7 and 12 more, not"), "{error}");
    assert!(matches!(ClientTls::new(&files(&authority), "a b"), Err(ClientError::ServerName(_))));
}

#[test]
fn unknown_authorities_are_named_without_control_characters() {
    let (authority, other) = (authority(), Authority::new("the town"));
    let own = authority.issue(&HOSTS);
    let error = problem(&files(&self::authority()), "pi.local", server(&own, None)).to_string();
    assert!(error.contains("has it been made anew?") && !error.contains('\u{1b}'), "{error}");
    let error = problem(&files(&other), "pi.local", server(&own, None)).to_string();
    assert!(error.contains("lab\"") && error.contains("does not trust"), "{error}");
    assert!(!error.contains('\u{1b}'), "{error}");
}

#[test]
fn expiry_errors_name_the_times_and_the_local_clock() {
    let authority = self::authority();
    for (from, until, told) in [(2010, 2011, "Jan  1 00:00:00 2010"), (2600, 2601, "Jan  1 00:00:00 2600")] {
        let own = authority.issue_with(&HOSTS, |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        });
        let problem = problem(&files(&authority), "pi.local", server(&own, None));
        let error = problem.to_string();
        assert!(
            problem.may_pass() && error.contains(told) && error.contains("is the clock right?"),
            "{error}"
        );
    }
}

#[test]
fn missing_and_refused_client_certificates_give_different_errors() {
    let (authority, other) = (authority(), authority());
    let own = authority.issue(&HOSTS);
    let wanted = problem(&files(&authority), "pi.local", server(&own, Some(&authority)));
    assert_eq!(wanted, TlsProblem::CertificateRequired);

    let shown = |issued: &Issued| TlsFiles {
        certificate: Some(issued.certificate.clone()),
        key: Some(issued.key.clone()),
        ..files(&authority)
    };
    let welcome = shown(&authority.issue(&HOSTS));
    assert_eq!(handshake(&welcome, "pi.local", server(&own, Some(&authority))), Ok(()));
    for other in [other, self::authority()] {
        let stranger = shown(&other.issue(&HOSTS));
        let refused = problem(&stranger, "pi.local", server(&own, Some(&authority)));
        assert!(matches!(refused, TlsProblem::CertificateRefused(_)), "{refused:?}");
    }
    let late = shown(&authority.issue_with(&HOSTS, |params| params.not_after = date_time_ymd(2011, 1, 1)));
    let late = problem(&late, "pi.local", server(&own, Some(&authority))).to_string();
    assert!(late.contains("by the clock of the server"), "{late}");

    let alone = TlsFiles { certificate: None, ..welcome.clone() };
    assert!(matches!(ClientTls::new(&alone, "pi.local"), Err(ClientError::KeyAlone { .. })));
    let mixed = TlsFiles { key: Some(own.key.clone()), ..welcome };
    assert!(matches!(ClientTls::new(&mixed, "pi.local"), Err(ClientError::Identity { .. })));
}

#[test]
fn other_protocols_and_authority_certificates_are_recognized() {
    let authority = self::authority();
    let tls = ClientTls::new(&files(&authority), "pi.local").expect("files");
    for answer in [&[0xE0, 2, 0x82, 0][..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let mut client = ClientConnection::new(tls.config(), tls.server_name()).expect("a client");
        client.read_tls(&mut &*answer).expect("in memory");
        let error = client.process_new_packets().expect_err("no TLS");
        assert_eq!(tls.explain(&error), TlsProblem::NotTls, "{error:?}");
    }
    let own = authority.issue_with(&HOSTS, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let problem = problem(&files(&authority), "pi.local", server(&own, None));
    assert_eq!(problem, TlsProblem::AuthorityItself);
}
