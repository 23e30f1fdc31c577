//! Arbitrary bytes to a TLS listener: no panic, no connection that stays open, no unbounded memory. Seeded run of the
//! fuzz target `tls`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rantai_broker::{ClientCertificates, Config, Limits, Listener, TlsSettings, UserFrom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::process::{Target, serve_if_asked};
use crate::random::Random;
use crate::tls_script::TlsClients;

const ATTACKERS: u64 = 4;
/// Maximum growth of memory: far more than these connections take, and far less than an endless message in each would.
const MEMORY: usize = 32 << 20;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hard-tls-{name}.pem"))
}

fn config() -> Config {
    let tls = TlsSettings {
        certificate: file("certificate"),
        key: file("key"),
        additional_certificates: Vec::new(),
        client_ca: None,
        client_certificates: ClientCertificates::None,
        user_from: UserFrom::Cn,
        revocations: None,
    };
    let listener = Listener { tls: Some(tls), ..Listener::tcp(([127, 0, 0, 1], 0).into()) };
    let limits = Limits { connect_timeout: Duration::from_millis(500), ..Limits::default() };
    Config { listen: Vec::new(), listeners: vec![listener], limits, ..Config::default() }
}

#[test]
fn arbitrary_bytes_to_a_tls_listener_affect_only_their_connection() {
    serve_if_asked(config);
    if std::env::var_os("RANTAI_TEST_BROKER").is_some() {
        eprintln!("not against another broker: it has none of the certificates made here");
        return;
    }
    let seed = Random::seed_from("RANTAI_TLS_SEED");
    let wanted = std::env::var("RANTAI_TLS_SCRIPTS")
        .map_or(600, |text| text.parse().expect("RANTAI_TLS_SCRIPTS is a number"));
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(file("certificate"), made.cert.pem()).expect("written");
    std::fs::write(file("key"), made.signing_key.serialize_pem()).expect("written");
    let certificate = CertificateDer::from_pem_file(file("certificate")).expect("a certificate");

    let name = "tls_bytes::arbitrary_bytes_to_a_tls_listener_affect_only_their_connection";
    let target = Target::start(name);
    let clients = TlsClients::new(target.place().address(), certificate);
    clients.behave().unwrap_or_else(|what| panic!("{what}"));
    let (files, memory) = (target.open_files(), target.memory());
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for index in 0..ATTACKERS {
            let (done, clients) = (&done, &clients);
            scope.spawn(move || {
                let mut random = Random::new(seed ^ index << 56);
                while done.fetch_add(1, Ordering::Relaxed) < wanted {
                    let script = script(&mut random);
                    clients.attack(&script).unwrap_or_else(|what| panic!("{what}: {script:?}"));
                    if random.percent(5) {
                        clients.behave().unwrap_or_else(|what| panic!("{what}, after {script:?}"));
                    }
                }
            });
        }
    });
    clients.behave().unwrap_or_else(|what| panic!("afterwards {what}"));
    target.await_open_files(files);
    if let (Some((before, _)), Some((_, most))) = (memory, target.memory()) {
        let grown = most.saturating_sub(before);
        eprintln!("memory grew by {} KiB at most", grown >> 10);
        assert!(grown < MEMORY, "memory grew by {grown} bytes");
    }
    target.stop();
}

fn script(random: &mut Random) -> Vec<u8> {
    let mut script = vec![0; 2 + random.pick(&[0, 1, 2, 3, 7, 40, 200, 2_000])];
    script.fill_with(|| random.next() as u8);
    // Most clients close first: waiting for the broker to close takes half a second per client.
    if random.percent(85) {
        script[0] |= 0x80;
    }
    script
}
