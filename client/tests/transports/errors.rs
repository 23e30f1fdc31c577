//! What an error says where a transport is not what the address says it is.

use rantai_client::session::{ClientError, ConnectError, TlsFiles, TlsProblem};
use rantai_client::{Client, error_chain};
use rantai_testing::{Authority, Layers, Tunnel};

use super::{HOSTS, address, broker, tunnel};

async fn error_of(url: &str, authority: &Authority) -> ConnectError {
    Client::builder(address(url, authority)).connect().await.expect_err(url)
}

fn url(scheme: &str, tunnel: &Tunnel) -> String {
    format!("{scheme}://localhost:{}", tunnel.port())
}

#[tokio::test]
async fn protocols_are_told_apart() {
    let (_broker, broker) = broker().await;
    let authority = Authority::new("lab");
    let tls = tunnel(Layers::Tls(authority.issue(&HOSTS).server(None)), broker);
    let (plain, web) = (tunnel(Layers::Tcp, broker), tunnel(Layers::Web(None), broker));
    for (url, told) in [(url("mqtt", &tls), "use mqtts://"), (url("mqtt", &web), "ws://")] {
        let error = error_chain(&error_of(&url, &authority).await);
        assert!(error.contains(told) && error.contains(&url), "{url}: {error}");
    }
    // Whoever gets TLS and knows none closes the connection, and may say something first in its own protocol.
    for url in [url("mqtts", &plain), url("mqtts", &web), url("wss", &web)] {
        let error = error_of(&url, &authority).await;
        let told = matches!(error, ConnectError::Tls { source: TlsProblem::Closed | TlsProblem::NotTls, .. });
        assert!(told, "{url}: {error:?}");
    }
    let error = error_of(&url("ws", &plain), &authority).await;
    assert!(matches!(error, ConnectError::Web { .. } | ConnectError::Unreachable { .. }), "{error:?}");
    let missing = error_chain(&error_of("unix:/no/such/socket", &authority).await);
    assert!(missing.contains("unix:/no/such/socket: No such file"), "{missing}");
}

#[tokio::test]
async fn certificates_are_explained() {
    let (_broker, broker) = broker().await;
    let (authority, other) = (Authority::new("lab"), Authority::new("town"));
    let elsewhere = tunnel(Layers::Tls(authority.issue(&["pi.local"]).server(None)), broker);
    let closed = authority.issue(&HOSTS).server(Some(&authority));
    let closed = [
        ("mqtts", tunnel(Layers::Tls(closed.clone()), broker)),
        ("wss", tunnel(Layers::Web(Some(closed)), broker)),
    ];

    let error = error_chain(&error_of(&url("mqtts", &elsewhere), &authority).await);
    assert!(error.contains("certificate is for pi.local, not for localhost"), "{error}");
    let error = error_of(&url("mqtts", &elsewhere), &other).await;
    assert!(
        matches!(error, ConnectError::Tls { source: TlsProblem::UnknownAuthority { .. }, .. }),
        "{error:?}"
    );
    let issued = authority.issue(&["client"]);
    let files = TlsFiles {
        ca: Some(authority.file()),
        certificate: Some(issued.certificate.clone()),
        key: Some(issued.key.clone()),
    };
    for (scheme, tunnel) in &closed {
        let error = error_of(&url(scheme, tunnel), &authority).await;
        let required = matches!(error, ConnectError::Tls { source: TlsProblem::CertificateRequired, .. });
        assert!(required && !error.may_pass(), "{scheme}: {error:?}");
        super::exchange(address(&url(scheme, tunnel), &authority).with_tls(files.clone())).await;
    }
    let nowhere = TlsFiles { ca: Some("/no/such/ca.pem".into()), ..TlsFiles::default() };
    let nowhere = address(&url("mqtts", &elsewhere), &authority).with_tls(nowhere);
    let error = Client::builder(nowhere).connect().await.expect_err("no file");
    assert!(matches!(error, ConnectError::TlsFiles(ClientError::File(_))), "{error:?}");
    assert!(error_chain(&error).starts_with("cannot set up TLS: cannot read /no/such/ca.pem: No such file"));
}
