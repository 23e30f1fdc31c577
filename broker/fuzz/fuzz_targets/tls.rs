//! Fuzz target: a hostile TLS client whose behavior is derived from arbitrary bytes. An honest client must be answered
//! afterwards.
#![no_main]

#[path = "../../tests/hard/tls_script.rs"]
mod tls_script;

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rantai_broker::{Broker, ClientCertificates, Config, Limits, Listener, TlsSettings, UserFrom};
use tls_script::TlsClients;
use tokio::runtime::Runtime;

static BROKER: LazyLock<(Runtime, TlsClients)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let tls = TlsSettings {
        certificate,
        key,
        additional_certificates: Vec::new(),
        client_ca: None,
        client_certificates: ClientCertificates::None,
        user_from: UserFrom::Cn,
        revocations: None,
    };
    let listener = Listener { tls: Some(tls), ..Listener::tcp(([127, 0, 0, 1], 0).into()) };
    // A short timeout, because many clients wait for the broker to close the connection.
    let limits = Limits { connect_timeout: Duration::from_millis(20), ..Limits::default() };
    let config = Config { listen: Vec::new(), listeners: vec![listener], limits, ..Config::default() };
    let runtime = Runtime::new().expect("a runtime");
    let broker = runtime.block_on(Broker::start(config)).expect("a broker");
    let clients = TlsClients::new(broker.addresses()[0], made.cert.der().clone());
    // Leaked, because it is used until the process ends.
    std::mem::forget(broker);
    (runtime, clients)
});

fuzz_target!(|bytes: &[u8]| {
    let (_runtime, clients) = &*BROKER;
    clients.attack(bytes).unwrap_or_else(|what| panic!("{what}"));
    clients.behave().unwrap_or_else(|what| panic!("{what}"));
});
