//! Tasks that depend on others, scheduled tasks, and the number of concurrent tasks.

use std::path::Path;
use std::time::Duration;

use rantai_tasks::after::When;
use rantai_tasks::ledger::{Submission, TasksProxy};
use rantai_tasks::options::Options;
use rantai_tasks::task::State;
use serde_json::{Value, json};

use super::process::{Bus, PATIENCE, Server, bus};

fn random(kind: &str) -> String {
    rantai_client::client::random_id(kind).to_string()
}

/// Starts a ledger with a persistent file and name.
fn ledger(bus: &Bus, directory: &Path, name: &str, settings: &str) -> Server {
    let config = directory.join("ledger.toml");
    let file = directory.join("tasks.redb");
    std::fs::write(&config, format!("[tasks]\nfile = '{}'\n{settings}", file.display())).expect("written");
    let mut ledger = bus.serve(&["--config", config.to_str().expect("UTF-8"), "--node", name]);
    ledger.wait_for("serving tasks");
    ledger
}

fn call(method: &str, params: Value, after: &[&str], when: When) -> Submission {
    let after = after.iter().map(|id| (*id).to_owned()).collect();
    let (object, method) = ("calculator".to_owned(), method.to_owned());
    Submission { object, method, params, options: Options { after, when, ..Options::default() } }
}

#[tokio::test]
async fn task_result_is_passed_on_across_a_restart_of_the_ledger() {
    let bus = bus();
    let (directory, name) = (tempfile::tempdir().expect("a directory"), random("ledger"));
    let keeper = ledger(&bus, directory.path(), &name, "");
    let client = bus.client().await;
    let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    let succeeded = When::Succeeded;
    let chain = vec![
        call("add", json!([1, 2]), &[], succeeded),
        call("mul", json!([{"$result": 0}, 10]), &["#0"], succeeded),
        call("sub", json!({"a": {"$result": 0}, "b": {"$result": 1}}), &["#1", "#0"], succeeded),
    ];
    let ids = tasks.submit_all(chain).await.expect("stored");
    let group = (0..20).map(|n| call("add", json!([n, 1]), &[], succeeded)).chain([call(
        "add",
        json!([{"$result": 19}, {"$result": 0}]),
        &(0..20).map(|n| format!("#{n}")).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>(),
        succeeded,
    )]);
    let grouped = tasks.submit_all(group.collect()).await.expect("stored");
    keeper.kill();
    let _keeper = ledger(&bus, directory.path(), &name, "");
    let mut worker = bus.serve(&["calculator"]);
    worker.wait_for("serving calculator");
    let ended = tasks.result(ids[2].clone(), None).await.expect("known");
    assert_eq!((ended.state, ended.result), (State::Succeeded, Some(json!(27))));
    assert_eq!(ended.params, json!({"a": 30, "b": 3}), "what it was called with");
    let ended = tasks.result(grouped[20].clone(), None).await.expect("known");
    assert_eq!((ended.state, ended.result), (State::Succeeded, Some(json!(21))));
}

#[tokio::test]
async fn failed_task_fails_its_dependents_unless_they_accept_any_outcome() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let _ledger = ledger(&bus, directory.path(), &random("ledger"), "");
    let mut worker = bus.serve(&["calculator", "echo"]);
    worker.wait_for("serving calculator");
    worker.wait_for("serving echo");
    let client = bus.client().await;
    let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    let mut calls = vec![
        call("div", json!([1, 0]), &[], When::Succeeded),
        call("add", json!([{"$result": 0}, 1]), &["#0"], When::Succeeded),
        call("add", json!([{"$result": 0}, 1]), &["#1"], When::Succeeded),
        call("echo", json!([{"$outcome": "all"}]), &["#0", "#1", "#2"], When::Ended),
    ];
    calls[3].object = "echo".to_owned();
    let ids = tasks.submit_all(calls).await.expect("stored");
    let last = tasks.result(ids[3].clone(), None).await.expect("known");
    let outcomes = last.result.expect("a result");
    let kinds: Vec<&Value> = (0..3).map(|n| &outcomes[n]["error"]["data"]["kind"]).collect();
    assert_eq!(kinds, ["division_by_zero", "dependency_failed", "dependency_failed"]);
    let second = tasks.get(ids[1].clone()).await.expect("known");
    assert!(second.runs == 0 && second.state == State::Failed, "{second:?}");
    let text = second.error.expect("why")["message"].to_string();
    assert!(text.contains(&ids[0]) && text.contains("has failed"), "{text}");
    for wrong in [&["#1"][..], &["#0"], &["0192f7c4a0b17d3c8f60a1b2c3d4e5f6"], &["x"]] {
        let fault = tasks.submit_all(vec![call("add", json!([1, 2]), wrong, When::Succeeded)]).await;
        assert!(fault.expect_err("refused").to_string().contains("there is no task"), "{wrong:?}");
    }
    let pointless = vec![call("add", json!([{"$result": 1}, 2]), &[&*ids[0]], When::Succeeded)];
    assert!(tasks.submit_all(pointless).await.expect_err("refused").to_string().contains("calls[0]"));
}

