//! Gateways with TLS, and clients of all kinds. The router behind them has one page.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use axum::routing::get;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::super::rest::read;
use super::super::tls::Named;
use super::super::users::Users;
use super::*;

mod messages;

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Authority, and a folder with the files of a gateway.
struct Site {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
    /// Serial number of the next certificate.
    issued: AtomicU64,
}

impl Site {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        let site = Self { authority, folder, issued: AtomicU64::new(1) };
        std::fs::write(site.path("ca.pem"), site.authority.pem()).expect("written");
        site.renew();
        site.revoke(None);
        site
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate of the gateway and its key; returns the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let (certificate, key) = self.issue();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).expect("written");
        std::fs::write(self.path("cert.pem"), certificate.pem()).expect("written");
        certificate.der().clone()
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(self.issued.fetch_add(1, Ordering::Relaxed)));
        (params.signed_by(&key, &self.authority).expect("a certificate"), key)
    }

    /// Writes a revocation list with the certificate of this serial number.
    fn revoke(&self, number: Option<u64>) {
        let revoked = |number| RevokedCertParams {
            serial_number: SerialNumber::from(number),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: number.map(revoked).into_iter().collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.authority).expect("a list");
        std::fs::write(self.path("crl.pem"), list.pem().expect("PEM")).expect("written");
    }

    fn tls(&self, with_client_ca: bool) -> Arc<Tls> {
        let (certificate, key, ca) = (self.path("cert.pem"), self.path("key.pem"), self.path("ca.pem"));
        let list = self.path("crl.pem");
        let (ca, list) = (with_client_ca.then_some(&*ca), with_client_ca.then_some(&*list));
        let named =
            Named { certificate: Some(&certificate), key: Some(&key), client_ca: ca, revocations: list };
        Tls::open(named.files().expect("all files").expect("TLS")).expect("a certificate")
    }

    fn client(&self, alpn: &[&str], identity: Option<(rcgen::Certificate, KeyPair)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(rantai_tls::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).expect("an identity")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

/// Gateway that listens.
struct Listening {
    address: SocketAddr,
    guard: Arc<Guard>,
    _stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Listening {
    async fn new(tls: Arc<Tls>, limits: Limits) -> Self {
        let following = tokio::spawn(tls.clone().follow());
        let mut listening = Self::serve(Some(tls), limits).await;
        listening.tasks.push(following);
        listening
    }

    async fn without_tls(limits: Limits) -> Self {
        Self::serve(None, limits).await
    }

    async fn serve(tls: Option<Arc<Tls>>, limits: Limits) -> Self {
        let (listener, address) = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("bound");
        let guard = Arc::new(Guard::new(Users::new(&[], None).expect("none"), &[], 0));
        let counting = guard.clone();
        let upload = async move |body: Body| match read(body, &limits, &counting.counts).await {
            Ok(body) => body.len().to_string().into_response(),
            Err(refused) => refused,
        };
        let router = Router::new().route("/", get(async || "served").post(upload));
        let stop = watch::Sender::new(false);
        let serving = Serving::new(router, guard.clone(), limits, tls);
        let tasks = vec![tokio::spawn(serving.serve(listener, stop.subscribe()))];
        Self { address, guard, _stop: stop, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    async fn secured(&self, client: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
        client.connect("localhost".try_into().expect("a name"), self.connect().await).await
    }

    fn count(&self, of: impl Fn(&Counts) -> &std::sync::atomic::AtomicU64) -> u64 {
        of(&self.guard.counts).load(Ordering::Relaxed)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Sends a request, and returns the response up to the end of its body.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"served") {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Returns all bytes until the gateway closes the connection; empty if it resets the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
    String::from_utf8_lossy(&rest).into_owned()
}

fn certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().expect("certificates")[0].clone().into_owned()
}

#[tokio::test]
async fn requests_by_https_are_answered_and_http_2_is_not_agreed_on() {
    let site = Site::new();
    let gateway = Listening::new(site.tls(false), Limits::default()).await;
    let mut stream = gateway.secured(&site.client(&["h2", "http/1.1"], None)).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    for _ in 0..2 {
        assert!(ask(&mut stream).await.expect("answered").starts_with("HTTP/1.1 200"));
    }
    let mut silent_on_alpn = gateway.secured(&site.client(&[], None)).await.expect("a handshake");
    assert!(ask(&mut silent_on_alpn).await.expect("answered").ends_with("served"));
    gateway.secured(&site.client(&["h2"], None)).await.expect_err("no protocol in common");
}

#[tokio::test]
async fn a_request_by_http_is_told_to_use_https() {
    let site = Site::new();
    let gateway = Listening::new(site.tls(false), Limits::default()).await;
    let mut stream = gateway.connect().await;
    stream.write_all(b"GET /objects HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer:?}");
    let mut noise = gateway.connect().await;
    noise.write_all(&[0; 64]).await.expect("sent");
    assert!(!rest(noise).await.contains("HTTP"), "what is no HTTP either is not answered");
    assert_eq!(gateway.count(|counts| &counts.handshakes), 2);
}

#[tokio::test]
async fn silent_tls_handshake_times_out_within_its_own_places() {
    let site = Site::new();
    let most = NonZeroUsize::new(2);
    let patient = Limits { handshakes_per_address: most, handshake_ms: 600_000, ..Limits::default() };
    let gateway = Listening::new(site.tls(false), patient).await;
    let client = site.client(&["http/1.1"], None);
    let mut done = gateway.secured(&client).await.expect("a handshake");
    // The handshake has ended on both sides: it holds neither of the two places.
    assert!(ask(&mut done).await.expect("answered").ends_with("served"));
    let (one, two) = (gateway.connect().await, gateway.connect().await);
    assert_eq!(rest(gateway.connect().await).await, "", "a third one is closed");
    assert_eq!(gateway.count(|counts| &counts.crowded_addresses), 1);
    assert!(ask(&mut done).await.expect("answered").ends_with("served"));
    drop((one, two));

    let hasty = Limits { handshake_ms: 50, ..Limits::default() };
    let gateway = Listening::new(site.tls(false), hasty).await;
    assert_eq!(rest(gateway.connect().await).await, "");
    assert_eq!(gateway.count(|counts| &counts.handshakes), 1);
}

#[tokio::test]
async fn connections_of_one_address_have_a_limit() {
    let site = Site::new();
    let limits = Limits { connections_per_address: NonZeroUsize::new(2), ..Limits::default() };
    let gateway = Listening::new(site.tls(false), limits).await;
    let client = site.client(&["http/1.1"], None);
    let mut first = gateway.secured(&client).await.expect("a handshake");
    let second = gateway.secured(&client).await.expect("a handshake");
    gateway.secured(&client).await.expect_err("one too many");
    assert!(ask(&mut first).await.expect("answered").ends_with("served"));
    drop(second);
    let again = async {
        while gateway.secured(&client).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("a place is free again");
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_open_connections_go_on() {
    let site = Site::new();
    let gateway = Listening::new(site.tls(false), Limits::default()).await;
    let client = site.client(&["http/1.1"], None);
    let mut open = gateway.secured(&client).await.expect("a handshake");
    let earlier = certificate(&open);
    let renewed = site.renew();
    let served = async {
        loop {
            let now = certificate(&gateway.secured(&client).await.expect("one of both"));
            if now != earlier {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(timeout(PATIENCE, served).await.expect("read again"), renewed);
    assert!(ask(&mut open).await.expect("answered").ends_with("served"), "an open connection goes on");
}

#[tokio::test]
async fn a_damaged_certificate_does_not_replace_the_one_that_is_served() {
    let site = Site::new();
    let tls = site.tls(false);
    assert!(!tls.clone().read_again().await.expect("as they were"), "nothing has changed");
    std::fs::write(site.path("cert.pem"), "no certificate").expect("written");
    let error = tls.clone().read_again().await.expect_err("no certificate");
    assert!(error.to_string().contains("cert.pem"), "{error}");
    let gateway = Listening::new(tls, Limits::default()).await;
    let mut stream = gateway.secured(&site.client(&["http/1.1"], None)).await.expect("by the earlier one");
    assert!(ask(&mut stream).await.expect("answered").ends_with("served"));
}

#[tokio::test]
async fn only_clients_of_the_authority_are_served_where_there_is_one() {
    let site = Site::new();
    let gateway = Listening::new(site.tls(true), Limits::default()).await;
    let known = site.client(&["http/1.1"], Some(site.issue()));
    let mut stream = gateway.secured(&known).await.expect("a handshake");
    assert!(ask(&mut stream).await.expect("answered").ends_with("served"));
    for identity in [None, Some(Site::new().issue())] {
        let stranger = site.client(&["http/1.1"], identity);
        // TLS 1.3: the client has completed its side of the handshake before it learns of the refusal.
        let answered = match gateway.secured(&stranger).await {
            Ok(mut stream) => ask(&mut stream).await,
            Err(error) => Err(error),
        };
        assert!(answered.as_ref().map_or(true, String::is_empty), "{answered:?}");
    }
}

#[tokio::test]
async fn a_client_whose_certificate_is_revoked_loses_its_connection_and_others_do_not() {
    let site = Site::new();
    // The connection must not be closed because it is idle.
    let limits = Limits { head_ms: 600_000, ..Limits::default() };
    let gateway = Listening::new(site.tls(true), limits).await;
    let (one, other) = (site.issue(), site.issue());
    let (lost, kept) = (site.client(&["http/1.1"], Some(one)), site.client(&["http/1.1"], Some(other)));
    let mut open = gateway.secured(&lost).await.expect("a handshake");
    let mut others = gateway.secured(&kept).await.expect("a handshake");
    for stream in [&mut open, &mut others] {
        assert!(ask(stream).await.expect("answered").ends_with("served"));
    }
    // The gateway's own certificate has the serial number 1.
    site.revoke(Some(2));
    let mut rest = Vec::new();
    timeout(PATIENCE, open.read_to_end(&mut rest)).await.expect("it is closed").expect("in order");
    assert!(rest.is_empty());
    let again = match gateway.secured(&lost).await {
        Ok(mut stream) => ask(&mut stream).await,
        Err(error) => Err(error),
    };
    assert!(again.as_ref().map_or(true, String::is_empty), "{again:?}");
    assert!(ask(&mut others).await.expect("answered").ends_with("served"));
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let (site, other) = (Site::new(), Site::new());
    let config = |certificate: &Path, key: &Path, ca: Option<&Path>| {
        let named =
            Named { certificate: Some(certificate), key: Some(key), client_ca: ca, revocations: None };
        Tls::open(named.files().expect("all").expect("TLS")).map(drop).map_err(|error| with_sources(&error))
    };
    let (certificate, key) = (site.path("cert.pem"), site.path("key.pem"));
    assert_eq!(config(&certificate, &key, None), Ok(()));
    let strange = config(&certificate, &other.path("key.pem"), None).expect_err("the key of another one");
    assert!(strange.contains("cert.pem") && strange.contains("key.pem"), "{strange}");
    let missing = config(&site.path("none.pem"), &key, None).expect_err("no file");
    assert!(missing.contains("none.pem"), "{missing}");
    let no_authority = config(&certificate, &key, Some(&key)).expect_err("no certificate");
    assert!(no_authority.contains("no certificate in"), "{no_authority}");
    for [certificate, key, client_ca, revocations] in [
        [true, false, false, false],
        [false, true, false, false],
        [false, false, true, false],
        [true, true, false, true],
    ] {
        let path = |is: bool| is.then_some(Path::new("x.pem"));
        let named = Named {
            certificate: path(certificate),
            key: path(key),
            client_ca: path(client_ca),
            revocations: path(revocations),
        };
        assert!(named.files().is_err(), "{named:?}");
    }
}
