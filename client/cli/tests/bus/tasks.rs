//! Tasks: stored before they are acknowledged, and executed whatever process ends meanwhile.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rantai_client::Client;
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::options::Options;
use rantai_tasks::task::State;
use serde_json::{Value, json};

use super::process::{Bus, PATIENCE, Server, broker, bus, own, port_of};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/library.toml");

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Starts a node of the library, with a persistent name and data folder.
fn node(bus: &Bus, names: &[&str], data: &Path, name: &str) -> Server {
    let options = ["--config", CONFIG, "--data-dir", text(data), "--node", name];
    let mut node = bus.serve(&[names, &options].concat());
    for name in names {
        node.wait_for(&format!("serving {name}"));
    }
    node
}

fn random(kind: &str) -> String {
    rantai_client::client::random_id(kind).to_string()
}

fn ledger(client: &Client) -> TasksProxy {
    TasksProxy::from(client.object("tasks").deadline(PATIENCE))
}

/// Regression: a task with a mistyped name waited without any notice.
#[test]
fn task_for_an_object_that_nobody_serves_says_so() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let _keeper = node(&bus, &["tasks"], directory.path(), &random("ledger"));
    let reader = node(&bus, &["pages"], &directory.path().join("reader"), &random("reader"));
    let reason = "no object pagess is registered; did you mean pages?";
    let submitted = bus.run(&["task", "submit", "pagess.add", "1", "2"]);
    assert!(
        submitted.code == 0 && submitted.stderr.contains(&format!("the task waits: {reason}")),
        "{submitted:?}"
    );
    let status = bus.ok(&["task", "status", submitted.stdout.trim()]);
    assert!(status.contains(&format!("  waits: {reason}\n")), "{status}");
    let scheduled = bus.run(&["task", "schedule", "yearly", "0 0 1 1 *", "pagess.add"]);
    assert!(scheduled.code == 0 && scheduled.stderr.contains(reason), "{scheduled:?}");
    let reserved = bus.run(&["task", "submit", "broker.clients"]);
    let said = "error: object: \"broker\" is no object name: 1 to 64 of ";
    assert!(reserved.code == 7 && reserved.stderr.starts_with(said), "{reserved:?}");
    let served = bus.run(&["task", "submit", "pages.add", "1", "2", "--delay", "1d2h"]);
    assert!(served.code == 0 && served.stderr.is_empty(), "{served:?}");
    let later: Value =
        serde_json::from_str(&bus.ok(&["task", "status", served.stdout.trim(), "--json"])).expect("JSON");
    assert_eq!(later["options"]["delay_ms"], 26 * 3_600_000);
    assert!(later.get("waits").is_none(), "{later}");
    reader.kill();
    let waited = bus.run(&["task", "submit", "pages.add", "1", "2", "--wait", "--timeout", "2"]);
    assert!(
        waited.code != 0 && waited.stderr.contains("pages is registered, but no node serves it now"),
        "{waited:?}"
    );
}

#[test]
fn a_task_waits_for_its_object_and_outlives_the_ledger() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let (data, name) = (directory.path().join("ledger"), random("ledger"));
    let keeper = node(&bus, &["tasks"], &data, &name);
    let id = bus.ok(&["task", "submit", "pages.add", "4", "120"]);
    let id = id.trim();
    let status = bus.ok(&["task", "status", id]);
    assert!(status.contains("pages.add  queued"), "nobody is there: {status}");
    keeper.kill();
    let _keeper = node(&bus, &["tasks"], &data, &name);
    let _worker = node(&bus, &["pages"], &directory.path().join("worker"), &random("worker"));
    assert_eq!(bus.ok(&["task", "result", id, "--timeout", "10"]), "124\n");
    let joined = bus.ok(&["task", "submit", "pages.add", "Kamu sudah membaca 4", " halaman", "--wait"]);
    assert_eq!(joined, "Kamu sudah membaca 4 halaman\n");
    let task: Value = serde_json::from_str(&bus.ok(&["task", "status", id, "--json"])).expect("JSON");
    assert_eq!((&task["state"], &task["runs"]), (&json!("succeeded"), &json!(1)), "{task}");
}

