//! Reloads under load: users, certificates and limits change during calls, and clients that keep their rights are not
//! affected.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rantai_client::Client;
use rantai_client::session::{Address, Status, TlsFiles};
use rantai_client::wire::name::ClientId;
use rantai_testing::Authority;
use rustix::process::Signal;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::process::{Done, PATIENCE, Server, finish, rantai};
use super::users::users;

/// Number of clients, maximum number of calls in flight of each, and pause between two of them: 1,000 calls per second.
const CLIENTS: usize = 10;
const PLACES: usize = 5;
const PAUSE: Duration = Duration::from_millis(50);
/// Number of reloads, and number of calls between two of them.
const RELOADS: usize = 8;
const CALLS: usize = 1_000;
/// Number of the reload that removes the user `guest`.
const WITHOUT_GUEST: usize = 4;

struct Site {
    authority: Authority,
    server: Server,
    port: u16,
}

/// Writes the configuration of a round: each has another user, other limits, and another certificate.
fn write(authority: &Authority, round: usize) {
    let folder = authority.folder();
    let issued = authority.issue(&["localhost"]);
    fs::rename(&issued.key, folder.join("server.key")).expect("renamed");
    fs::rename(&issued.certificate, folder.join("server.pem")).expect("renamed");
    let others = format!("extra-{round}");
    let mut all = vec![
        ("root", "roles = ['admin']"),
        ("pi", "roles = ['node']"),
        ("ada", "roles = ['caller']"),
        (others.as_str(), "roles = ['observer']"),
    ];
    if round < WITHOUT_GUEST {
        all.push(("guest", "roles = ['caller']"));
    }
    let text = format!(
        "{}[[listeners]]\nprotocol = 'tls'\naddress = '127.0.0.1:0'\ncertificate = 'server.pem'\n\
         key = 'server.key'\n[limits]\nsubscriptions = {}\npacket_bytes = {}\n",
        users(&all),
        1_000 + round,
        (1 << 20) + round
    );
    fs::write(folder.join("broker.toml"), text).expect("written");
}

impl Site {
    fn start() -> Self {
        let authority = Authority::new("lab");
        write(&authority, 0);
        let mut command = rantai();
        let mut server =
            Server::spawn(command.args(["broker", "--config"]).arg(authority.folder().join("broker.toml")));
        let line = server.wait_for("listening on ");
        let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
        Self { authority, server, port }
    }

    fn url(&self, user: &str) -> String {
        format!("mqtts://{user}:{user}@localhost:{}", self.port)
    }

    fn command(&self, user: &str, arguments: &[&str]) -> std::process::Command {
        let mut command = rantai();
        command.args(arguments).env("RANTAI_BROKER", self.url(user)).env("RANTAI_CA", self.authority.file());
        command
    }

    fn admin(&self, arguments: &[&str]) -> Value {
        let Done { code, stdout, stderr } =
            finish(self.command("root", &["admin"]).args(arguments).arg("--json"));
        assert_eq!(code, 0, "{arguments:?}: {stdout} {stderr}");
        serde_json::from_str(&stdout).expect("JSON")
    }

    async fn client(&self, user: &str, id: &str) -> Client {
        let address: Address = self.url(user).parse().expect("an address");
        let ca: Option<&Path> = Some(&self.authority.file());
        let files = TlsFiles { ca: ca.map(Path::to_owned), ..TlsFiles::default() };
        let id = ClientId::new(id).expect("a client id");
        Client::builder(address.with_tls(files)).client_id(id).connect().await.expect("a client")
    }

    /// Returns the time of each client's connection, by client id.
    fn connected(&self) -> Vec<(String, u64)> {
        let clients = self.admin(&["clients"]);
        let since = |client: &Value| {
            let id = client["client_id"].as_str()?.to_owned();
            Some((id, client["connection"]["since_ms"].as_u64()?))
        };
        clients.as_array().expect("a list").iter().filter_map(since).collect()
    }

    fn reloads(&mut self) -> usize {
        self.server.said().iter().filter(|line| line.contains("read users and rules again")).count()
    }

    /// Reloads by SIGHUP and by an admin, alternately.
    async fn reload(&mut self, round: usize) {
        let before = self.reloads();
        if round.is_multiple_of(2) {
            let reload = self.admin(&["reload"]);
            assert_eq!((&reload["new_users"], &reload["certificates"]), (&1.into(), &1.into()), "{reload}");
        } else {
            self.server.signal(Signal::HUP);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.reloads() == before {
            assert!(Instant::now() < deadline, "{:#?}", self.server.said());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_lose_no_call_and_keep_connections_of_unchanged_users() {
    let mut site = Site::start();
    let mut node = Server::spawn(&mut site.command("pi", &["serve", "calculator", "--node", "pi--node"]));
    node.wait_for("serving calculator");
    let guest = site.client("guest", "guest--1").await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(site.client("ada", &format!("ada--{number}")).await);
    }
    let before = site.connected();
    let (made, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let end = (RELOADS + 1) * CALLS;
    let mut places = JoinSet::new();
    for place in 0..CLIENTS * PLACES {
        let (client, made) = (clients[place % CLIENTS].clone(), made.clone());
        places.spawn(async move {
            let calculator = client.object("calculator").deadline(PATIENCE);
            let mut ticks = interval(PAUSE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            loop {
                ticks.tick().await;
                let number = made.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return;
                }
                let sum: f64 = calculator.call("add", (number, 1)).await.expect("a call that is answered");
                assert!((sum - number as f64 - 1.0).abs() < f64::EPSILON, "{number}: {sum}");
            }
        });
    }
    for round in 1..=RELOADS {
        while made.load(Ordering::Relaxed) < round * CALLS {
            // A call that fails ends the loop of its place.
            assert!(
                !places.is_empty() && began.elapsed() < PATIENCE * 2,
                "{} calls",
                made.load(Ordering::Relaxed)
            );
            sleep(Duration::from_millis(5)).await;
        }
        write(&site.authority, round);
        site.reload(round).await;
    }
    while let Some(place) = places.join_next().await {
        place.expect("every call was answered");
    }
    println!("{end} calls in {:?}, {RELOADS} reloads", began.elapsed());
    let after = site.connected();
    for (id, since) in &before {
        let is_same = after.contains(&(id.clone(), *since));
        let has_left = id.starts_with("guest") || since_admin(id);
        assert_eq!(is_same, !has_left, "{id}: {before:?} {after:?}");
    }
    for client in &clients {
        assert!(matches!(*client.status().borrow(), Status::Online(_)));
    }
    assert!(!matches!(*guest.status().borrow(), Status::Online(_)), "its user is gone");
    // The last configuration is in effect.
    let limits = site.admin(&["limits"]);
    let limit = limits.as_array().expect("a list").iter().find(|limit| limit["key"] == "subscriptions");
    assert_eq!(limit.expect("listed")["value"], (1_000 + RELOADS).to_string());
    let last = format!("extra-{RELOADS}");
    site.client(&last, &last).await.close().await;
    let gone = finish(&mut site.command("extra-1", &["ls"]));
    assert_eq!(gone.code, 4, "{gone:?}");
}

/// Returns whether a client belongs to an earlier command of the admin.
fn since_admin(id: &str) -> bool {
    id.starts_with("root")
}
