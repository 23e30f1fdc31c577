//! Devices that speak MQTT 3.1.1 and JSON-RPC, whose objects a node serves (`[[adopt]]`).

use std::sync::Arc;
use std::time::Duration;

use rantai_broker::Config as BrokerConfig;
use rantai_client::session::Filter;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{Client, Content, Proxy};
use rantai_conformance::Level;
use rantai_site::config::Config;
use rantai_site::{Plan, Site, SiteOptions};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::conform::{assert_passed, examination};
use super::device::Device;
use super::support::{Bus, PATIENCE, again, bus, embedded, until};

const LAMP: &str = r#"
[[adopt]]
name = "lamp"
summary = "A lamp"
in_flight = 2
waiting = 8
answer_bytes = 4096
request_bytes = 1024
events_per_s = 10

[[adopt.methods]]
name = "add"
params = [
    { name = "a", required = true, schema = { type = "number" } },
    { name = "b", required = true, schema = { type = "number" } },
]
result = { schema = { type = "number" } }
x-idempotent = true

[[adopt.methods]]
name = "say"
params = [{ name = "text", required = true, schema = { type = "string" } }]
result = { schema = { type = "string" } }

[[adopt.methods]]
name = "fail"
params = [{ name = "kind", required = true, schema = { type = "string" } }]
result = { schema = { type = "null" } }

[[adopt.events]]
name = "pressed"

[[adopt.events]]
name = "level"
state = true

[[echo]]
name = "echo"
"#;

/// Serves the lamp, beside an object of the node's own.
async fn site(bus: &Bus) -> Site {
    let config = Config::from_toml(LAMP, "nodes.toml").expect("a configuration");
    let plan = Plan::new(config, "nodes.toml", Arc::new(|_| {})).expect("a plan");
    let mut options = SiteOptions::new(bus.address.clone());
    options.root = Some(bus.root.clone());
    options.patience = Duration::from_secs(1);
    Site::start(plan, options).await.expect("it starts")
}

fn lamp(client: &Client, deadline_ms: u64) -> Proxy {
    client.object("lamp").deadline(Duration::from_millis(deadline_ms))
}

/// What the node says of its device.
async fn report(client: &Client) -> Value {
    let mut stats: Value = client.object("lamp").call("rpc.stats", ()).await.expect("the node answers");
    stats["device"].take()
}

async fn is(client: &Client, state: &str) {
    until(state, async || report(client).await["state"] == state).await;
}

async fn fault(lamp: &Proxy, method: &str, params: Value) -> Fault {
    let error = lamp.call::<Value>(method, params).await.expect_err("an error");
    error.fault().unwrap_or_else(|| panic!("{error}")).clone()
}

#[tokio::test]
async fn a_device_of_mqtt_3_has_an_object_as_any_other() {
    let bus = bus().await;
    let (_site, client) = (site(&bus).await, bus.client().await);
    let device = tokio::spawn(Device::online(&bus, "lamp").await.serve());
    is(&client, "online").await;
    let lamp = lamp(&client, 20_000);
    assert_eq!(lamp.call::<f64>("add", (2, 3)).await.expect("a sum"), 5.0);
    assert_eq!(lamp.call::<f64>("add", json!({"b": 2, "a": 1})).await.expect("by name"), 3.0);
    assert_eq!(fault(&lamp, "fail", json!(["worn_out"])).await.data["kind"], "worn_out");
    let sent = report(&client).await["sent"].clone();
    assert_eq!(sent, 3);
    let unknown = fault(&lamp, "ad", json!([2, 3])).await;
    assert_eq!((unknown.code, &unknown.data["did_you_mean"]), (Code::NO_SUCH_METHOD, &json!(["add"])));
    assert_eq!(fault(&lamp, "add", json!([2, "x"])).await.code, Code::WRONG_PARAMETERS);
    assert_eq!(fault(&lamp, "say", json!(["x".repeat(2_000)])).await.code, Code::TOO_LARGE);
    assert_eq!(report(&client).await["sent"], sent, "these are answered by the node");
    // The same request again.
    let identity = Uuid::new_v4();
    for _ in 0..2 {
        let response = lamp.request("add").params((4, 5)).identity(identity).send().await.expect("a reply");
        assert_eq!(response.outcome.expect("a sum"), Content::Value(json!(9)));
    }
    assert_eq!(report(&client).await["sent"], 4);
    let described: Value = lamp.call("rpc.discover", ()).await.expect("a description");
    assert_eq!(described["methods"][0]["params"][1]["name"], "b");
    assert_eq!(
        (&described["info"]["description"], &described["methods"][0]["x-idempotent"]),
        (&json!("A lamp"), &json!(true))
    );
    let entry: Value = lamp.call("rpc.info", ()).await.expect("an entry");
    assert_eq!(
        (&entry["methods"], &entry["events"]),
        (&json!(["add", "say", "fail"]), &json!(["pressed", "level"]))
    );
    assert!(entry.get("form").is_none(), "its node takes both forms");
    device.abort();
}

