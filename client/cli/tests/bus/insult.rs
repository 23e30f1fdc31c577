//! Insult services, on one worker and on several.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rantai_client::client::random_id;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::{ClientId, Root};
use rantai_client::{Client, interface};
use rantai_nodes::Node;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{Bus, PATIENCE, Server, bus};
use super::users::SERVING;

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/insult.toml");
const WORK: &[&str] = &["InsultService", "InsultFilterService"];

/// Serves some objects of a configuration, on a node of this name.
fn serve(bus: &Bus, config: &str, names: &[&str], node: &str) -> Server {
    let mut server = bus.serve(&[names, &["--config", config, "--node", node]].concat());
    for name in names {
        server.wait_for(&format!("serving {name}"));
    }
    server
}

/// Returns unique names for nodes.
fn names(kinds: &[&str]) -> Vec<String> {
    kinds.iter().map(|kind| random_id(kind).to_string()).collect()
}

fn store_and_worker(bus: &Bus) -> Server {
    serve(bus, CONFIG, &[&["InsultStore"], WORK].concat(), &names(&["all"])[0])
}

fn changed(folder: &Path, changes: &[(&str, &str)]) -> String {
    let mut text = std::fs::read_to_string(CONFIG).expect("it comes with the program");
    for (before, after) in changes {
        assert!(text.contains(before), "{before}");
        text = text.replace(before, after);
    }
    let file = folder.join("insult.toml");
    std::fs::write(&file, text).expect("written");
    file.display().to_string()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn insults_are_registered_once_and_removed_from_texts() {
    let bus = bus();
    let _node = store_and_worker(&bus);
    let added = bus.ok(&["insult", "add", "Tonto", "BOBO", "tonto"]);
    assert_eq!(added, "Insulto registrado: tonto\nInsulto registrado: bobo\nInsulto ya registrado: tonto\n");
    assert_eq!(
        json(&bus.ok(&["call", "InsultService.add_insult", "Ñoño"])),
        json!(["Insulto registrado: ñoño"])
    );
    let listed = bus.ok(&["call", "InsultService.add_insult", "[\"bobo\",\"Necio\"]"]);
    assert_eq!(json(&listed), json!(["Insulto ya registrado: bobo", "Insulto registrado: necio"]));
    assert_eq!(bus.ok(&["insult", "list"]), "tonto\nbobo\nñoño\nnecio\n");
    assert_eq!(
        json(&bus.ok(&["call", "InsultService.get_insults"])),
        json!(["tonto", "bobo", "ñoño", "necio"])
    );
    let texts = ["¡Eres un TONTO!", "tontos", "Eres un (bobo)", "Eres un (ñoño)"];
    let filtered = bus.ok(&[&["insult", "filter"][..], &texts].concat());
    let expected = "Texto registrado: ¡Eres un CENSORED!\nTexto registrado: tontos\n\
                    Texto registrado: Eres un (CENSORED)\nTexto ya registrado: Eres un (CENSORED)\n";
    assert_eq!(filtered, expected);
    let kept = json(&bus.ok(&["call", "InsultFilterService.get_texts"]));
    let told: Vec<_> = kept.as_array().expect("a list").iter().map(|k| (&k["id"], &k["text"])).collect();
    let expected = [(1, "¡Eres un CENSORED!"), (2, "tontos"), (3, "Eres un (CENSORED)")]
        .map(|(id, t)| (json!(id), json!(t)));
    assert_eq!(told, expected.iter().map(|(id, text)| (id, text)).collect::<Vec<_>>());
    assert!(kept[0]["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{kept}");
    assert_eq!(json(&bus.ok(&["insult", "texts", "--json"])), kept);
    for (arguments, code, expected) in [
        (&["call", "InsultService.add_insult", "!!!"][..], 7, "insult[0]: expected a text with a word"),
        (&["call", "InsultService.add_insult", "[[1]]"], 7, "insult"),
        (&["insult", "add", &"x".repeat(129)], 7, "128 bytes"),
        (&["insult", "filter", &"x".repeat(5_000)], 2, "it may have 4096"),
    ] {
        let done = bus.run(arguments);
        assert!(done.code == code && done.stderr.contains(expected), "{arguments:?}: {done:?}");
    }
}

#[test]
fn without_the_store_callers_are_told_so_and_there_is_only_one() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let config = changed(folder.path(), &[("#file = ", "file = ")]);
    let workers = names(&["worker", "store", "other"]);
    // The workers do not open the store's file.
    let _worker = serve(&bus, &config, WORK, &workers[0]);
    let done = bus.run(&["insult", "add", "tonto"]);
    assert!(
        done.code == 6 && done.stderr.contains("InsultStore, which this needs, is not served"),
        "{done:?}"
    );
    let store = serve(&bus, &config, &["InsultStore"], &workers[1]);
    bus.ok(&["insult", "add", "tonto"]);
    bus.ok(&["insult", "filter", "un tonto"]);
    let second = bus.run(&["serve", "InsultStore", "--config", &config, "--node", &workers[2]]);
    assert!(second.code == 1 && second.stderr.contains("another process may have it"), "{second:?}");
    let replica = bus.run(&["serve", "InsultStore", "--config", &config, "--replica"]);
    assert!(replica.code == 2 && replica.stderr.contains("by one node alone"), "{replica:?}");
    store.kill();
    let _store = serve(&bus, &config, &["InsultStore"], &workers[1]);
    assert_eq!(bus.ok(&["insult", "add", "tonto"]), "Insulto ya registrado: tonto\n");
    assert_eq!(bus.ok(&["insult", "filter", "un tonto"]), "Texto ya registrado: un CENSORED\n");
}

#[test]
fn workers_detect_a_new_store() {
    let bus = bus();
    let workers = names(&["worker", "store"]);
    let _worker = serve(&bus, CONFIG, WORK, &workers[0]);
    let store = serve(&bus, CONFIG, &["InsultStore"], &workers[1]);
    bus.ok(&["insult", "add", "tonto", "bobo"]);
    assert_eq!(bus.ok(&["insult", "filter", "tonto bobo"]), "Texto registrado: CENSORED CENSORED\n");
    store.kill();
    let _store = serve(&bus, CONFIG, &["InsultStore"], &workers[1]);
    // The same number of insults, but different ones.
    bus.ok(&["insult", "add", "necio", "bobo"]);
    assert_eq!(
        bus.ok(&["insult", "filter", "tonto bobo necio"]),
        "Texto registrado: tonto CENSORED CENSORED\n"
    );
}

#[tokio::test]
async fn insult_registered_at_one_worker_is_known_to_all() {
    let bus = bus();
    let workers = names(&["one", "two", "three"]);
    let _store = serve(&bus, CONFIG, &["InsultStore"], &names(&["store"])[0]);
    let _workers: Vec<Server> = workers.iter().map(|name| serve(&bus, CONFIG, WORK, name)).collect();
    let client = bus.client().await;
    let at = |object: &str, round: usize| {
        let node = ClientId::new(&workers[round % 3]).expect("a name");
        client.object(object).at(node).deadline(PATIENCE)
    };
    for round in 0..60 {
        let insult = format!("insulto{round}");
        let told: Value =
            at("InsultService", round).call("add_insult", (&insult,)).await.expect("registered");
        assert_eq!(told, json!([format!("Insulto registrado: {insult}")]));
        let text = format!("{round}: {insult}");
        let told: Value =
            at("InsultFilterService", round + 1).call("add_text", (&text,)).await.expect("kept");
        assert_eq!(told, json!([format!("Texto registrado: {round}: CENSORED")]));
        let again: Value =
            at("InsultFilterService", round + 2).call("add_text", (&text,)).await.expect("kept");
        assert_eq!(again, json!([format!("Texto ya registrado: {round}: CENSORED")]));
    }
}

#[tokio::test]
async fn of_concurrent_equal_insults_one_is_new() {
    let bus = bus();
    let _store = serve(&bus, CONFIG, &["InsultStore"], &names(&["store"])[0]);
    let _workers: Vec<Server> =
        names(&["one", "two", "three"]).iter().map(|name| serve(&bus, CONFIG, WORK, name)).collect();
    let client = bus.client().await;
    for round in 0..5 {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..40 {
            let client = client.clone();
            let (object, method, text) = match number % 2 {
                0 => ("InsultService", "add_insult", format!("necio{round}")),
                _ => ("InsultFilterService", "add_text", format!("{round} veces")),
            };
            calls.spawn(async move {
                let told: Vec<String> =
                    client.object(object).deadline(PATIENCE).call(method, (text,)).await.expect("an answer");
                told.concat()
            });
        }
        let told = calls.join_all().await;
        for new in [format!("Insulto registrado: necio{round}"), format!("Texto registrado: {round} veces")] {
            assert_eq!(told.iter().filter(|text| **text == new).count(), 1, "{new}: {told:#?}");
        }
    }
    let texts = bus.ok(&["insult", "texts"]);
    assert_eq!(texts.lines().count(), 5, "{texts}");
}

/// Registers an insult, with as many attempts as it takes; returns the reply, and whether there were several attempts.
async fn register(client: &Client, insult: &str) -> (String, bool) {
    let (deadline, mut repeated) = (Instant::now() + PATIENCE, false);
    loop {
        let service = client.object("InsultService").deadline(Duration::from_secs(2));
        match service.call::<Vec<String>>("add_insult", (insult,)).await {
            Ok(told) => return (told.concat(), repeated),
            Err(error) => assert!(Instant::now() < deadline && error.is_retryable(), "{insult}: {error}"),
        }
        repeated = true;
    }
}

async fn calls_at(client: &Client, node: &str) -> u64 {
    let node = ClientId::new(node).expect("a name");
    let stats: Value = client.object("InsultService").at(node).call("rpc.stats", ()).await.expect("it runs");
    stats["methods"]["add_insult"]["calls"].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn workers_share_the_requests_while_they_come_and_go() {
    const ALL: usize = 600;
    const AT_ONCE: usize = 12;
    let bus = bus();
    let workers = names(&["one", "two", "three"]);
    let _store = serve(&bus, CONFIG, &["InsultStore"], &names(&["store"])[0]);
    let first = serve(&bus, CONFIG, WORK, &workers[0]);
    let _second = serve(&bus, CONFIG, WORK, &workers[1]);
    let client = bus.client().await;
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, next) = (client.clone(), next.clone());
        callers.spawn(async move {
            let mut told = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= ALL {
                    return told;
                }
                let insult = format!("insulto{number}");
                let (answer, repeated) = register(&client, &insult).await;
                told.push((insult, answer, repeated));
            }
        });
    }
    let reached = async |number: usize| {
        while next.load(Ordering::SeqCst) < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    reached(ALL / 6).await;
    assert!(calls_at(&client, &workers[0]).await > 0 && calls_at(&client, &workers[1]).await > 0);
    first.kill();
    let joined = next.load(Ordering::SeqCst);
    assert!(joined < ALL, "too late");
    let third = workers[2].clone();
    let command = [WORK, &["--config", CONFIG, "--node", &third]].concat();
    let mut third_worker = bus.serve(&command);
    let told = callers.join_all().await.concat();
    assert_eq!(told.len(), ALL);
    // Requests that the killed worker had received and not answered are executed again: the caller repeats them, or the
    // broker passes them to another worker.
    let mut carried_out_twice = 0;
    for (insult, answer, _) in &told {
        if *answer == format!("Insulto ya registrado: {insult}") {
            carried_out_twice += 1;
        } else {
            assert_eq!(*answer, format!("Insulto registrado: {insult}"));
        }
    }
    assert!(carried_out_twice <= AT_ONCE, "only those that the killed worker had: {carried_out_twice}");
    let repeated = told.iter().filter(|(.., repeated)| *repeated).count();
    assert!(repeated <= AT_ONCE, "only those that the killed worker had: {repeated}");
    let mut kept: Vec<String> = Vec::new();
    loop {
        let page: Vec<String> =
            client.object("InsultService").call("get_insults", (kept.len(),)).await.expect("a page");
        if page.is_empty() {
            break;
        }
        kept.extend(page);
    }
    kept.sort_unstable();
    let mut all: Vec<String> = told.into_iter().map(|(insult, ..)| insult).collect();
    all.sort_unstable();
    assert_eq!(kept, all, "each is there once");
    // A worker that joins gets its share from then on.
    third_worker.wait_for("serving InsultService");
    for number in 0..100 {
        register(&client, &format!("otro{number}")).await;
    }
    assert!(calls_at(&client, &third).await > 10, "{}", calls_at(&client, &third).await);
}

