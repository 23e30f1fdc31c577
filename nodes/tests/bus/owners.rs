//! Users on one bus: the caller that an object sees behind the ledger and the gateway, and what users see of each
//! other's tasks.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_broker::{Broker, Config as BrokerConfig};
use rantai_client::object::{Answer, Call};
use rantai_client::session::{Address, Publish, QoS};
use rantai_client::wire::Properties;
use rantai_client::{CallError, Client};
use rantai_nodes::Node;
use rantai_site::config::Config;
use rantai_site::{Plan, Site, SiteEvent, SiteOptions};
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::task::State;
use serde_json::{Value, json};

use super::support::{Bus, PATIENCE, Run, embedded, until, user};

const USERS: [&str; 3] = ["ada", "bob", "root"];
const TEXT: &str = "admins = ['root']\n[tasks]\n[rest]\nlisten = '127.0.0.1:0'\n\
                    users = [{ name = 'ada', key = 'key-of-ada' }, { name = 'root', key = 'key-of-root' }]\n";

/// Site with an object `who` that returns its caller, in the broker's own process as in `rantai up`.
struct Place {
    bus: Bus,
    rest: String,
    site: Site,
    node: Node,
}

async fn place() -> Place {
    place_of(None).await
}

/// Starts a site that logs in as `user`; without a user it is part of the broker's process.
async fn place_of(site_user: Option<&str>) -> Place {
    let mut config = BrokerConfig::on_free_port();
    config.anonymous = true;
    config.users = USERS.map(|name| user(name, "a password")).into();
    let bus = embedded(config).await;
    let local = bus.broker.as_ref().and_then(Broker::local_credentials).expect("credentials");
    let own = bus.address.clone().with_credentials(local.user, local.password);
    let node = Node::builder(own.clone()).root(bus.root.clone()).connect().await.expect("a node");
    let who = Run(|call: Call| {
        let name = |user: Option<&rantai_client::wire::user::User>| json!(user.map(ToString::to_string));
        let told = json!({"caller": name(call.context.caller()), "via": name(call.context.via())});
        std::future::ready(Ok(Answer::Value(told)))
    });
    node.serve("who", who).await.expect("free");
    let site_address = site_user.map(|user| bus.address.clone().with_credentials(user, "a password"));
    let mut options = SiteOptions::new(site_address.unwrap_or(own));
    options.root = Some(bus.root.clone());
    options.patience = Duration::from_secs(2);
    let rest = Arc::new(Mutex::new(String::new()));
    let listens = rest.clone();
    options.report = Arc::new(move |event| {
        if let SiteEvent::Listening { address, .. } = event {
            *listens.lock() = address.to_string();
        }
    });
    let config = Config::from_toml(TEXT, "nodes.toml").expect("a configuration");
    let plan = Plan::new(config, "nodes.toml", Arc::new(|_| {})).expect("a plan");
    let site = Site::start(plan, options).await.expect("a site");
    let rest = rest.lock().clone();
    Place { bus, rest, site, node }
}

impl Place {
    fn address(&self, user: Option<&str>) -> Address {
        match user {
            Some(user) => self.bus.address.clone().with_credentials(user, "a password"),
            None => self.bus.address.clone(),
        }
    }

    async fn client(&self, user: Option<&str>) -> Client {
        let builder = Client::builder(self.address(user)).root(self.bus.root.clone());
        builder.connect().await.expect("a client")
    }

    async fn tasks(&self, user: Option<&str>) -> TasksProxy {
        TasksProxy::from(self.client(user).await.object("tasks").deadline(PATIENCE))
    }