#[test]
fn every_final_state_of_a_task_is_reported() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let _node = node(&bus, &["tasks", "pages"], directory.path(), &random("node"));
    let failed = bus.run(&["task", "submit", "pages.add", "4", "halaman", "--wait"]);
    assert!(failed.code == 1 && failed.stderr.contains("y: expected a number"), "{failed:?}");
    let unknown = bus.run(&["task", "status", "0192f7c4a0b17d3c8f60a1b2c3d4e5f6"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("there is no task"), "{unknown:?}");
    assert_eq!(bus.run(&["task", "status", "x"]).code, 7);
    let late = bus.run(&["task", "submit", "nobody.add", "--expires", "200ms", "--wait"]);
    assert!(late.code == 1 && late.stderr.contains("not carried out in its time"), "{late:?}");
    let id = bus.ok(&["task", "submit", "nobody.add", "--key", "one"]);
    assert_eq!(bus.ok(&["task", "submit", "nobody.add", "--key", "one"]), id, "one key, one task");
    for other in [&["nobody.add", "1"][..], &["nobody.sub"], &["pages.add"], &["nobody.add", "null"]] {
        let reused = bus.run(&[&["task", "submit", "--key", "one", "--wait"], other].concat());
        assert!(reused.code == 1 && reused.stdout.is_empty(), "{other:?}: {reused:?}");
        let text = format!("the key \"one\" belongs to task {}, which is another call", id.trim());
        assert!(reused.stderr.contains(&text), "{other:?}: {reused:?}");
    }
    bus.ok(&["task", "cancel", id.trim()]);
    let cancelled = bus.run(&["task", "result", id.trim()]);
    assert!(cancelled.code == 130, "{cancelled:?}");
    assert_eq!(bus.run(&["task", "cancel", id.trim()]).code, 1);
    bus.ok(&["task", "retry", id.trim()]);
    let listed = bus.ok(&["task", "list", "--state", "queued"]);
    assert!(listed.lines().count() == 1 && listed.starts_with(id.trim()), "{listed}");
    let began = Instant::now();
    assert_eq!(bus.ok(&["task", "submit", "pages.add", "1", "2", "--delay", "500ms", "--wait"]), "3\n");
    assert!(began.elapsed() >= Duration::from_millis(500));
}

/// Null is a value: as a parameter, as a result, and as the result that another task gets.
#[tokio::test]
async fn null_is_a_parameter_and_a_result() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let (keeper, name) = (directory.path().join("ledger"), random("ledger"));
    let first = node(&bus, &["tasks"], &keeper, &name);
    let mut worker = bus.serve(&["echo", "server"]);
    for name in ["echo", "server"] {
        worker.wait_for(&format!("serving {name}"));
    }
    assert_eq!(bus.ok(&["task", "submit", "echo.echo", "null", "--wait"]), "null\n");
    let book = ["call", "server.welcomeMessage", "null"];
    let submitted = bus.ok(&["task", "submit", book[1], book[2], "--wait"]);
    assert!(submitted.contains("null") && submitted == bus.ok(&book), "as a call: {submitted}");
    assert_eq!(bus.ok(&["task", "submit", "echo.echo", "message=null", "--wait"]), "null\n");
    assert_eq!(bus.ok(&["task", "submit", "echo.echo", "[null]", "--wait"]), "[null]\n");
    let id = bus.ok(&["task", "submit", "echo.echo", "null"]);
    let id = id.trim();
    assert_eq!(bus.ok(&["task", "result", id]), "null\n");
    let fed = ["task", "submit", "echo.echo", "{\"$result\": 0}", "--after", id, "--wait"];
    assert_eq!(bus.ok(&fed), "null\n");
    let client = bus.client().await;
    let whole = Options { after: vec![id.to_owned()], ..Options::default() };
    let (tasks, params) = (ledger(&client), Some(json!({"$result": 0})));
    let whole = tasks.submit("echo".into(), "echo".into(), params, Some(whole));
    assert_eq!(bus.ok(&["task", "result", &whole.await.expect("stored")]), "null\n");
    let missing = bus.run(&["task", "submit", "echo.echo", "--wait"]);
    assert!(
        missing.code == 1 && missing.stderr.contains("it is missing"),
        "no parameter is none: {missing:?}"
    );
    first.kill();
    let _again = node(&bus, &["tasks"], &keeper, &name);
    assert_eq!(bus.ok(&["task", "result", id]), "null\n", "from disk");
    assert!(bus.ok(&["task", "status", id]).contains("result: null"));
    let task: Value = serde_json::from_str(&bus.ok(&["task", "result", id, "--json"])).expect("JSON");
    assert_eq!((&task["state"], &task["result"]), (&json!("succeeded"), &Value::Null));
}

