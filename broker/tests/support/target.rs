//! Broker under test: Rantai's, one per test, or the one in `RANTAI_TEST_BROKER`.

use std::net::ToSocketAddrs;
use std::time::Duration;

use rantai_broker::{Broker, Config};
use rantai_testing::{Place, Transport};

use super::{Client, Connack, Connect, Version, listen, unique};

/// Broker under test. An embedded one ends on drop.
pub(crate) struct Target {
    place: Place,
    broker: Option<Broker>,
}

/// Returns the place of an external broker, which listens with the transport under test.
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

/// Returns whether the broker under test is an external one.
pub(crate) fn is_external() -> bool {
    external().is_some()
}

/// Returns a broker with its default settings.
pub(crate) async fn target() -> Target {
    match external() {
        Some(place) => Target { place, broker: None },
        None => embedded(Config::on_free_port()).await,
    }
}

/// Returns a broker with settings of this test. `None`, with a report, if the broker is external and cannot be
/// configured.
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
    /// Returns its place.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Opens a connection without sending CONNECT. Packets are parsed as those of `version`.
    pub(crate) async fn open(&self, version: Version) -> Client {
        Client::open(self.place.clone(), version).await
    }

    /// Connects a client with a clean session.
    pub(crate) async fn client(&self, version: Version) -> Client {
        self.connect(Connect::new(version)).await
    }

    /// Connects a client. Panics if it is refused.
    pub(crate) async fn connect(&self, connect: Connect) -> Client {
        let (client, connack) = self.try_connect(connect).await;
        assert_eq!(connack.code, 0, "the broker refused a connection");
        client
    }

    /// Connects, and returns the client and its CONNACK.
    pub(crate) async fn try_connect(&self, connect: Connect) -> (Client, Connack) {
        let mut client = self.open(connect.version).await;
        let connack = client.present(connect).await;
        (client, connack)
    }

    /// Stops an embedded broker gracefully; does nothing for an external one.
    pub(crate) async fn shutdown(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
    }
}

/// Returns a topic that no other test uses, with `level` as its last level.
pub(crate) fn unique_topic(level: &str) -> String {
    format!("rantai-test/{}/{level}", unique())
}

/// Waits for a time, for tests about the passing of time. To wait until something is ready, use its event instead.
pub(crate) async fn lapse(time: Duration) {
    tokio::time::sleep(time).await;
}
