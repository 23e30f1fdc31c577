//! Registry of ten thousand names.

use std::collections::BTreeSet;
use std::time::Instant;

use rantai_client::session::Publish;
use serde_json::Value;

use super::process::{Bus, PATIENCE, broker, root};

const MANY: usize = 10_000;

/// Lists until all names are present and served. The end of a registry can only be detected by a silence, which a
/// broker that gets no CPU time on a busy machine causes, too.
fn assert_listed(bus: &Bus, when: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed: Value = serde_json::from_str(&bus.ok(&["ls", "--json"])).expect("JSON");
        let entries = listed.as_array().expect("a list");
        let served = entries.iter().filter(|entry| entry["state"] == "served");
        let names: BTreeSet<&str> = served.filter_map(|entry| entry["name"].as_str()).collect();
        if names.len() == MANY && entries.len() == MANY {
            return;
        }
        assert!(Instant::now() < deadline, "{when}: {} of {} are served", names.len(), entries.len());
    }
}

#[tokio::test]
async fn ten_thousand_names_are_listed_whole_and_are_all_back_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let (first, url) = broker(&["--port", "0", "--data-dir", data]);
    let mut bus = Bus { broker: Some(first), url, root: root("rantai") };
    let client = bus.admin().await;
    let state =
        Publish::new(format!("{}/node/pi", bus.root), r#"{"v":1,"state":"ready","epoch":"1"}"#).retain();
    client.publish(state).await.expect("taken");
    let mut sent = tokio::task::JoinSet::new();
    for number in 0..MANY {
        let payload =
            format!(r#"{{"v":1,"object":"sensor.{number}","node":"pi","epoch":"1","settled":true}}"#);
        let entry = Publish::new(format!("{}/name/sensor.{number}/pi", bus.root), payload).retain();
        let client = client.clone();
        sent.spawn(async move { client.publish(entry).await });
    }
    assert!(sent.join_all().await.iter().all(Result::is_ok));
    client.close().await;
    assert_listed(&bus, "at first");
    bus.broker.take().expect("ours").kill();
    let (again, url) = broker(&["--port", "0", "--data-dir", data]);
    (bus.broker, bus.url) = (Some(again), url);
    assert_listed(&bus, "after kill -9");
}
