//! Regression: everything that is stored on disk failed after the first I/O error, until a restart.
//!
//! The full disk is simulated by a limit on the size of files, which is set for the running process and lifted again;
//! so this needs neither a separate file system nor privileges.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rantai_client::wire::fault::Code;
use rantai_client::{CallError, Client};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use uuid::Uuid;

use super::process::{Bus, PATIENCE, Server, bus, rantai};

const CONFIG: &str = "\
[tasks]
file = 'tasks.redb'
[[pages]]
name = 'pages'
[[insult_store]]
name = 'InsultStore'
file = 'insults.redb'
";

/// Starts a node that gets an error if a file exceeds the limit, instead of a signal that kills it.
fn node(bus: &Bus, directory: &Path) -> Server {
    let config = directory.join("nodes.toml");
    std::fs::write(&config, CONFIG).expect("written");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(rantai().get_program());
    command.arg("serve").arg("--config").arg(config).arg("--data-dir").arg(directory);
    let served = bus.command(&["serve"]);
    command.envs(served.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let piped = std::process::Stdio::piped;
    let mut node = Server::spawn(command.stdout(piped()).stderr(piped()));
    for name in ["tasks", "pages", "InsultStore"] {
        node.wait_for(&format!("serving {name}"));
    }
    node
}

/// Sets the maximum size of the node's files; `None` for no limit.
fn limit(node: &Server, bytes: Option<u64>) {
    let pid = Pid::from_raw(node.id().cast_signed()).expect("a process");
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit { current: bytes.or(maximum), maximum };
    prlimit(Some(pid), Resource::Fsize, limit).expect("it is our own process");
}

async fn call(client: &Client, object: &str, method: &str, params: Value) -> Result<Value, CallError> {
    let request = client.object(object).deadline(PATIENCE).request(method).identity(Uuid::now_v7());
    request.params(params).send().await?.read()
}

/// Performs each kind of write: a task, a call of a `once` method, and an insult.
async fn write(client: &Client, number: u64) -> [Result<Value, CallError>; 3] {
    let task = json!(["nobody", "add", [number], {"key": number.to_string()}]);
    [
        call(client, "tasks", "submit", task).await,
        call(client, "pages", "add", json!([number, 1])).await,
        call(client, "InsultStore", "add_insults", json!([[format!("insult{number}")]])).await,
    ]
}

#[tokio::test]
async fn a_full_disk_makes_callers_wait_and_loses_nothing() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let mut node = node(&bus, directory.path());
    let client = bus.client().await;
    let mut tasks = Vec::new();
    let mut insults = 0;
    for round in 0..2 {
        for result in write(&client, round).await {
            let value = result.expect("there is room");
            tasks.extend(value.as_str().map(ToOwned::to_owned));
        }
        insults += 1;
        limit(&node, Some(0));
        for number in 0..5 {
            for (result, what) in
                write(&client, 100 + number).await.into_iter().zip(["task", "call", "insult"])
            {
                let fault = result.expect_err("the disk is full");
                let fault = fault.fault().expect("told by the object").clone();
                assert_eq!(fault.code, Code::BUSY, "{what}: {fault}");
                assert!(fault.is_retryable() && fault.data["retry_after_ms"].as_u64() > Some(0), "{fault:?}");
            }
        }
        limit(&node, None);
        let deadline = Instant::now() + PATIENCE;
        'again: loop {
            for result in write(&client, 200 + round).await {
                match result {
                    Ok(value) => tasks.extend(value.as_str().map(ToOwned::to_owned)),
                    Err(error) => {
                        assert_eq!(error.code(), Some(Code::BUSY), "{error}");
                        assert!(Instant::now() < deadline, "it does not write again: {error}");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue 'again;
                    }
                }
            }
            break;
        }
        insults += 1;
    }
    for id in &tasks {
        let task = call(&client, "tasks", "get", json!([id])).await.expect("it was acknowledged");
        assert_eq!(&task["id"], id);
    }
    let listed = call(&client, "tasks", "list", json!([])).await.expect("a list");
    tasks.sort_unstable();
    tasks.dedup();
    assert_eq!(listed.as_array().map(Vec::len), Some(tasks.len()), "and no other");
    let kept = call(&client, "InsultStore", "insults", json!([0])).await.expect("a page");
    assert_eq!(kept["total"], insults, "{kept}");
    assert!(node.is_running());
}
