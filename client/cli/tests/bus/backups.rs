//! Backups of broker, ledger and journal in one process while tasks are executed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rantai_client::Client;
use rantai_client::session::Address;
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::options::Options;
use rantai_tasks::task::State;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{Done, PATIENCE, Server, finish, rantai};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn run(arguments: &[&str]) -> Done {
    finish(rantai().args(arguments))
}

/// Starts `rantai up` on a data directory; returns a client of its ledger too.
async fn up(config: &Path, data: &Path) -> (Server, TasksProxy) {
    let arguments = ["up", "--port", "0", "--config", text(config), "--data-dir", text(data)];
    let mut server = Server::spawn(rantai().args(arguments));
    let line = server.wait_for("listening on ");
    let place = line.split("listening on ").nth(1).expect("just found").trim().to_owned();
    server.wait_for("ready");
    let address: Address = format!("mqtt://{place}").parse().expect("an address");
    let client = Client::builder(address).connect().await.expect("a client");
    (server, TasksProxy::from(client.object("tasks").deadline(PATIENCE)))
}

/// Returns the titles of logged loans, with their numbers.
fn loans(log: &Path) -> HashMap<String, usize> {
    let mut loans = HashMap::new();
    for line in std::fs::read_to_string(log).unwrap_or_default().lines() {
        let Ok(loan) = serde_json::from_str::<Value>(line) else { continue };
        *loans.entry(loan["title"].as_str().expect("a title").to_owned()).or_default() += 1;
    }
    loans
}

/// Titles of tasks, by what their submitter knows.
#[derive(Clone, Default)]
struct Known {
    /// Id and title of each stored task.
    stored: Vec<(String, String)>,
    done: HashSet<String>,
}

