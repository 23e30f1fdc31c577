//! The journey through cities with three node processes, each of which knows only its own name and the next one.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::process::{Bus, PATIENCE, Server, bus};

const ENTRY: &str = "example.chainTopology.bandung";
const RING: [(&str, &str); 3] = [("bandung", "lembang"), ("lembang", "subang"), ("subang", "bandung")];

/// Starts a node that serves one city, and knows one other.
fn city(bus: &Bus, directory: &tempfile::TempDir, name: &str) -> Server {
    let next = RING.iter().find(|(known, _)| *known == name).expect("a city").1;
    let all = include_str!("../../../../config/nodes.toml");
    let own = format!("name = \"{name}\"");
    let section = all.split("[[chain]]").find(|section| section.contains(&own)).expect("a section");
    assert!(section.contains(&format!("next = \"{next}\"")), "{section}");
    let section = section.split("\n\n").next().expect("its own lines");
    let file = directory.path().join(format!("{name}.toml"));
    std::fs::write(&file, format!("[[chain]]{section}\n")).expect("written");
    bus.serve(&["--config", file.to_str().expect("UTF-8"), "--quiet"])
}

fn ring(bus: &Bus, directory: &tempfile::TempDir, order: [usize; 3]) -> Vec<(&'static str, Server)> {
    let mut nodes: Vec<_> =
        order.iter().map(|index| RING[*index].0).map(|name| (name, city(bus, directory, name))).collect();
    for (name, node) in &mut nodes {
        node.wait_for(&format!("server_{name} started"));
    }
    nodes
}

fn journey(bus: &Bus, stop: &str) -> Value {
    let printed = bus.ok(&["chain", ENTRY, stop, "--json"]);
    serde_json::from_str(&printed).expect("JSON")
}

#[test]
fn every_trip_succeeds_whatever_the_start_order_of_nodes() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, two, three) = ("telah melewati bandung", "telah melewati lembang", "telah melewati subang");
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let bus = bus();
        let mut nodes = ring(&bus, &directory, order);
        for stop in ["hello", "", "Bandung", "ke bandung"] {
            assert_eq!(journey(&bus, stop), serde_json::json!([one, two, three, "selesai pada bandung"]));
        }
        assert_eq!(journey(&bus, "bandung"), serde_json::json!(["selesai pada bandung"]));
        assert_eq!(journey(&bus, "lembang"), serde_json::json!([one, "selesai pada lembang"]));
        assert_eq!(journey(&bus, "subang"), serde_json::json!([one, two, "selesai pada subang"]));
        for (name, node) in &mut nodes {
            let next = RING.iter().find(|(known, _)| known == name).expect("a city").1;
            node.wait_for(&format!("melanjutkan perjalanan dari {name} ke {next}"));
            node.wait_for(&format!("kembali ke {name}"));
            node.wait_for("Perjalanan telah selesai");
        }
    }
}

#[test]
fn killed_hop_is_named_in_the_error_and_works_after_its_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let bus = bus();
    let mut nodes = ring(&bus, &directory, [0, 1, 2]);
    let (_, lembang) = nodes.remove(1);
    lembang.kill();
    let began = Instant::now();
    let done = bus.run(&["chain", ENTRY, "hello", "--timeout", "15", "--trace"]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(done.code, 6, "{done:?}");
    assert!(done.stderr.contains("example.chainTopology.lembang"), "{done:?}");
    assert!(done.stderr.contains("bandung -> lembang"), "what was seen of it: {done:?}");
    assert_eq!(journey(&bus, "bandung"), serde_json::json!(["selesai pada bandung"]), "the others go on");
    let mut lembang = city(&bus, &directory, "lembang");
    lembang.wait_for("server_lembang started");
    assert_eq!(journey(&bus, "hello")[3], "selesai pada bandung");
    assert!(nodes.iter_mut().all(|(_, node)| node.is_running()));
}

#[test]
fn orderly_shutdown_of_a_hop_removes_its_entries() {
    let directory = tempfile::tempdir().expect("a directory");
    let bus = bus();
    let mut nodes = ring(&bus, &directory, [2, 0, 1]);
    for (_, node) in &mut nodes {
        node.signal(Signal::TERM);
        assert_eq!(node.exit_code(), 0);
    }
    assert_eq!(bus.ok(&["ls", "--json"]).trim(), "[]");
    let done = bus.run(&["chain", ENTRY, "hello"]);
    assert_eq!(done.code, 5, "{done:?}");
}

#[tokio::test]
async fn a_thousand_concurrent_trips_succeed() {
    let directory = tempfile::tempdir().expect("a directory");
    let bus = bus();
    let _nodes = ring(&bus, &directory, [1, 0, 2]);
    let client = bus.client().await;
    let mut trips = tokio::task::JoinSet::new();
    for number in 0..1_000_usize {
        let entry = client.object(ENTRY).deadline(PATIENCE);
        trips.spawn(async move {
            let (stop, hops) = [("hello", 4), ("bandung", 1), ("lembang", 2), ("subang", 3)][number % 4];
            let result: Vec<String> = entry.call("process", ([stop],)).await.expect("a trip");
            assert_eq!(result.len(), hops, "{stop}: {result:?}");
            number
        });
    }
    let done: HashSet<usize> = trips.join_all().await.into_iter().collect();
    assert_eq!(done.len(), 1_000);
}

#[test]
fn the_trace_shows_each_hop_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let bus = bus();
    let _nodes = ring(&bus, &directory, [0, 1, 2]);
    let done = bus.run(&["chain", ENTRY, "hello", "--trace"]);
    assert_eq!(done.code, 0, "{done:?}");
    let hops: Vec<&str> = done.stderr.lines().map(|line| line.split("  (").next().unwrap_or(line)).collect();
    assert_eq!(
        hops,
        ["bandung -> lembang", "lembang -> subang", "subang -> bandung", "bandung ends it"],
        "{done:?}"
    );
    assert_eq!(done.stdout.lines().count(), 4);
    // Without an argument the stop is read from the pipe, without a prompt.
    let file = directory.path().join("stop");
    std::fs::write(&file, "lembang\n").expect("written");
    let stdin = std::fs::File::open(&file).expect("just written");
    let done = super::process::finish(bus.command(&["chain", ENTRY]).stdin(stdin));
    assert_eq!((done.code, &*done.stdout), (0, "telah melewati bandung\nselesai pada lembang\n"), "{done:?}");
}
