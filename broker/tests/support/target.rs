//! The broker under test: our own, one per test, or the one that `RANTAI_TEST_BROKER` names.

use std::net::ToSocketAddrs;
use std::time::Duration;

use rantai_broker::{Broker, Config};
use rantai_testing::{Place, Transport};

use super::{Client, Connack, Connect, Version, listen, unique};

/// A broker to test; an embedded one ends when this is dropped.
pub(crate) struct Target {
    place: Place,
    broker: Option<Broker>,
}

/// A broker of somebody else listens by the transport under test.
fn external() -> Option<Place> {
    let name = std::env::var("RANTAI_TEST_BROKER").ok()?;
    let mut found =
        name.to_socket_addrs().unwrap_or_else(|error| panic!("RANTAI_TEST_BROKER={name}: {error}"));
    Some(Place::new(Transport::chosen(), found.next().expect("a name that resolves has an address")))
}

async fn embedded(config: Config) -> Target {
    let (broker, place) = listen::start(config).await.expect("a broker starts on a free port");
    Target { place, broker: Some(broker) }
}

/// Whether the broker under test is somebody else's.
pub(crate) fn is_external() -> bool {
    external().is_some()
}

/// A broker with its default settings.
pub(crate) async fn target() -> Target {
    match external() {
        Some(place) => Target { place, broker: None },
        None => embedded(Config::on_free_port()).await,
    }
}

/// A broker with settings of this test's own. `None`, with a report, if the broker is not ours to set.
pub(crate) async fn target_with(change: impl FnOnce(&mut Config)) -> Option<Target> {
    if is_external() {
        let test = std::thread::current();
        eprintln!(
            "SKIPPED {}: it needs settings of its own and RANTAI_TEST_BROKER is set",
            test.name().unwrap_or("a test")
        );
        return None;
    }
    let mut config = Config::on_free_port();
    change(&mut config);
    Some(embedded(config).await)
}

impl Target {
    /// Where it listens.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// A connection on which nothing has been said yet, to be read as `version`.
    pub(crate) async fn open(&self, version: Version) -> Client {
        Client::open(self.place.clone(), version).await
    }

    /// A connected client with a clean session.
    pub(crate) async fn client(&self, version: Version) -> Client {
        self.connect(Connect::new(version)).await
    }

    /// A connected client; a refusal is a panic.
    pub(crate) async fn connect(&self, connect: Connect) -> Client {
        let (client, connack) = self.try_connect(connect).await;
        assert_eq!(connack.code, 0, "the broker refused a connection");
        client
    }

    /// A connection and what the broker says to this CONNECT.
    pub(crate) async fn try_connect(&self, connect: Connect) -> (Client, Connack) {
        let mut client = self.open(connect.version).await;
        let connack = client.present(connect).await;
        (client, connack)
    }

    /// Stops an embedded broker in order; with an external one there is nothing to do.
    pub(crate) async fn shutdown(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
    }
}

/// A topic that no other test has, with `level` as its last level.
pub(crate) fn unique_topic(level: &str) -> String {
    format!("rantai-test/{}/{level}", unique())
}

/// Lets time pass, for tests whose subject is that time has passed. Never to wait until something is
/// ready: that has an event.
pub(crate) async fn lapse(time: Duration) {
    tokio::time::sleep(time).await;
}