/// A task is a loan, which is executed once and logged to a file outside of the data directory: a loan that is executed
/// again after a restore is logged twice.
#[tokio::test]
async fn a_restored_ledger_has_every_task_and_repeats_none_that_was_carried_out_before_the_backup() {
    const BOOKS: usize = 5_000;
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name);
    let (log, config, data) = (place("loans.jsonl"), place("nodes.toml"), place("data"));
    let books: Vec<String> = (0..BOOKS).map(|number| format!("\"b{number}\" = \"x\"")).collect();
    let written = format!(
        "[tasks]\n[[lending]]\nname = \"lending\"\nfiles = \"books\"\nrequest = \"{{title}}\"\nfinished = \"x\"\n\
         received = \"x\"\nlog = {log:?}\nbooks = {{ {} }}\n",
        books.join(", ")
    );
    std::fs::write(&config, written).expect("written");
    let (server, tasks) = up(&config, &data).await;
    let known = Arc::new(Mutex::new(Known::default()));
    let mut submitting = Vec::new();
    for lane in 0..4 {
        let (tasks, known) = (tasks.clone(), Arc::clone(&known));
        submitting.push(tokio::spawn(async move {
            for number in (lane..BOOKS).step_by(4) {
                let title = format!("b{number}");
                let options = Options { key: Some(title.clone()), ..Options::default() };
                let params = Some(json!([title]));
                let submitted = tasks.submit("lending".into(), "borrow".into(), params, Some(options));
                // The process is killed at the end.
                let Ok(id) = submitted.await else { return };
                known.lock().expect("no panic").stored.push((id.clone(), title.clone()));
                let Ok(task) = tasks.result(id, None).await else { return };
                assert_eq!(task.state, State::Succeeded, "{task:?}");
                known.lock().expect("no panic").done.insert(title);
            }
        }));
    }
    let mut backups: Vec<(PathBuf, Known, HashMap<String, usize>)> = Vec::new();
    for round in 1..=3 {
        let began = Instant::now();
        while known.lock().expect("no panic").done.len() < 30 * round {
            assert!(began.elapsed() < PATIENCE, "nothing is carried out");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (carried_out, before) = (loans(&log), known.lock().expect("no panic").clone());
        let arguments =
            ["backup".to_owned(), "--data-dir".to_owned(), text(&data).to_owned(), "--json".to_owned()];
        let done =
            tokio::task::spawn_blocking(move || run(&arguments.each_ref().map(|argument| &**argument)));
        let done = done.await.expect("no panic");
        assert_eq!(done.code, 0, "{done:?}");
        let told: Value = serde_json::from_str(&done.stdout).expect("JSON");
        let files = told["manifest"]["files"].as_array().expect("files");
        let names: Vec<_> = files.iter().map(|file| file["name"].as_str().expect("a name")).collect();
        assert_eq!(names, ["broker.redb", "tasks.redb", "once.redb", "node-name"]);
        assert!(
            files[..3].is_sorted_by_key(|file| file["taken"].as_str().expect("a time").to_owned()),
            "{told}"
        );
        backups.push((told["path"].as_str().expect("a path").into(), before, carried_out));
    }
    server.kill();
    for task in submitting {
        // It waits for an answer that will not arrive.
        task.abort();
        assert!(!task.await.is_err_and(|error| error.is_panic()), "a task failed");
    }
    // Only the last backup: after restoring an earlier one, loans that were made after it are executed again.
    let (backup, before, carried_out) = backups.pop().expect("three");
    let restored = place("restored");
    let done = run(&["restore", text(&backup), "--data-dir", text(&restored)]);
    assert_eq!(done.code, 0, "{done:?}");
    let checked = run(&["upgrade-check", "--data-dir", text(&restored), "--json"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let (server, tasks) = up(&config, &restored).await;
    for (id, title) in &before.stored {
        let task = tasks.result(id.clone(), Some(30_000)).await.expect("every stored task is known");
        if before.done.contains(title) {
            assert_eq!((task.state, task.runs), (State::Succeeded, 1), "{title}");
        } else {
            let unknown = task.error.as_ref().is_some_and(|error| error["data"]["kind"] == "outcome_unknown");
            assert!(task.state == State::Succeeded || unknown, "{task:?}");
        }
    }
    let again = loans(&log);
    for title in before.done.iter().chain(carried_out.keys()) {
        assert_eq!(
            again[title], 1,
            "{title} was carried out before the backup, and is not carried out again"
        );
    }
    server.kill();
    // The other backups are complete, too.
    for (backup, ..) in backups {
        assert_eq!(run(&["restore", text(&backup), "--check"]).code, 0);
    }
}

#[test]
fn invalid_data_directories_and_backups_have_clear_errors() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name);
    let empty = place("empty");
    std::fs::create_dir(&empty).expect("made");
    for (arguments, code, words) in [
        (vec!["backup", "--data-dir", text(&empty)], 1, "has nothing to back up"),
        (vec!["restore", text(&empty), "--check"], 1, "this is no complete backup"),
        (vec!["restore", text(&empty)], 2, "--data-dir"),
        (vec!["upgrade-check", "--data-dir", text(&place("missing"))], 1, "cannot read"),
    ] {
        let done = run(&arguments);
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        assert!(done.stderr.contains(words), "{arguments:?}: {done:?}");
    }
    std::fs::write(empty.join("broker.redb"), "no database").expect("written");
    let done = run(&["upgrade-check", "--data-dir", text(&empty)]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stdout.starts_with("broker.redb: cannot be read: "), "{done:?}");
}

/// A file lacks no table of its layout before its first commit.
#[tokio::test]
async fn upgrade_check_reports_fresh_files_as_current() {
    let directory = tempfile::tempdir().expect("a directory");
    let (config, data) = (directory.path().join("nodes.toml"), directory.path().join("data"));
    std::fs::write(&config, "[tasks]\n").expect("written");
    let (mut server, _tasks) = up(&config, &data).await;
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), 0);
    let done = run(&["upgrade-check", "--data-dir", text(&data), "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let checked: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let files = checked["files"].as_array().expect("files");
    assert!(files.len() >= 3, "{checked}");
    assert!(files.iter().all(|file| file["verdict"] == "as_it_is"), "{checked}");
}