#[tokio::test]
async fn running_task_reports_progress_and_is_cancelled_at_its_node() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let _ledger = node(&bus, &["tasks"], directory.path(), &random("ledger"));
    let mut worker = bus.serve(&["echo"]);
    worker.wait_for("serving echo");
    let client = bus.client().await;
    let tasks = ledger(&client);
    let params = Some(json!([15_000, "late"]));
    let id = tasks.submit("echo".into(), "delay".into(), params, None).await.expect("stored");
    let state = async || tasks.get(id.clone()).await.expect("known").state;
    while state().await != State::Running {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let in_flight = async || {
        let counted: Value = client.object("echo").call("rpc.stats", ()).await.expect("statistics");
        counted["methods"]["delay"]["in_flight"].as_u64()
    };
    while in_flight().await != Some(1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let progress = async || tasks.get(id.clone()).await.expect("known").progress;
    let seen = loop {
        match progress().await {
            Some(seen) => break seen,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert!(seen.total == 15_000 && (250..15_000).contains(&seen.done), "{seen:?}");
    assert!(tasks.cancel(id.clone()).await.expect("cancelled"));
    let began = Instant::now();
    while in_flight().await != Some(0) {
        assert!(began.elapsed() < Duration::from_secs(10), "it goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(state().await, State::Cancelled);
    assert!(progress().await.is_none(), "it does not run any more");
}

#[tokio::test]
async fn a_run_is_finished_by_a_node_that_ends_in_order() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let _ledger = node(&bus, &["tasks"], directory.path(), &random("ledger"));
    let mut workers = [bus.serve(&["echo", "--replica"]), bus.serve(&["echo", "--replica"])];
    for worker in &mut workers {
        worker.wait_for("serving echo");
    }
    let client = bus.client().await;
    let tasks = ledger(&client);
    let params = Some(json!([3_000, "finished"]));
    let id = tasks.submit("echo".into(), "delay".into(), params, None).await.expect("stored");
    let began = Instant::now();
    let name = loop {
        let task = tasks.get(id.clone()).await.expect("known");
        if let (State::Running, Some(name), Some(_)) = (task.state, task.node, task.progress) {
            break name;
        }
        assert!(began.elapsed() < PATIENCE, "it does not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let here = format!("serving echo on node {name}");
    for worker in &mut workers {
        if worker.said().contains(&here) {
            worker.signal(rustix::process::Signal::TERM);
        }
    }
    let task = tasks.result(id, None).await.expect("known");
    assert_eq!((task.state, task.result), (State::Succeeded, Some(json!("finished"))));
    assert_eq!((task.runs, task.repeats, task.node), (1, 0, Some(name)), "by the one that had it");
}

#[tokio::test]
async fn a_task_that_would_expire_while_it_runs_is_not_called_a_second_time() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let _ledger = node(&bus, &["tasks"], directory.path(), &random("ledger"));
    let client = bus.client().await;
    let tasks = ledger(&client);
    let options = Options { expires_ms: Some(3_000), ..Options::default() };
    let params = Some(json!([4_000, "late"]));
    let id = tasks.submit("echo".into(), "delay".into(), params, Some(options)).await.expect("stored");
    let mut worker = bus.serve(&["echo"]);
    worker.wait_for("serving echo");
    let task = tasks.result(id, None).await.expect("known");
    assert_eq!((task.state, task.runs, task.repeats), (State::Succeeded, 1, 0), "{task:?}");
    let counted: Value = client.object("echo").call("rpc.stats", ()).await.expect("statistics");
    assert_eq!((&counted["methods"]["delay"]["calls"], &counted["refused"]), (&json!(1), &json!({})));
}

#[tokio::test]
async fn hundreds_of_tasks_for_one_object_take_their_turns() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let _ledger = node(&bus, &["tasks"], directory.path(), &random("ledger"));
    let mut worker = bus.serve(&["echo"]);
    worker.wait_for("serving echo");
    let client = bus.client().await;
    let tasks = ledger(&client);
    let mut submitted = tokio::task::JoinSet::new();
    for number in 0..200 {
        let tasks = tasks.clone();
        submitted.spawn(async move {
            let params = Some(json!([50, number]));
            let id = tasks.submit("echo".into(), "delay".into(), params, None).await.expect("stored");
            let task = tasks.result(id, None).await.expect("known");
            assert_eq!((task.state, task.result), (State::Succeeded, Some(json!(number))));
        });
    }
    assert_eq!(submitted.join_all().await.len(), 200);
}

/// Returns the number of tasks of the test with kills.
fn many() -> usize {
    std::env::var("RANTAI_TASKS").ok().and_then(|count| count.parse().ok()).unwrap_or(300)
}

/// The ledger, the worker and the broker are killed repeatedly while tasks are submitted and executed: at the end each
/// task has its own result, and each loan was logged once.
#[tokio::test]
async fn no_task_is_lost_or_executed_twice_when_all_processes_are_killed() {
    let mut bus = own();
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name);
    let broker_data = place("broker");
    bus.broker.take().expect("ours").kill();
    let port = port_of(&bus.url);
    let start_broker = || broker(&["--port", &port, "--data-dir", text(&broker_data)]).0;
    let (loans, config) = (place("loans.jsonl"), place("nodes.toml"));
    let worker_config = format!(
        "[[lending]]\nname = \"lending\"\nfiles = \"books\"\nrequest = \"{{title}}\"\nfinished = \"x\"\n\
         received = \"x\"\nlog = {loans:?}\nbooks = {{ Dune = \"dune\" }}\n"
    );
    std::fs::write(&config, worker_config).expect("written");
    let (ledger_name, worker_name) = (random("ledger"), random("worker"));
    let start_ledger = |bus: &Bus| node(bus, &["tasks"], &place("ledger"), &ledger_name);
    let start_worker = |bus: &Bus| {
        let data = place("worker");
        let options = ["--config", text(&config), "--data-dir", text(&data), "--node", &worker_name];
        let mut node = bus.serve(&options);
        node.wait_for("serving lending");
        node
    };
    bus.broker = Some(start_broker());
    let (mut keeper, mut worker) = (start_ledger(&bus), start_worker(&bus));
    let client = bus.client().await;
    let tasks = ledger(&client);
    let count = many();
    let submitting = tokio::spawn(async move {
        let mut ids = Vec::new();
        for number in 0..count {
            // With a key, the submission can be repeated safely if its reply was lost.
            let options = Options { key: Some(format!("loan-{number}")), ..Options::default() };
            let began = Instant::now();
            loop {
                let params = Some(json!(["Dune"]));
                let submitted =
                    tasks.submit("lending".into(), "borrow".into(), params, Some(options.clone())).await;
                match submitted {
                    Ok(id) => break ids.push(id),
                    Err(error) => assert!(began.elapsed() < 3 * PATIENCE, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        ids
    });
    let mut kills = 0;
    while kills < 6 || !submitting.is_finished() {
        // At a different moment each time.
        tokio::time::sleep(Duration::from_millis(100 + uuid::Uuid::new_v4().as_u128() as u64 % 400)).await;
        kills += 1;
        match kills % 3 {
            0 => {
                worker.kill();
                worker = start_worker(&bus);
            }
            1 => {
                keeper.kill();
                keeper = start_ledger(&bus);
            }
            _ => {
                bus.broker.take().expect("ours").kill();
                bus.broker = Some(start_broker());
            }
        }
    }
    let ids = submitting.await.expect("no panic");
    let tasks = ledger(&client);
    let (mut repeats, mut unknown) = (0, 0);
    for id in &ids {
        let began = Instant::now();
        let task = loop {
            match tasks.result(id.clone(), Some(5_000)).await {
                Ok(task) if task.state.is_ended() => break task,
                Ok(task) => assert!(began.elapsed() < 3 * PATIENCE, "it does not end: {task:?}"),
                Err(error) => assert!(began.elapsed() < 3 * PATIENCE, "{error}"),
            }
        };
        repeats += task.repeats;
        if task.state == State::Succeeded {
            assert_eq!(task.result.expect("a loan")["title"], "Dune");
        } else {
            // The worker ended between recording its intent and its reply: the error says so, and nothing is executed
            // again.
            let error = task.error.expect("why");
            assert_eq!(error["data"]["kind"], "outcome_unknown", "{error}");
            unknown += 1;
        }
    }
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), count, "every submission is a task of its own");
    let written = std::fs::read_to_string(&loans).expect("the log of loans").lines().count();
    assert!(
        (count - unknown..=count).contains(&written),
        "{count} tasks, {unknown} of which nobody knows, and {written} loans written down"
    );
    eprintln!(
        "{count} tasks, {kills} kills, {repeats} repeats recognised, {unknown} of unknown outcome, {written} loans"
    );
    drop((keeper, worker));
}