#[tokio::test]
async fn an_adopted_device_passes_the_cases_of_devices() {
    let bus = bus().await;
    let (_site, client) = (site(&bus).await, bus.client().await);
    let device = tokio::spawn(Device::online(&bus, "lamp").await.serve());
    is(&client, "online").await;
    let verdicts = examination(&bus, "lamp").level(Level::Device).node(|_| ()).await.expect("examined");
    assert_passed(&verdicts, 12);
    device.abort();
}

#[tokio::test]
async fn a_device_that_sleeps_gets_its_calls_when_it_wakes_with_the_time_they_have_left() {
    let bus = bus().await;
    let (_site, client) = (site(&bus).await, bus.client().await);
    let mut device = Device::connect(&bus, "lamp").await;
    device.subscribe().await;
    device.state("asleep").await;
    is(&client, "asleep").await;
    let patient = lamp(&client, 20_000);
    let waiting = tokio::spawn(async move { patient.call::<String>("say", ("late",)).await });
    until("it waits", async || report(&client).await["waiting"] == 1).await;
    let begun = Instant::now();
    let expired = fault(&lamp(&client, 1_000), "say", json!(["early"])).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "before its deadline");
    assert_eq!((expired.code, &expired.data["device"]), (Code::EXPIRED, &json!("asleep")));
    assert!(!expired.maybe_executed());
    device.state("online").await;
    let request = device.asked().await;
    assert_eq!((&request["method"], &request["params"]), (&json!("say"), &json!(["late"])));
    let left = request["ttl_ms"].as_u64().expect("milliseconds");
    assert!((5_000..19_200).contains(&left), "{left} ms of 20,000 ms, 900 ms after the call");
    device.answer(&request, json!({"result": "late"})).await;
    assert_eq!(waiting.await.expect("no panic").expect("a result"), "late");
    // Of the 8 places one caller has two thirds, and the call that does not fit is told so.
    device.state("asleep").await;
    is(&client, "asleep").await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let lamp = lamp(&client, 2_000);
        calls.spawn(async move { fault(&lamp, "say", json!(["x"])).await.code });
    }
    let mut codes = calls.join_all().await;
    codes.sort();
    assert!(codes.iter().all(|code| [Code::BUSY, Code::EXPIRED].contains(code)), "{codes:?}");
    let waited = codes.iter().filter(|code| **code == Code::EXPIRED).count();
    assert!((4..=8).contains(&waited), "{waited} calls waited");
    assert_eq!(
        (report(&client).await["waiting"].clone(), report(&client).await["bytes"].clone()),
        (json!(0), json!(0))
    );
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_the_queue() {
    let bus = bus().await;
    let (_site, client) = (site(&bus).await, bus.client().await);
    let mut device = Device::connect(&bus, "lamp").await;
    device.subscribe().await;
    device.state("asleep").await;
    is(&client, "asleep").await;
    let patient = lamp(&client, 60_000);
    let call = tokio::spawn(async move { patient.call::<String>("say", ("never",)).await });
    until("it waits", async || report(&client).await["waiting"] == 1).await;
    call.abort();
    until("it is given up", async || report(&client).await["waiting"] == 0).await;
    device.state("online").await;
    is(&client, "online").await;
    let patient = lamp(&client, 60_000);
    let call = tokio::spawn(async move { patient.call::<String>("say", ("now",)).await });
    let request = device.asked().await;
    assert_eq!(request["params"], json!(["now"]));
    device.answer(&request, json!({"result": "now"})).await;
    assert_eq!(call.await.expect("no panic").expect("a result"), "now");
}