    /// Sends an HTTP request, and returns the body of the response.
    fn ask(&self, target: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.rest).expect("it listens");
        let verb = if target.starts_with("/objects") { "POST" } else { "GET" };
        let head = format!("{verb} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.rest);
        stream.write_all(format!("{head}{headers}Content-Length: 0\r\n\r\n").as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
    }
}

fn is_unknown(error: CallError) -> bool {
    matches!(error, CallError::Fault(fault) if fault.data["kind"] == "no_such_task")
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_and_gateway_call_for_the_user_who_asked_them() {
    let place = place().await;
    for (user, expected) in [(Some("ada"), json!("ada")), (None, Value::Null)] {
        let tasks = place.tasks(user).await;
        let id = tasks.submit("who".into(), "run".into(), None, None).await.expect("stored");
        let task = tasks.result(id, Some(10_000)).await.expect("known");
        assert_eq!((task.state, task.user.as_deref()), (State::Succeeded, user));
        assert_eq!(task.result.expect("a result")["caller"], expected);
    }
    let answer =
        tokio::task::block_in_place(|| place.ask("/objects/who/run", "Authorization: Bearer key-of-ada\r\n"));
    assert_eq!(serde_json::from_str::<Value>(&answer).expect("JSON")["caller"], "ada", "{answer}");
    place.site.shutdown().await;
}

/// Regression: the broker stamped the user of the ledger, or of the gateway, in place of its caller.
#[tokio::test(flavor = "multi_thread")]
async fn ledger_and_gateway_without_acts_for_cannot_call() {
    let place = place_of(Some("bob")).await;
    for (user, named) in [(Some("ada"), "user ada"), (None, "clients that did not log in")] {
        let tasks = place.tasks(user).await;
        let id = tasks.submit("who".into(), "run".into(), None, None).await.expect("stored");
        let task = tasks.result(id, Some(10_000)).await.expect("known");
        let error = task.error.expect("an error");
        assert_eq!((task.state, &error["code"]), (State::Failed, &json!(-32006)));
        let text = error["message"].as_str().expect("a text");
        assert!(text.contains(named) && text.contains("acts_for"), "{text}");
    }
    let answer =
        tokio::task::block_in_place(|| place.ask("/objects/who/run", "Authorization: Bearer key-of-ada\r\n"));
    assert!(answer.contains("-32006") && answer.contains("acts_for"), "{answer}");
    // Tasks that the ledger's user submits itself are its own.
    let bob = place.tasks(Some("bob")).await;
    let id = bob.submit("who".into(), "run".into(), None, None).await.expect("stored");
    let task = bob.result(id, Some(10_000)).await.expect("known");
    assert_eq!(task.result, Some(json!({"caller": "bob", "via": null})));
    place.site.shutdown().await;
}

#[tokio::test]
async fn users_do_not_see_each_others_tasks() {
    let place = place().await;
    let [ada, bob, root] =
        [place.tasks(Some("ada")).await, place.tasks(Some("bob")).await, place.tasks(Some("root")).await];
    let anonymous = place.tasks(None).await;
    let id = ada.submit("who".into(), "run".into(), None, None).await.expect("stored");
    assert_eq!(ada.result(id.clone(), Some(10_000)).await.expect("hers").state, State::Succeeded);
    for stranger in [&bob, &anonymous] {
        assert!(is_unknown(stranger.get(id.clone()).await.expect_err("hers")));
        assert!(is_unknown(stranger.result(id.clone(), None).await.expect_err("hers")));
        assert!(is_unknown(stranger.cancel(id.clone()).await.expect_err("hers")));
        assert!(is_unknown(stranger.retry(id.clone()).await.expect_err("hers")));
        assert!(stranger.list(None, None).await.expect("a list").is_empty());
    }
    assert_eq!(root.get(id).await.expect("an admin").user.as_deref(), Some("ada"));
    place.site.shutdown().await;
}

/// Regression: an admin who only read a task consumed the one secret that its owner needed.
#[tokio::test]
async fn admin_leaves_the_secret_result_of_a_task_to_its_owner() {
    let place = place().await;
    place.node.serve("draws", super::tasks::Draws).await.expect("free");
    let [ada, root] = [place.tasks(Some("ada")).await, place.tasks(Some("root")).await];
    let id = ada.submit("draws".into(), "draw".into(), None, None).await.expect("stored");
    let seen = root.result(id.clone(), Some(10_000)).await.expect("an admin");
    assert_eq!((seen.state, seen.secret, seen.result), (State::Succeeded, true, None));
    assert!(ada.get(id).await.expect("hers").result.is_some());
    place.site.shutdown().await;
}

/// Regression: a call with the ledger's reply topic and the task's id as correlation stored a forged result.
#[tokio::test]
async fn forged_reply_to_the_ledger_is_ignored() {
    let place = place().await;
    let begun = Arc::new(tokio::sync::Notify::new());
    let go_on = Arc::new(tokio::sync::Notify::new());
    let (told, waits) = (begun.clone(), go_on.clone());
    let slow = Run(move |_: Call| {
        let (told, waits) = (told.clone(), waits.clone());
        async move {
            told.notify_one();
            waits.notified().await;
            Ok(Answer::Value(json!("genuine")))
        }
    });
    place.node.serve("slow", slow).await.expect("free");
    let bob = place.client(Some("bob")).await;
    let calls = rantai_client::session::Filter::new(format!("{}/at/+/slow/run", place.bus.root));
    let mut calls = bob.subscribe(vec![calls]).await.expect("granted");
    let ada = place.tasks(Some("ada")).await;
    let id = ada.submit("slow".into(), "run".into(), None, None).await.expect("stored");
    begun.notified().await;
    let call = calls.next().await.expect("the call of the ledger");
    let reply_to = call.properties.response_topic.clone().expect("a reply topic");
    let secret = call.properties.correlation.clone().expect("a correlation");
    assert_ne!(secret, uuid_bytes(&id), "the id is known to others");
    let elsewhere = reply_to.replace("/slow/", "/who/");
    // Even the right correlation has no effect on another reply topic.
    for (topic, correlation) in [(&reply_to, uuid_bytes(&id).into()), (&elsewhere.into(), secret)] {
        let properties = Properties {
            correlation: Some(correlation),
            user: [("status", "ok")].into(),
            ..Properties::default()
        };
        let forged = Publish {
            topic: topic.clone(),
            payload: "\"forged\"".into(),
            properties,
            qos: QoS::AtLeastOnce,
            retain: false,
            resend: false,
        };
        bob.publish(forged).await.expect("sent");
    }
    assert_eq!(ada.get(id.clone()).await.expect("hers").state, State::Running);
    go_on.notify_one();
    let task = ada.result(id, Some(10_000)).await.expect("hers");
    assert_eq!((task.state, task.result), (State::Succeeded, Some(json!("genuine"))));
    place.site.shutdown().await;
}

fn uuid_bytes(id: &str) -> Vec<u8> {
    u128::from_str_radix(id, 16).expect("a UUID").to_be_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_name_users_to_admins_and_to_themselves() {
    let place = place().await;
    for user in ["ada", "bob"] {
        place.tasks(Some(user)).await.submit("who".into(), "run".into(), None, None).await.expect("stored");
    }
    let named = async |user: Option<&str>| -> Vec<String> {
        let client = place.client(user).await;
        let stats: Value = client.object("tasks").call("rpc.stats", ()).await.expect("statistics");
        let tables = stats["shares"].as_array().expect("tables").clone();
        let tasks = tables.into_iter().find(|table| table["table"] == "tasks").expect("a table");
        let top = tasks["top"].as_array().expect("callers").clone();
        let mut names: Vec<String> =
            top.into_iter().map(|holder| holder["caller"].as_str().expect("a text").to_owned()).collect();
        names.sort_unstable();
        names
    };
    until("both are counted", async || named(Some("root")).await.len() == 2).await;
    assert_eq!(named(Some("root")).await, ["user \"ada\"", "user \"bob\""]);
    assert_eq!(named(Some("ada")).await, ["another user", "user \"ada\""]);
    assert_eq!(named(None).await, ["another user", "another user"]);
    place.site.shutdown().await;
}
