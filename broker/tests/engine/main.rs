//! Behavior of this broker beyond the standards: full queues, limits and their counters, `caller`, restarts, and the
//! same engine on several threads.

#![allow(missing_docs, reason = "a test binary has no readers of documentation")]

#[path = "../support/mod.rs"]
mod support;

mod absent;
mod access;
mod access_reload;
mod addresses;
mod administration;
mod aliases;
mod answers;
mod bridges;
mod budgets;
mod caller;
mod disk;
mod grants;
mod growth;
mod guesses;
mod limits;
mod listeners;
mod local;
mod log;
mod log_lines;
mod logins;
mod mqtt31;
mod nagle;
mod progress;
mod queues;
mod reads;
mod restart;
mod shares;
mod slow;
mod stalled;
mod takeover;
mod thread;
mod threads;
mod tls;
mod turns;
mod unserved;
mod websocket;

use rantai_broker::{Broker, Config};
use support::{Client, Connect, Place, Version, listen};

/// Broker of one test, and its address.
struct Own {
    broker: Broker,
    place: Place,
}

impl Own {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::on_free_port();
        change(&mut config);
        let (broker, place) = listen::start(config).await.expect("a broker starts on a free port");
        Self { broker, place }
    }

    async fn open(&self, version: Version) -> Client {
        Client::open(self.place.clone(), version).await
    }

    async fn connect(&self, connect: Connect) -> Client {
        let (client, code) = self.try_connect(connect).await;
        assert_eq!(code, 0, "let in");
        client
    }

    async fn try_connect(&self, connect: Connect) -> (Client, u8) {
        let mut client = self.open(connect.version).await;
        let code = client.present(connect).await.code;
        (client, code)
    }

    async fn client(&self, version: Version) -> Client {
        self.connect(Connect::new(version)).await
    }
}
