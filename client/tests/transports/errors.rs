//! Errors of connecting by a transport that the server does not speak.

use std::net::SocketAddr;

use rantai_client::session::{ClientError, ConnectError, Status, TlsFiles, TlsProblem};
use rantai_client::{Client, error_chain};
use rantai_testing::{Authority, Layers, Tunnel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::{HOSTS, address, broker, tunnel};

async fn error_of(url: &str, authority: &Authority) -> ConnectError {
    Client::builder(address(url, authority)).connect().await.expect_err(url)
}

fn url(scheme: &str, tunnel: &Tunnel) -> String {
    format!("{scheme}://localhost:{}", tunnel.port())
}

/// Connects to each port with each kind of address: the error names the right one.
#[tokio::test]
async fn error_of_another_protocol_suggests_the_address_to_try() {
    let (_broker, broker) = broker().await;
    let authority = Authority::new("lab");
    let server = authority.issue(&HOSTS).server(None);
    let (plain, tls) = (tunnel(Layers::Tcp, broker), tunnel(Layers::Tls(server.clone()), broker));
    let (web, secure) = (tunnel(Layers::Web(None), broker), tunnel(Layers::Web(Some(server)), broker));
    for (tunnel, right, wrong) in [
        (&plain, "mqtt", &["mqtts", "ws"][..]),
        (&tls, "mqtts", &["mqtt", "ws", "wss"]),
        (&web, "ws", &["mqtts", "wss"]),
        (&secure, "wss", &["ws"]),
    ] {
        for scheme in wrong {
            // A server that receives TLS or WebSocket and knows neither may close the connection without an answer.
            let path = if right.starts_with("ws") { "/mqtt" } else { "" };
            let told = match (right, *scheme) {
                ("ws", "mqtts") => vec![url("ws", tunnel) + path, url("mqtt", tunnel)],
                // The layer below TLS is not visible.
                ("mqtts", "ws") => vec![url("wss", tunnel) + "/mqtt"],
                _ => vec![url(right, tunnel) + path],
            };
            let address = url(scheme, tunnel);
            let error = error_of(&address, &authority).await;
            let text = error_chain(&error);
            assert!(matches!(error, ConnectError::OtherProtocol { .. }), "{address}: {error:?}");
            assert!(!error.may_pass() && text.starts_with(&address), "{address}: {text}");
            assert!(told.iter().any(|url| text.ends_with(&format!("; try {url}"))), "{address}: {text}");
        }
    }
    // A server that closes the connection without an answer may speak either protocol.
    for (address, right) in
        [(url("mqtt", &web), url("ws", &web)), (url("mqtts", &secure), url("wss", &secure))]
    {
        let text = error_chain(&error_of(&address, &authority).await);
        assert!(text.contains(&format!("{right}/mqtt")), "{address}: {text}");
    }
    // TLS is below both: only TLS itself is visible.
    let text = error_chain(&error_of(&url("mqtt", &secure), &authority).await);
    assert!(text.ends_with(&format!("answers by TLS; try {}", url("mqtts", &secure))), "{text}");
    let missing = error_chain(&error_of("unix:/no/such/socket", &authority).await);
    assert!(missing.contains("unix:/no/such/socket: No such file"), "{missing}");
}

/// Starts a server that answers every request with these bytes, and closes the connection.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut sent = [0; 4096];
            let _ = stream.read(&mut sent).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    format!("127.0.0.1:{port}")
}

#[tokio::test]
async fn answering_protocol_is_recognized_by_its_first_bytes() {
    let authority = Authority::new("lab");
    let http = answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let mqtt = answering(&[0x20, 2, 0, 1]).await;
    let closed = answering(b"").await;
    for (url, told) in [
        (format!("mqtt://{http}"), format!("answers by HTTP; try ws://{http}/mqtt")),
        (format!("mqtts://{http}"), format!("answers by HTTP without TLS; try ws://{http}/mqtt")),
        (format!("wss://{http}/a"), format!("answers by HTTP without TLS; try ws://{http}/a")),
        (format!("ws://{http}"), "it answers with HTTP 400 Bad Request instead of WebSocket".to_owned()),
        (format!("mqtts://{mqtt}"), format!("answers by MQTT without TLS; try mqtt://{mqtt}")),
        (format!("ws://{mqtt}"), format!("answers by MQTT without WebSocket; try mqtt://{mqtt}")),
        (format!("mqtt://{closed}"), format!("try mqtts://{closed} or ws://{closed}/mqtt")),
    ] {
        let text = error_chain(&error_of(&url, &authority).await);
        assert!(text.contains(&url) && text.contains(&told), "{url}: {text}");
    }
}

#[tokio::test]
async fn error_of_an_unresolved_host_names_it() {
    let error = error_of("mqtt://no-such-host.invalid", &Authority::new("lab")).await;
    let text = error_chain(&error);
    assert!(text.starts_with("cannot find the host \"no-such-host.invalid\": "), "{text}");
    assert!(error.may_pass(), "a name may be known later");
}

#[tokio::test]
async fn certificate_errors_name_their_cause() {
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

/// Starts a server that closes this many connections after the first packet, and forwards later ones to the broker.
async fn closing(connections: usize, broker: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("mqtt://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        for _ in 0..connections {
            let (mut client, _) = listener.accept().await.expect("a client");
            // Unread bytes would cause a reset.
            let _ = client.read(&mut [0; 1_024]).await;
        }
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut server = TcpStream::connect(broker).await.expect("the broker");
        let _ = copy_bidirectional(&mut client, &mut server).await;
    });
    url
}

/// A broker that is shutting down closes connections without an answer, and so do servers of other protocols.
#[tokio::test]
async fn patient_client_retries_when_its_first_connection_is_closed() {
    let (_broker, broker) = broker().await;
    let builder = |url: &str| Client::builder(url.parse().expect("an address"));
    let client = builder(&closing(2, broker).await).patient().connect().await.expect("a client");
    let online = client.status().wait_for(|status| matches!(status, Status::Online(_))).await.is_ok();
    assert!(online, "{:?}", *client.status().borrow());
    for (connections, patient) in [(1, false), (100, true)] {
        let url = closing(connections, broker).await;
        let builder = builder(&url);
        let builder = if patient { builder.patient() } else { builder };
        let error = builder.connect().await.expect_err("closed");
        assert!(matches!(error, ConnectError::Closed { .. }) && !error.may_pass(), "{error:?}");
    }
}
