//! MQTT over TLS and unix sockets: messages, invalid bytes, slow handshakes, and renewed certificates.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rantai_broker::{ClientCertificates, Config, Endpoint, Listener, ReloadError, StartError};
use rantai_testing::{Connect, Packet, Publish, pingreq, subscribe};

use super::site::{Site, open};
use crate::Own;
use crate::support::Version;
use Version::{V3, V5};

async fn start(site: &Site) -> Own {
    Own::start(|config| config.listeners = vec![site.listener(ClientCertificates::None)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn messages_of_any_size_pass_in_both_versions() {
    let site = Site::new();
    let own = start(&site).await;
    for version in [V3, V5] {
        let mut client = site.connect(own.broker.addresses()[1], "127.0.0.1", None);
        assert_eq!(client.present(&Connect::new(version)).expect("let in"), 0);
        client.send(&subscribe(version, 1, &[("t", 1)])).expect("sent");
        assert!(matches!(client.receive(version), Ok(Packet::Suback(_))));
        for length in [0, 1, 5_000, 16_384, 300_000] {
            let payload = vec![b'x'; length];
            client.send(&Publish::new("t", &payload).encode(version)).expect("sent");
            let Ok(Packet::Publish(got)) = client.receive(version) else { panic!("a message of {length}") };
            assert_eq!(got.payload.len(), length);
        }
    }
    assert_eq!(own.broker.counts().tls_handshakes, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_new_certificate_is_used_without_dropping_connections_and_a_broken_one_is_not() {
    let site = Site::new();
    let own = start(&site).await;
    let address = own.broker.addresses()[1];
    let mut client = site.connect(address, "127.0.0.1", None);
    assert_eq!(client.present(&Connect::new(V5)).expect("let in"), 0);
    let reloader = own.broker.reloader().expect("our own engine");

    site.renew(&["127.0.0.1", "new.local"]);
    // At most one: the broker may have read the files already, as it does so periodically.
    assert!(reloader.reload().await.expect("new files").certificates <= 1);
    assert_eq!(site.connect(address, "new.local", None).present(&Connect::new(V5)).expect("let in"), 0);
    site.write("server.pem", "no certificate\n");
    let error = reloader.reload().await.expect_err("a broken file");
    let ReloadError::Certificates(cause) = error else { panic!("{error:?}") };
    let cause = cause.to_string();
    assert!(cause.contains("no certificate in") && cause.contains("server.pem"), "{cause}");
    assert_eq!(site.connect(address, "new.local", None).present(&Connect::new(V5)).expect("let in"), 0);

    client.send(&pingreq()).expect("connected");
    assert!(matches!(client.receive(V5), Ok(Packet::Pingresp)));
}

/// Once, rules were applied without the certificates that belong to them, and the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rules_and_certificates_are_reloaded_together_or_not_at_all() {
    let site = Site::new();
    let write = |users: &str| {
        let listener =
            "protocol = 'tls'\naddress = '127.0.0.1:0'\ncertificate = 'server.pem'\nkey = 'server.key'";
        site.write("broker.toml", &format!("anonymous = true\n{users}[[listeners]]\n{listener}\n"));
    };
    let ada = "[[users]]\nname = 'ada'\n";
    write(ada);
    let config = Config::load(site.path("broker.toml")).expect("a configuration");
    let own = Own::start(move |other| *other = config).await;
    let (address, reloader) = (own.broker.addresses()[0], own.broker.reloader().expect("our own engine"));
    // Eve is a user from the reload on: no other client may then use her client ids.
    let as_eve = |name| {
        let connect = Connect::new(V5).id("eve--1");
        site.connect(address, name, None).present(&connect)
    };

    site.write("server.pem", "no certificate\n");
    write(&format!("{ada}[[users]]\nname = 'eve'\n"));
    let error = reloader.reload().await.expect_err("a broken certificate");
    assert!(matches!(error, ReloadError::Certificates(_)), "{error}");
    assert_eq!(as_eve("127.0.0.1").expect("an answer"), 0, "the rules of before");

    site.renew(&["127.0.0.1", "new.local"]);
    write("[[users]]\n");
    let error = reloader.reload().await.expect_err("a broken file");
    assert!(matches!(error, ReloadError::Config(_)), "{error}");
    as_eve("new.local").expect_err("the certificate of before");

    write(&format!("{ada}[[users]]\nname = 'eve'\n"));
    let changed = reloader.reload().await.expect("both");
    assert_eq!((changed.users, changed.new_users), (2, 1));
    assert_eq!(as_eve("new.local").expect("an answer"), 0x85, "the new rules");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn mqtt_without_tls_and_tls_without_a_listener_for_it_are_refused() {
    let site = Site::new();
    let own = start(&site).await;
    let mut plain = open(own.broker.addresses()[1]);
    plain.write_all(&Connect::new(V5).encode()).expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.first().is_none_or(|first| *first == 0x15), "an alert or nothing: {answer:?}");
    assert_eq!(own.broker.counts().refused_tls, 1);

    let mut client = site.connect(own.broker.addresses()[0], "127.0.0.1", None);
    client.present(&Connect::new(V5)).expect_err("no TLS there");
    assert_eq!(own.broker.counts().refused_connections, 1);
}

/// Once, bytes that a layer above the socket discards were not counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn bytes_after_a_refused_handshake_are_read_up_to_a_maximum() {
    /// Includes the bytes in the system's buffers.
    const MAX_READ_BYTES: usize = 64 << 20;
    let site = Site::new();
    let own = start(&site).await;
    for address in own.broker.addresses() {
        let mut client = open(*address);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        let (piece, mut sent) = (vec![b'x'; 64 << 10], 0);
        while sent < MAX_READ_BYTES && client.write_all(&piece).is_ok() {
            sent += piece.len();
        }
        assert!(sent < MAX_READ_BYTES, "{sent} bytes were taken");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_unfinished_tls_handshake_has_the_connect_timeout_and_counts_for_its_address() {
    let site = Site::new();
    let own = Own::start(|config| {
        config.listeners = vec![site.listener(ClientCertificates::None)];
        config.limits.connect_timeout = Duration::from_secs(1);
        config.limits.handshakes_per_address = 1;
    })
    .await;
    let mut first = open(own.broker.addresses()[1]);
    first.write_all(&[0x16, 3, 1]).expect("the beginning of a handshake");
    let mut second = open(own.broker.addresses()[1]);
    second.write_all(&[0x16, 3, 1]).expect("the beginning of a handshake");
    let mut rest = Vec::new();
    let _ = first.read_to_end(&mut rest);
    assert_eq!(own.broker.counts().refused_per_address, 1, "the oldest gives way");
    let _ = second.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert_eq!(own.broker.counts().refused_connections, 1, "no CONNECT in time");
    assert_eq!(own.broker.counts().tls_handshakes, 0);
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_named_at_the_start() {
    let site = Site::new();
    let (_, key) = site.issue("ada", 2);
    site.write("server.key", &key.serialize_pem());
    let config = rantai_broker::Config {
        listeners: vec![site.listener(ClientCertificates::None)],
        ..rantai_broker::Config::on_free_port()
    };
    let error = rantai_broker::Broker::start(config).await.expect_err("another key");
    let StartError::Tls { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("server.key"), "{source}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_unix_socket_carries_mqtt_and_is_removed_at_the_end() {
    let site = Site::new();
    let path = site.path("mqtt.sock");
    let endpoint = Endpoint::Unix { path: path.clone(), mode: Some(0o600) };
    let own = Own::start(|config| {
        let tcp = Listener::tcp(config.listen[0]);
        config.listeners = vec![Listener { endpoint, ..tcp }];
    })
    .await;
    let mut client = UnixStream::connect(&path).expect("it accepts");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    client.write_all(&Connect::new(V3).encode()).expect("sent");
    let mut connack = [0; 4];
    client.read_exact(&mut connack).expect("an answer");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    own.broker.shutdown().await;
    // The accepting task ends asynchronously.
    while path.exists() {
        tokio::task::yield_now().await;
    }
}
