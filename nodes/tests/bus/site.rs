//! Sites: what a configuration serves after its start, why it ends, and what it leaves behind.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::client::random_id;
use rantai_client::wire::name::ClientId;
use rantai_client::{CallError, Client};
use rantai_nodes::ServeError;
use rantai_site::config::Config;
use rantai_site::{Plan, Site, SiteEnd, SiteError, SiteOptions};
use rantai_systems::echo::{EchoObject, Plain};
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::task::State;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::support::{Bus, PATIENCE, bus, embedded, until};

const TEXT: &str = "[[echo]]\nname = 'echo'\n[[calculator]]\nname = 'calculator'\n[tasks]\n";

fn plan(text: &str) -> Plan {
    let config = Config::from_toml(text, "nodes.toml").expect("a configuration");
    Plan::new(config, "nodes.toml", Arc::new(|_| {})).expect("a plan")
}

fn options(bus: &Bus) -> SiteOptions {
    let mut options = SiteOptions::new(bus.address.clone());
    options.root = Some(bus.root.clone());
    options.patience = Duration::from_secs(2);
    options
}

async fn names(client: &Client) -> Vec<String> {
    let view = client.registry().list().await.expect("a registry");
    view.all().filter(|(_, served)| *served).map(|(entry, _)| entry.object.clone()).collect()
}

async fn ended(site: &mut Site) -> SiteEnd {
    timeout(PATIENCE, site.ended()).await.expect("it ends")
}

/// Connects a second session with the client id of the first, which the broker disconnects.
async fn take_over(bus: &Bus, id: ClientId) -> Client {
    let builder = Client::builder(bus.address.clone()).root(bus.root.clone());
    builder.client_id(id).connect().await.expect("it connects")
}

#[tokio::test]
async fn site_serves_all_objects_and_leaves_no_entries_after_shutdown() {
    let (bus, folder) = (bus().await, tempfile::tempdir().expect("a directory"));
    let mut options = options(&bus);
    options.data_dir = Some(folder.path().join("data"));
    let reported = Arc::new(Mutex::new(Vec::new()));
    let events = reported.clone();
    options.report = Arc::new(move |event| events.lock().push(event.to_string()));
    let plan = plan(TEXT);
    assert_eq!(plan.names(), ["echo", "calculator", "tasks"]);
    let site = Site::start(plan, options).await.expect("it starts");
    let mut told = reported.lock().clone();
    told.sort();
    let node = site.node().name();
    let serving = |name: &str| format!("serving {name} on node {node}");
    assert_eq!(told, [serving("calculator"), serving("echo"), serving("tasks")]);
    let client = bus.client().await;
    let sum: f64 = client.object("calculator").call("add", (2, 3)).await.expect("a sum");
    assert!((sum - 5.0).abs() < f64::EPSILON);
    let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    let id = tasks.submit("echo".into(), "echo".into(), Some(json!(["x"])), None).await.expect("stored");
    let task = tasks.result(id, Some(10_000)).await.expect("known");
    assert_eq!((task.state, task.result), (State::Succeeded, Some(json!("x"))));
    assert!(folder.path().join("data/tasks.redb").exists() && folder.path().join("data/once.redb").exists());
    for (path, mode) in [("data", 0o700), ("data/tasks.redb", 0o600), ("data/once.redb", 0o600)] {
        let about = std::fs::metadata(folder.path().join(path)).expect(path);
        assert_eq!(about.permissions().mode() & 0o777, mode, "{path}: tasks and results are of their owners");
    }
    let name = node.clone();
    site.shutdown().await;
    assert_eq!(names(&client).await, [""; 0]);
    let mut again = self::options(&bus);
    again.data_dir = Some(folder.path().join("data"));
    let site = Site::start(self::plan("[[echo]]\nname = 'echo'\n"), again).await.expect("it starts again");
    assert_eq!(*site.node().name(), name, "the data directory keeps the node's name");
    site.shutdown().await;
}

#[tokio::test]
async fn lost_node_connection_ends_the_site_with_the_reason() {
    // mosquitto does not always tell a client that it was taken over; the client then reconnects, and takes its session
    // back.
    let bus = embedded(rantai_broker::Config::on_free_port()).await;
    let name = random_id("node");
    let mut options = options(&bus);
    options.node = Some(name.clone());
    let mut site = Site::start(plan("[[echo]]\nname = 'echo'\n"), options).await.expect("it starts");
    assert!(timeout(Duration::ZERO, site.ended()).await.is_err(), "it has all it needs");
    let _thief = take_over(&bus, name.clone()).await;
    let SiteEnd::Node { node, reason } = ended(&mut site).await else { panic!("not its node") };
    assert_eq!(node, name);
    assert!(!reason.is_empty());
    assert_eq!(ended(&mut site).await, SiteEnd::Node { node, reason }, "asked again");
    site.shutdown().await;
}

