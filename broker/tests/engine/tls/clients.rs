//! Login by client certificates.

use rantai_broker::{Broker, ClientCertificates, Config};
use rantai_testing::{Connect, Packet, pingreq};

use super::site::{Issued, Site};
use crate::Own;
use crate::support::{self, Version};
use Version::V5;

async fn start(site: &Site, which: ClientCertificates, users: &[&str]) -> Own {
    Own::start(|config| {
        config.listeners = vec![site.listener(which)];
        config.users = users.iter().map(|name| support::user(name, "secret")).collect();
        config.anonymous = users.is_empty();
    })
    .await
}

/// Connects with this certificate, and returns the code of the CONNACK.
fn connack_code(
    site: &Site,
    own: &Own,
    certificate: Option<&Issued>,
    connect: &Connect,
) -> std::io::Result<u8> {
    site.connect(own.broker.addresses()[1], "127.0.0.1", certificate).present(connect)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_certificate_is_a_login_without_a_password() {
    let site = Site::new();
    let own = start(&site, ClientCertificates::Required, &["ada", "bob"]).await;
    let ada = site.issue("ada", 2);
    let present = |connect: Connect| connack_code(&site, &own, Some(&ada), &connect).expect("an answer");
    assert_eq!(present(Connect::new(V5)), 0);
    assert_eq!(present(Connect::new(V5).user("ada").password("not looked at")), 0);
    assert_eq!(present(Connect::new(V5).user("bob").password("secret")), 0x87, "another user");
    let eve = site.issue("eve", 3);
    assert_eq!(
        connack_code(&site, &own, Some(&eve), &Connect::new(V5)).expect("an answer"),
        0x87,
        "no such user"
    );
    let local = site.issue("$local", 4);
    assert_eq!(connack_code(&site, &own, Some(&local), &Connect::new(V5)).expect("an answer"), 0x87);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_required_certificate_that_is_missing_or_of_others_is_refused_in_the_handshake() {
    let site = Site::new();
    let own = start(&site, ClientCertificates::Required, &["ada"]).await;
    let connect = Connect::new(V5).user("ada").password("secret");
    connack_code(&site, &own, None, &connect).expect_err("none");
    let foreign = Site::new().issue("ada", 2);
    connack_code(&site, &own, Some(&foreign), &connect).expect_err("of another authority");
    // The client may read the alert before the refusal is counted.
    while own.broker.counts().refused_tls < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!((own.broker.counts().refused_tls, own.broker.counts().tls_handshakes), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn without_an_optional_certificate_the_password_is_checked() {
    let site = Site::new();
    let own = start(&site, ClientCertificates::Wanted, &["ada"]).await;
    let with = |password| Connect::new(V5).user("ada").password(password);
    assert_eq!(connack_code(&site, &own, None, &with("secret")).expect("an answer"), 0);
    assert_eq!(connack_code(&site, &own, None, &with("wrong")).expect("an answer"), 0x86);
    assert_eq!(
        connack_code(&site, &own, Some(&site.issue("ada", 2)), &Connect::new(V5)).expect("an answer"),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_revoked_certificate_ends_only_its_own_connection() {
    let site = Site::new();
    let own = start(&site, ClientCertificates::Required, &["ada", "bob"]).await;
    let (ada, bob) = (site.issue("ada", 2), site.issue("bob", 3));
    let address = own.broker.addresses()[1];
    let mut lost = site.connect(address, "127.0.0.1", Some(&ada));
    let mut kept = site.connect(address, "127.0.0.1", Some(&bob));
    assert_eq!(lost.present(&Connect::new(V5)).expect("let in"), 0);
    assert_eq!(kept.present(&Connect::new(V5)).expect("let in"), 0);

    site.revoke(&[2]);
    // At most one: the broker may have read the list already, as it does so periodically.
    let reloaded = own.broker.reloader().expect("our own engine").reload().await.expect("certificates");
    assert!(reloaded.connections <= 1 && reloaded.certificates <= 1, "{reloaded:?}");
    assert!(matches!(lost.receive(V5), Ok(Packet::Disconnect { code: 0x87, .. })));
    assert!(lost.is_ended());
    connack_code(&site, &own, Some(&ada), &Connect::new(V5)).expect_err("revoked");
    kept.send(&pingreq()).expect("connected");
    assert!(matches!(kept.receive(V5), Ok(Packet::Pingresp)));
}

/// Such a listener is not open to strangers, because every client needs a certificate of the CA.
#[tokio::test]
async fn a_listener_beyond_loopback_needs_users_or_required_certificates() {
    let site = Site::new();
    for (which, is_let) in [(ClientCertificates::Wanted, false), (ClientCertificates::Required, true)] {
        let mut listener = site.listener(which);
        listener.endpoint = rantai_broker::Endpoint::Tcp(([0, 0, 0, 0], 0).into());
        let config = Config { listeners: vec![listener], ..Config::on_free_port() };
        assert_eq!(Broker::start(config).await.is_ok(), is_let, "{which:?}");
    }
}
