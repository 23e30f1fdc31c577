//! Chains of links, as in the journey through cities.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rantai_client::session::Filter;
use rantai_client::wire::fault::Code;
use rantai_nodes::Node;
use rantai_nodes::kind::Output;
use rantai_site::config::{Config, Configured};
use serde_json::{Value, json};

use super::support::{Bus, PATIENCE, bus};

const CITIES: &str = include_str!("../../../config/nodes.toml");
const LETTERS: &str = include_str!("../../../config/circular.toml");

/// Serves each link on a node of its own, started in reverse order.
async fn ring(bus: &Bus, text: &str, lines: &Output) -> Vec<Node> {
    let config = Config::from_toml(text, "it").expect("a configuration");
    let objects = config.objects("it", lines).expect("objects");
    let cities = objects.into_iter().filter(|o| o.name.as_str().starts_with("example.chainTopology."));
    let mut nodes = Vec::new();
    for Configured { name, object, options, .. } in cities.collect::<Vec<_>>().into_iter().rev() {
        let node = bus.node().await;
        node.serve_with(name.as_str(), object, options).await.expect("served");
        nodes.push(node);
    }
    nodes
}

fn silent() -> Output {
    Arc::new(|_| {})
}

#[tokio::test]
async fn journey_returns_the_expected_trip_for_every_stop() {
    let bus = bus().await;
    let _nodes = ring(&bus, CITIES, &silent()).await;
    let client = bus.client().await;
    let bandung = client.object("example.chainTopology.bandung");
    let round = json!([
        "telah melewati bandung",
        "telah melewati lembang",
        "telah melewati subang",
        "selesai pada bandung"
    ]);
    let rows = [
        (json!(["hello"]), round.clone()),
        (json!([]), round.clone()),
        (json!([""]), round.clone()),
        (json!(["Bandung"]), round.clone()),
        (json!(["ke bandung"]), round),
        (json!(["bandung"]), json!(["selesai pada bandung"])),
        (json!(["lembang"]), json!(["telah melewati bandung", "selesai pada lembang"])),
        (
            json!(["subang"]),
            json!(["telah melewati bandung", "telah melewati lembang", "selesai pada subang"]),
        ),
    ];
    for (message, expected) in rows {
        let result: Value = bandung.call("process", (message.clone(),)).await.expect("a trip");
        assert_eq!(result, expected, "{message}");
    }
    let nothing: Value = bandung.call("process", ()).await.expect("a trip");
    assert_eq!(nothing[3], "selesai pada bandung");
}

#[tokio::test]
async fn pyros_circle_is_the_same_with_other_texts() {
    let bus = bus().await;
    let _nodes = ring(&bus, LETTERS, &silent()).await;
    let client = bus.client().await;
    let result: Value =
        client.object("example.chainTopology.A").call("process", (["hello"],)).await.expect("a trip");
    assert_eq!(result, json!(["passed on from A", "passed on from B", "passed on from C", "complete at A"]));
}

#[tokio::test]
async fn the_links_print_what_happens_in_order() {
    let bus = bus().await;
    let lines = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let kept = lines.clone();
    let _nodes =
        ring(&bus, CITIES, &(Arc::new(move |line: &str| kept.lock().push(line.to_owned())) as Output)).await;
    let client = bus.client().await;
    let _: Value =
        client.object("example.chainTopology.bandung").call("process", (["x"],)).await.expect("a trip");
    assert_eq!(
        *lines.lock(),
        [
            "melanjutkan perjalanan dari bandung ke lembang",
            "melanjutkan perjalanan dari lembang ke subang",
            "melanjutkan perjalanan dari subang ke bandung",
            "kembali ke bandung",
            "Perjalanan telah selesai",
        ]
    );
}