#[tokio::test]
async fn a_site_that_cannot_serve_one_object_serves_none() {
    let bus = bus().await;
    let other = bus.node().await;
    other.serve("calculator", EchoObject(Plain)).await.expect("served");
    let error = Site::start(plan(TEXT), options(&bus)).await.expect_err("a name is taken");
    let SiteError::Serve(ServeError::Taken { object, holder }) = error else { panic!("{error}") };
    assert_eq!((object.as_str(), holder.as_str()), ("calculator", other.name().as_str()));
    let client = bus.client().await;
    assert_eq!(names(&client).await, ["calculator"]);
    // With `replace`, it asks the holder for the name instead.
    let mut plan = plan(TEXT);
    plan.replace_holders();
    let site = Site::start(plan, options(&bus)).await.expect("it takes the name over");
    let sum: f64 = client.object("calculator").call("add", (1, 1)).await.expect("a sum");
    assert!((sum - 2.0).abs() < f64::EPSILON);
    site.shutdown().await;
}

#[tokio::test]
async fn shutdown_cleans_up_after_a_cancelled_start() {
    let bus = bus().await;
    let client = bus.client().await;
    let text = "[[echo]]\nname = 'shared'\nreplica = true\n[[echo]]\nname = 'alone'\n";
    let mut plan = plan(text);
    let mut site = Site::connect(&mut plan, options(&bus)).await.expect("it connects");
    {
        let serving = site.serve(plan);
        // The shared name is served at once, the other one may be contested for a second.
        let seen = until("one is served", async || names(&client).await == ["shared"]);
        tokio::select! {
            _ = serving => panic!("the other name is claimed already"),
            () = seen => {}
        }
    }
    site.shutdown().await;
    assert_eq!(names(&client).await, [""; 0]);
}

#[tokio::test]
async fn objects_that_must_be_alone_are_refused_as_replicas() {
    let bus = bus().await;
    let sensor = "[[sensor]]\nname = 's'\nperiod_ms = 1000\n[[sensor.readings]]\nname = 't'\ntopic = 's/t'\n\
                  text = '{value}'\nline = '{value}'\nmin = 1\nmax = 2\n";
    let mut plan = plan(&format!("{sensor}[[echo]]\nname = 'echo'\n"));
    assert!(matches!(plan.serve_as_replicas(), Err(SiteError::Alone(name)) if name == "s"));
    plan.keep(&["echo".to_owned()]).expect("it has one");
    plan.serve_as_replicas().expect("it can be shared");
    let site = Site::start(plan, options(&bus)).await.expect("it starts");
    let mut second = self::plan("[[echo]]\nname = 'echo'\n");
    second.serve_as_replicas().expect("it can be shared");
    let second = Site::start(second, options(&bus)).await.expect("it starts beside the other");
    let client = bus.client().await;
    let back: Value = client.object("echo").call("echo", ("x",)).await.expect("an answer");
    assert_eq!(back, "x");
    site.shutdown().await;
    second.shutdown().await;
}

#[test]
fn plan_keeps_only_the_named_objects() {
    let mut plan = plan(TEXT);
    let error = plan.keep(&["echo".to_owned(), "eco".to_owned()]).expect_err("unknown");
    assert!(matches!(error, SiteError::Unknown(name) if name == "eco"));
    assert_eq!(plan.names(), ["echo", "calculator", "tasks"], "nothing was changed");
    plan.keep(&["tasks".to_owned()]).expect("known");
    assert_eq!(plan.names(), ["tasks"]);
}

#[tokio::test]
async fn files_that_cannot_be_opened_fail_before_anything_is_served() {
    let bus = bus().await;
    let text = "[[insult_store]]\nname = 'store'\nfile = 'no/such/folder/insults.redb'\n";
    let error = Site::start(plan(text), options(&bus)).await.expect_err("there is no folder");
    assert!(matches!(&error, SiteError::Open { object, .. } if object == "store"), "{error}");
    let mut options = options(&bus);
    options.data_dir = Some(Path::new("/proc/none").to_owned());
    let error = Site::start(plan("[[echo]]\nname = 'echo'\n"), options).await.expect_err("not made");
    assert!(matches!(error, SiteError::DataDir { .. }), "{error}");
    let client = bus.client().await;
    let called: Result<Value, CallError> = client.object("store").call("rpc.ping", ()).await;
    assert!(called.is_err());
    assert_eq!(names(&client).await, [""; 0]);
}

#[tokio::test]
async fn a_site_whose_gateway_cannot_listen_serves_nothing() {
    let bus = bus().await;
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = held.local_addr().expect("bound");
    let text = format!("[[echo]]\nname = 'echo'\n[rest]\nlisten = '{listen}'\n");
    assert_eq!(plan(&text).names(), ["echo", "rest"]);
    let error = Site::start(plan(&text), options(&bus)).await.expect_err("the port is held");
    assert!(matches!(error, SiteError::Listen { address, .. } if address == listen), "{error}");
    assert_eq!(names(&bus.client().await).await, [""; 0]);
    drop(held);
    let site = Site::start(plan(&text), options(&bus)).await.expect("the port is free");
    site.shutdown().await;
}