/// Object that wants to be insulted.
#[interface]
trait Friend {
    /// Receives an insult.
    async fn notify(&self, insult: String) -> Result<(), Fault>;
}

struct Heard(Sender<String>);

impl Friend for Heard {
    async fn notify(&self, insult: String) -> Result<(), Fault> {
        let _ = self.0.send(insult);
        Ok(())
    }
}

async fn subscribers(client: &Client) -> u64 {
    client.object("Notifier").call("subscribers", ()).await.expect("an answer")
}

async fn until_there_are(client: &Client, number: u64) {
    let deadline = Instant::now() + PATIENCE;
    while subscribers(client).await != number {
        assert!(Instant::now() < deadline, "{} subscribers, not {number}", subscribers(client).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn subscribers_are_called_back_and_dead_ones_dropped() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let times = [("period_ms = 5000", "period_ms = 100"), ("lease_ms = 30000", "lease_ms = 2000")];
    let config = changed(folder.path(), &times);
    let objects = [&["InsultStore", "Notifier"], WORK].concat();
    let node = names(&["all", "friend"]);
    let all = serve(&bus, &config, &objects, &node[0]);
    bus.ok(&["insult", "add", "tonto"]);
    let client = bus.client().await;
    // A client, by events.
    let mut listener = Server::spawn(&mut bus.command(&["insult", "listen"]));
    listener.wait_for("subscribed to Notifier");
    listener.wait_for("tonto");
    // An object, by calls.
    let (sender, heard) = channel();
    let friend = Node::builder(bus.address_for(SERVING))
        .root(Root::new(&bus.root).expect("a root"))
        .name(ClientId::new(&node[1]).expect("a name"))
        .connect()
        .await
        .expect("a node");
    friend.serve("friend", FriendObject(Heard(sender))).await.expect("free");
    let subscribed: Value =
        client.object("Notifier").call("subscribe", ("friend",)).await.expect("subscribed");
    assert_eq!(subscribed, json!({"subscriber": "friend", "lease_ms": null}));
    let insult =
        tokio::task::spawn_blocking(move || heard.recv_timeout(PATIENCE).map(|insult| (insult, heard)));
    let (insult, _heard) = insult.await.expect("no panic").expect("called back");
    assert_eq!(insult, "tonto");
    assert_eq!(subscribers(&client).await, 2);
    // Neither unsubscribes.
    drop(friend);
    until_there_are(&client, 1).await;
    listener.kill();
    until_there_are(&client, 0).await;
    // A restarted notifier gets its clients back, as they subscribe again.
    let mut listener = Server::spawn(&mut bus.command(&["insult", "listen"]));
    listener.wait_for("tonto");
    all.kill();
    let _all = serve(&bus, &config, &objects, &node[0]);
    bus.ok(&["insult", "add", "bobo"]);
    listener.wait_for("bobo");
    listener.signal(Signal::TERM);
    assert_eq!(listener.exit_code(), 0);
    // A client that unsubscribes is removed at once, and an object without the method at the first round.
    let printed = bus.ok(&["insult", "listen", "--count", "2"]);
    assert_eq!(printed, "bobo\nbobo\n");
    assert_eq!(subscribers(&client).await, 0);
    bus.ok(&["call", "Notifier.subscribe", "InsultService"]);
    until_there_are(&client, 0).await;
    let removed: bool = client.object("Notifier").call("unsubscribe", ("friend",)).await.expect("an answer");
    assert!(!removed);
}