#[tokio::test]
async fn thousand_concurrent_trips_get_their_own_replies() {
    let bus = bus().await;
    let _nodes = ring(&bus, CITIES, &silent()).await;
    let client = bus.client().await;
    let stops = ["hello", "bandung", "lembang", "subang"];
    let trips: Vec<_> = (0..1_000_usize)
        .map(|number| {
            let entry = client.object("example.chainTopology.bandung");
            tokio::spawn(async move {
                let stop = stops[number % 4];
                let result: Vec<String> = entry.call("process", ([stop],)).await.expect("a trip");
                let end = if stop == "hello" { "bandung" } else { stop };
                assert_eq!(result.last().map(String::as_str), Some(&*format!("selesai pada {end}")));
                let expected = match stop {
                    "bandung" => 1,
                    "lembang" => 2,
                    "subang" => 3,
                    _ => 4,
                };
                assert_eq!(result.len(), expected);
                number
            })
        })
        .collect();
    let mut done = HashSet::new();
    for trip in trips {
        done.insert(trip.await.expect("right"));
    }
    assert_eq!(done.len(), 1_000);
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn dead_hop_is_named_and_works_once_it_is_back() {
    let bus = bus().await;
    let mut nodes = ring(&bus, CITIES, &silent()).await;
    // Reverse order: subang, lembang, bandung.
    nodes.remove(1).drain(Duration::from_secs(1)).await;
    let client = bus.client().await;
    let entry = client.object("example.chainTopology.bandung").deadline(Duration::from_secs(5));
    let error = entry.call::<Value>("process", (["x"],)).await.expect_err("lembang is not there");
    let fault = error.fault().expect("a fault");
    assert_eq!((fault.code, &fault.data["hop"]), (Code::DEAD_HOP, &json!("example.chainTopology.lembang")));
    assert_eq!(fault.data["trail"][0]["node"], "bandung");
    let config = Config::from_toml(CITIES, "it").expect("a configuration");
    let links = config.objects("it", &silent()).expect("objects");
    let lembang = links.into_iter().find(|l| l.name.as_str().ends_with("lembang")).expect("one of them");
    let node = bus.node().await;
    node.serve_with(lembang.name.as_str(), lembang.object, lembang.options).await.expect("served again");
    let result: Vec<String> = entry.call("process", (["x"],)).await.expect("a trip");
    assert_eq!(result.len(), 4);
}

#[tokio::test]
async fn a_ring_that_never_closes_ends_at_its_limit() {
    let bus = bus().await;
    // More links than a trail may have, without a repeated name.
    let link = |number: usize| {
        let next = number + 1;
        format!(
            "[[chain]]\nprefix = \"c.\"\nname = \"{number}\"\nnext = \"{next}\"\npassing = \"p\"\nclosing = \"c\"\ntrail = 16\n"
        )
    };
    let text: String = (1..=18).map(link).collect();
    let config = Config::from_toml(&text, "it").expect("a configuration");
    let node = Arc::new(bus.node().await);
    let mut claims = tokio::task::JoinSet::new();
    for Configured { name, object, options, .. } in config.objects("it", &silent()).expect("objects") {
        let node = node.clone();
        claims.spawn(async move { node.serve_with(name.as_str(), object, options).await });
    }
    while let Some(claimed) = claims.join_next().await {
        claimed.expect("no panic").expect("served");
    }
    let client = bus.client().await;
    let error = client.object("c.1").call::<Value>("process", (["x"],)).await.expect_err("too long");
    let fault = error.fault().expect("a fault");
    assert_eq!(fault.code, Code::TRAIL_LIMIT);
    assert_eq!(fault.data["trail"].as_array().map(Vec::len), Some(17));
}

#[tokio::test]
async fn invalid_trip_is_refused_and_the_link_survives() {
    let bus = bus().await;
    let _nodes = ring(&bus, CITIES, &silent()).await;
    let client = bus.client().await;
    let bandung = client.object("example.chainTopology.bandung");
    for (params, expected) in [
        (json!([5]), Code::WRONG_PARAMETERS),
        (json!([[1, 2]]), Code::WRONG_PARAMETERS),
        (json!({"message": {"a": 1}}), Code::WRONG_PARAMETERS),
        (json!({"messages": []}), Code::WRONG_PARAMETERS),
        (json!([["x".repeat(100_000)]]), Code::TOO_LARGE),
    ] {
        let error = bandung.call::<Value>("process", &params).await.expect_err("no trip");
        assert_eq!(error.code(), Some(expected), "{error}");
    }
    let response = bandung.request("process").payload(&b"\xFF\xFE"[..]).send().await.expect("an answer");
    assert_eq!(response.outcome.expect_err("not UTF-8").code, Code::NOT_JSON);
    let result: Vec<String> = bandung.call("process", (["bandung"],)).await.expect("it lives");
    assert_eq!(result, ["selesai pada bandung"]);
}

#[tokio::test]
async fn hop_with_a_listener_but_no_server_is_dead() {
    let bus = bus().await;
    let mut nodes = ring(&bus, CITIES, &silent()).await;
    let client = bus.admin().await;
    let _listener = client
        .subscribe(vec![Filter::new(format!("{}/call/#", bus.root))])
        .await
        .expect("anybody may listen");
    let entry = client.object("example.chainTopology.bandung").deadline(PATIENCE);
    let result: Vec<String> = entry.call("process", (["x"],)).await.expect("a trip");
    assert_eq!(result.len(), 4, "and nobody is taken for dead");
    nodes.remove(1).drain(Duration::from_secs(1)).await;
    let error = entry.call::<Value>("process", (["x"],)).await.expect_err("lembang is not there");
    let fault = error.fault().expect("a fault");
    assert_eq!((fault.code, &fault.data["hop"]), (Code::DEAD_HOP, &json!("example.chainTopology.lembang")));
}