#[test]
fn chain_and_group_are_submitted_from_a_shell() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let _ledger = ledger(&bus, directory.path(), &random("ledger"), "");
    let mut worker = bus.serve(&["calculator"]);
    worker.wait_for("serving calculator");
    let first = bus.ok(&["task", "submit", "calculator.add", "4", "120"]);
    let options = ["--after", first.trim(), "--wait"];
    let second = [&["task", "submit", "calculator.add", r#"{"$result": 0}"#, "1"][..], &options].concat();
    assert_eq!(bus.ok(&second), "125\n");
    let group = directory.path().join("group.json");
    let calls = json!([
        {"object": "calculator", "method": "add", "params": [1, 2]},
        {"object": "calculator", "method": "add", "params": [3, 4]},
        {"object": "calculator", "method": "mul", "params": [{"$result": 0}, {"$result": 1}],
            "options": {"after": ["#0", "#1"]}},
    ]);
    std::fs::write(&group, calls.to_string()).expect("written");
    let ids = bus.ok(&["task", "submit-all", group.to_str().expect("UTF-8")]);
    let last = ids.lines().last().expect("three ids");
    assert_eq!(bus.ok(&["task", "result", last]), "21\n");
    std::fs::write(&group, r#"[{"object": "calculator", "methods": 1}]"#).expect("written");
    let refused = bus.run(&["task", "submit-all", group.to_str().expect("UTF-8")]);
    assert!(refused.code == 2 && refused.stderr.contains("unknown field `methods`"), "{refused:?}");
    // What the command line does not take for JSON, a file does not have either.
    for wrong in [r#"{"a": 1, "a": 2}"#, r#""\ud83d""#, "1e400", &("[".repeat(65) + &"]".repeat(65))] {
        let call = format!(r#"[{{"object": "calculator", "method": "add", "params": [{wrong}]}}]"#);
        std::fs::write(&group, call).expect("written");
        let refused = bus.run(&["task", "submit-all", group.to_str().expect("UTF-8"), "--json"]);
        assert!(refused.code == 2 && refused.stderr.contains("cannot read "), "{wrong}: {refused:?}");
    }
    let nobody =
        json!([{"object": "calculater", "method": "add"}, {"object": "calculater", "method": "sub"}]);
    std::fs::write(&group, nobody.to_string()).expect("written");
    let waiting = bus.run(&["task", "submit-all", group.to_str().expect("UTF-8")]);
    let told = "tasks wait: no object calculater is registered; did you mean calculator?\n";
    assert!(waiting.code == 0 && waiting.stderr == told, "once for each object: {waiting:?}");
    let past = ["--at", "2026-01-01T00:00:00Z", "--wait"];
    assert_eq!(bus.ok(&[&["task", "submit", "calculator.add", "1", "1"][..], &past].concat()), "2\n");
    assert_eq!(bus.run(&["task", "submit", "calculator.add", "--at", "tomorrow"]).code, 2);
}

#[test]
fn schedule_creates_tasks_and_survives_a_restart_of_the_ledger() {
    let bus = bus();
    let (directory, name) = (tempfile::tempdir().expect("a directory"), random("ledger"));
    let keeper = ledger(&bus, directory.path(), &name, "");
    let mut worker = bus.serve(&["calculator"]);
    worker.wait_for("serving calculator");
    let every_second = ["task", "schedule", "tick", "* * * * * *", "calculator.add", "1", "2"];
    let made = bus.ok(&[&every_second[..], &["--zone", "Asia/Jakarta"]].concat());
    assert!(made.starts_with("tick  * * * * * * Asia/Jakarta  calculator.add  next 2"), "{made}");
    let schedule = || -> Value {
        let listed = bus.ok(&["task", "schedules", "--json"]);
        serde_json::from_str::<Value>(&listed).expect("JSON")[0].take()
    };
    let made = || schedule()["made"].as_u64().expect("a number");
    let wait_for = |count: u64| {
        let began = std::time::Instant::now();
        while made() < count {
            assert!(began.elapsed() < PATIENCE, "{}", schedule());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait_for(2);
    keeper.kill();
    let before = std::time::Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let _keeper = ledger(&bus, directory.path(), &name, "");
    let count = made();
    wait_for(count + 1);
    assert!(
        made() <= count + before.elapsed().as_secs() + 1,
        "times that were missed are one: {}",
        schedule()
    );
    let last = schedule()["last"].as_str().expect("a task").to_owned();
    assert_eq!(bus.ok(&["task", "result", &last]), "3\n");
    bus.ok(&["task", "unschedule", "tick"]);
    assert_eq!(bus.ok(&["task", "schedules"]), "");
    assert_eq!(bus.run(&["task", "unschedule", "tick"]).code, 1);
    let wrong = bus.run(&["task", "schedule", "tick", "61 * * * *", "calculator.add"]);
    assert!(wrong.code == 7 && wrong.stderr.contains("a cron expression such as"), "{wrong:?}");
    let wrong =
        bus.run(&["task", "schedule", "tick", "* * * * *", "calculator.add", "--zone", "Mars/Olympus"]);
    assert!(wrong.code == 7 && wrong.stderr.contains("a time zone such as"), "{wrong:?}");
}

#[tokio::test]
async fn running_tasks_of_an_object_stay_within_its_limit() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let _ledger = ledger(&bus, directory.path(), &random("ledger"), "[tasks.objects]\necho = 2\n");
    let mut worker = bus.serve(&["echo"]);
    worker.wait_for("serving echo");
    let client = bus.client().await;
    let tasks = TasksProxy::from(client.object("tasks").deadline(PATIENCE));
    let slow = |_| Submission {
        object: "echo".to_owned(),
        method: "delay".to_owned(),
        params: json!([300, "x"]),
        options: Options::default(),
    };
    let ids = tasks.submit_all((0..8).map(slow).collect()).await.expect("stored");
    let mut most = 0;
    loop {
        let running = tasks.list(Some(State::Running), None).await.expect("a list").len();
        most = most.max(running);
        let ended = tasks.list(Some(State::Succeeded), None).await.expect("a list").len();
        if ended == ids.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(most, 2);
}