#[tokio::test]
async fn a_caller_is_told_whether_a_device_is_away_or_silent() {
    let bus = bus().await;
    let (_site, client) = (site(&bus).await, bus.client().await);
    let patient = lamp(&client, 20_000);
    let begun = Instant::now();
    let never = fault(&patient, "say", json!(["x"])).await;
    assert_eq!((never.code, never.maybe_executed()), (Code::LOST_OBJECT, false), "{never}");
    assert!(
        begun.elapsed() < Duration::from_secs(10) && never.message.contains("has not said that it is online")
    );
    // It says that it is there, and does not subscribe.
    let mut device = Device::connect(&bus, "lamp").await;
    device.state("online").await;
    is(&client, "online").await;
    let deaf = fault(&patient, "say", json!(["x"])).await;
    assert_eq!((deaf.code, deaf.maybe_executed()), (Code::LOST_OBJECT, false), "{deaf}");
    assert!(deaf.message.contains("does not subscribe"), "{deaf}");
    // It is silent.
    device.subscribe().await;
    let begun = Instant::now();
    let silent = fault(&lamp(&client, 1_000), "say", json!(["x"])).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "before its deadline");
    assert_eq!((silent.code, silent.maybe_executed()), (Code::TIMED_OUT, true), "{silent}");
    device.asked().await;
    // It is lost while it has a call.
    let call = tokio::spawn(async move { fault(&patient, "say", json!(["x"])).await });
    device.asked().await;
    let begun = Instant::now();
    drop(device);
    let lost = call.await.expect("no panic");
    assert_eq!((lost.code, lost.maybe_executed()), (Code::LOST_OBJECT, true), "{lost}");
    assert!(begun.elapsed() < Duration::from_secs(10), "by its will");
    let offline = fault(&lamp(&client, 20_000), "say", json!(["x"])).await;
    assert_eq!((offline.code, &offline.data["device"]), (Code::LOST_OBJECT, &json!("offline")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_device_harms_nobody_but_its_own_object() {
    const FLOOD: usize = 2_000;
    let bus = bus().await;
    let (_site, client) = (site(&bus).await, bus.client().await);
    let mut device = Device::online(&bus, "lamp").await;
    is(&client, "online").await;
    let patient = lamp(&client, 60_000);
    let first = tokio::spawn(async move { fault(&patient, "say", json!(["first"])).await.code });
    let request = device.asked().await;
    // The object of the same node, meanwhile.
    let echo = client.object("echo").deadline(Duration::from_secs(30));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let others = tokio::spawn(async move {
        tokio::pin!(stopped);
        let mut called = 0;
        loop {
            assert_eq!(echo.call::<String>("echo", "x").await.expect("it is served"), "x");
            called += 1;
            if stopped.as_mut().try_recv().is_ok() {
                return called;
            }
        }
    });
    let large = "x".repeat(200_000);
    for number in 0..FLOOD {
        device.throw("reply", &json!({"id": format!("{number}-1"), "result": 1}).to_string()).await;
        device.throw("event/pressed", &number.to_string()).await;
        device.throw("event/unknown", "1").await;
        device.throw("reply", "{\"id\":").await;
        if number % 20 == 0 {
            device.throw("reply", &json!({"id": "x-1", "result": large}).to_string()).await;
            device.throw("state", &large).await;
        }
    }
    // At QoS 1: this one is not lost.
    let mut id = request["id"].as_str().expect("a text").to_owned();
    id.pop();
    device.publish("reply", &json!({"id": format!("{id}9"), "result": "forged"}).to_string(), false).await;
    device.answer(&request, json!({"result": large})).await;
    assert_eq!(first.await.expect("no panic"), Code::TOO_LARGE);
    device.answer(&request, json!({"result": "again"})).await;
    let _ = stop.send(());
    let called = others.await.expect("every call of the other object was answered");
    assert!(called >= 1, "{called}");
    // Its object goes on too.
    let patient = lamp(&client, 60_000);
    let second = tokio::spawn(async move { patient.call::<String>("say", ("second",)).await });
    let request = device.asked().await;
    device.answer(&request, json!({"result": "second"})).await;
    assert_eq!(second.await.expect("no panic").expect("a result"), "second");
    let report = report(&client).await;
    let count = |path: &str| {
        report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {report}"))
    };
    assert!(count("/ignored/unknown_id") >= 1 && count("/ignored/repeated") == 1, "{report}");
    assert_eq!((count("/too_large"), count("/answered")), (1, 1), "{report}");
    assert!(count("/events/passed_on") + count("/events/too_many") <= FLOOD as u64, "{report}");
}

#[tokio::test]
async fn events_and_states_of_a_device_are_those_of_its_object() {
    let bus = bus().await;
    let (_site, client) = (site(&bus).await, bus.client().await);
    let topic = |event: &str| format!("{}/event/lamp/{event}", bus.root);
    let filters = ["pressed", "released"].map(|event| Filter::new(topic(event)));
    let mut events = client.subscribe(filters.to_vec()).await.expect("granted");
    let mut device = Device::online(&bus, "lamp").await;
    is(&client, "online").await;
    device.publish("event/released", "1", false).await;
    device.publish("event/pressed", "on", false).await;
    device.publish("event/pressed", "{\"for_ms\": 5}", false).await;
    let event = events.next().await.expect("an event");
    assert_eq!((&*event.topic, &event.payload[..]), (&*topic("pressed"), &br#"{"for_ms":5}"#[..]));
    device.publish("event/level", "70", true).await;
    until("the state is passed on", async || report(&client).await["events"]["passed_on"] == 2).await;
    let mut late = client.subscribe(vec![Filter::new(topic("level"))]).await.expect("granted");
    let level = late.next().await.expect("it is retained");
    assert_eq!((&level.payload[..], level.retain), (&b"70"[..], true));
    let expected = json!({"passed_on": 2, "unknown": 1, "unreadable": 1, "too_many": 0});
    assert_eq!(report(&client).await["events"], expected);
}

#[tokio::test]
async fn node_and_device_find_each_other_again_after_a_restart_of_the_broker() {
    let mut bus = embedded(BrokerConfig::on_free_port()).await;
    let (_site, client) = (site(&bus).await, bus.client().await);
    let device = tokio::spawn(Device::online(&bus, "lamp").await.serve());
    is(&client, "online").await;
    assert_eq!(lamp(&client, 20_000).call::<f64>("add", (2, 3)).await.expect("a sum"), 5.0);
    bus.broker.take().expect("ours").shutdown().await;
    assert!(device.await.expect_err("its connection is gone").is_panic());
    let _broker = again(&bus).await;
    let served = client.object("lamp");
    served.wait_for(PATIENCE).await.expect("it is served again");
    // The broker has kept nothing: the device has to say that it is there.
    is(&client, "offline").await;
    let device = tokio::spawn(Device::online(&bus, "lamp").await.serve());
    is(&client, "online").await;
    assert_eq!(lamp(&client, 20_000).call::<f64>("add", (2, 3)).await.expect("a sum"), 5.0);
    device.abort();
}
