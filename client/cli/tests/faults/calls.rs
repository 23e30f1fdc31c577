//! Actions of callers.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::files::FileError;
use rantai_client::wire::fault::Code;
use rantai_client::wire::name::ClientId;
use rantai_client::{CallError, Client};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::history::{Ended, History};
use crate::node::{CROWN, noted};
use crate::shelf::Shelf;
use crate::travel;
use crate::world::PATIENCE;

/// Deadline of every call.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// Time after its deadline at which a call counts as hung.
const SLACK: Duration = Duration::from_secs(10);
/// Maximum number of repeats of a request that must be executed once.
const REPEATS: usize = 8;

pub(crate) struct Caller {
    number: u64,
    client: Client,
    history: Arc<History>,
    random: fastrand::Rng,
    calls: u64,
    /// Acknowledged tasks, with the numbers that they record.
    pub(crate) submitted: Vec<(String, u64)>,
    pub(crate) shelf: Shelf,
}

/// Converts the result of a call whose value is right or wrong.
fn ended<T>(
    result: Result<Result<T, CallError>, tokio::time::error::Elapsed>,
    right: impl Fn(&T) -> bool,
) -> Ended {
    match result {
        Err(_) => Ended::Hung,
        Ok(Ok(value)) if right(&value) => Ended::Answered,
        Ok(Ok(_)) => Ended::Wrong,
        Ok(Err(error)) => of_error(&error),
    }
}

fn of_error(error: &CallError) -> Ended {
    match error {
        CallError::Fault(fault) if fault.maybe_executed() => Ended::Lost,
        CallError::Fault(fault) => match fault.code {
            Code::TIMED_OUT | Code::EXPIRED => Ended::TimedOut,
            _ => Ended::Refused,
        },
        CallError::Lost => Ended::Lost,
        CallError::Result(_) => Ended::Wrong,
        _ => Ended::Refused,
    }
}

fn of_file_error(error: &FileError) -> Ended {
    match error {
        FileError::Call(error) => of_error(error),
        // The received file did not match its digest, and nothing of it was kept.
        _ => Ended::Refused,
    }
}

impl Caller {
    pub(crate) fn new(number: u64, client: Client, history: Arc<History>, random: fastrand::Rng) -> Self {
        let shelf = Shelf::new(&client);
        Self { number, client, history, random, calls: 0, submitted: Vec::new(), shelf }
    }

    /// Returns a number that no other call has.
    fn id(&mut self) -> u64 {
        self.calls += 1;
        self.number * 1_000_000 + self.calls
    }

    pub(crate) async fn call(&mut self) {
        match self.random.u32(0..100) {
            0..20 => self.sum("book").await,
            20..25 => self.sum(CROWN).await,
            25..50 => self.note().await,
            50..55 => self.trip().await,
            55..58 => self.put().await,
            58..60 => self.get().await,
            60..70 => {
                self.once("lone", "fault-a").await;
            }
            70..78 => self.count().await,
            78..95 => {
                self.submit().await;
            }
            _ => self.nobody().await,
        }
        // A caller that is told that nobody serves the object does not retry a thousand times a second.
        sleep(Duration::from_millis(self.random.u64(0..20))).await;
    }

    /// Calls `sum` of an object that has many nodes, or of one that each node wants to serve alone.
    async fn sum(&mut self, object: &'static str) {
        let (a, b) = (self.random.u64(0..1 << 40), self.random.u64(0..1 << 40));
        let proxy = self.client.object(object).deadline(DEADLINE).idempotent();
        let result = timeout(DEADLINE + SLACK, proxy.call::<u64>("sum", (a, b))).await;
        let method = if object == CROWN { "sum of a contested name" } else { "sum" };
        self.history.note(method, None, ended(result, |sum| *sum == a + b));
    }

    async fn note(&mut self) {
        let (id, pause) = (self.id(), self.random.u64(0..400));
        let object = self.client.object("book").deadline(DEADLINE);
        let result = timeout(DEADLINE + SLACK, object.call::<u64>("note", (id, pause))).await;
        self.history.note("note", Some(id), ended(result, |value| *value == noted(id)));
    }

    /// Repeats a request to the node that has the name, until it is answered. Returns whether it was.
    pub(crate) async fn once(&mut self, object: &str, node: &str) -> bool {
        let (id, pause, identity) = (self.id(), self.random.u64(0..200), Uuid::now_v7());
        let node = ClientId::new(node).expect("a name");
        let mut last = Ended::Refused;
        for _ in 0..REPEATS {
            let object = self.client.object(object).deadline(DEADLINE).at(node.clone());
            let request = object.request("once").identity(identity).params((id, pause));
            let sent = async { request.send().await?.read::<u64>() };
            let result = timeout(DEADLINE + SLACK, sent).await;
            let is_unknown = matches!(&result, Ok(Err(error)) if error.fault().is_some_and(|f| f.data.get("kind") == Some(&json!("outcome_unknown"))));
            last = ended(result, |value| *value == noted(id));
            if matches!(last, Ended::Answered | Ended::Wrong | Ended::Hung) || is_unknown {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        self.history.note("once", Some(id), last);
        last == Ended::Answered
    }

    async fn count(&mut self) {
        let to = self.random.u64(0..30_000);
        let object = self.client.object("book").deadline(DEADLINE);
        let read = async {
            let mut items = object.request("count").params(to).stream::<u64>().await?;
            let mut expected = 0;
            while let Some(item) = items.next().await {
                if item? != expected {
                    return Ok(false);
                }
                expected += 1;
            }
            Ok(expected == to)
        };
        let result = timeout(PATIENCE, read).await;
        self.history.note("count", None, ended(result, |right| *right));
    }

    /// Submits a task with the same key until that is acknowledged. Returns whether it was.
    pub(crate) async fn submit(&mut self) -> bool {
        let id = self.id();
        let options =
            json!({"key": format!("task-{id}"), "retries": 100, "backoff_ms": 100, "timeout_ms": 5_000});
        let params = ("book", "note", json!([id, 10]), options);
        let mut last = Ended::Refused;
        for _ in 0..REPEATS {
            let object = self.client.object("tasks").deadline(DEADLINE).idempotent();
            let result = timeout(DEADLINE + SLACK, object.call::<String>("submit", &params)).await;
            if let Ok(Ok(task)) = &result {
                self.submitted.push((task.clone(), id));
            }
            last = ended(result, |_| true);
            if matches!(last, Ended::Answered | Ended::Hung) {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        self.history.note("submit", None, last);
        last == Ended::Answered
    }

    async fn trip(&mut self) {
        let (first, stop, expected) = travel::trip(&mut self.random);
        let object = self.client.object(&first).deadline(DEADLINE);
        let result = timeout(DEADLINE + SLACK, object.call::<Vec<String>>("process", (json!([stop]),))).await;
        self.history.note("trip", None, ended(result, |items| *items == expected));
    }

    /// Sends a file.
    async fn put(&mut self) {
        let id = self.id();
        let ended = match timeout(PATIENCE, self.shelf.put(id)).await {
            Err(_) => Ended::Hung,
            Ok(Ok(())) => Ended::Answered,
            Ok(Err(error)) => of_file_error(&error),
        };
        self.history.note("put", None, ended);
    }

    /// Fetches one of its files.
    async fn get(&mut self) {
        let Some(id) = self.random.choice(&self.shelf.kept).copied() else { return };
        let ended = match timeout(PATIENCE, self.shelf.get(id)).await {
            Err(_) => Ended::Hung,
            Ok(Ok(right)) => {
                if right {
                    Ended::Answered
                } else {
                    Ended::Wrong
                }
            }
            Ok(Err(error)) => of_file_error(&error),
        };
        self.history.note("get", None, ended);
    }

    async fn nobody(&mut self) {
        let object = self.client.object("nobody").deadline(DEADLINE);
        let result = timeout(DEADLINE + SLACK, object.call::<Value>("x", ())).await;
        self.history.note("nobody", None, ended(result, |_| false));
    }
}

/// Waits until all acknowledged tasks have ended.
pub(crate) async fn settle(client: &Client, submitted: &[(String, u64)], history: &History) {
    let object = client.object("tasks").deadline(DEADLINE).idempotent();
    let until = Instant::now() + PATIENCE;
    for (task, _) in submitted {
        let mut state = Value::Null;
        while Instant::now() < until {
            if let Ok(found) = object.call::<Value>("get", task).await {
                state = found["state"].clone();
                if ["succeeded", "failed", "cancelled", "expired"].iter().any(|end| state == *end) {
                    break;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        history.task(task, state.as_str().unwrap_or("not known"));
    }
}

/// Calls the contested name until no call fails any more: in the end, always the same node must answer.
pub(crate) async fn crowned(client: &Client) -> Result<(), String> {
    const ASKED: usize = 20;
    let object = client.object(CROWN).deadline(DEADLINE).idempotent();
    let until = Instant::now() + PATIENCE;
    let mut nodes = Vec::new();
    while nodes.len() < ASKED {
        match object.request("sum").params((1, 2)).send().await {
            Ok(response) if response.outcome.is_ok() => {
                nodes.push(response.node.map(|node| node.to_string()).unwrap_or_default());
            }
            answered if Instant::now() >= until => {
                return Err(format!("nobody serves {CROWN}: {answered:?}"));
            }
            _ => nodes.clear(),
        }
        sleep(Duration::from_millis(100)).await;
    }
    nodes.dedup();
    if nodes.len() == 1 {
        Ok(())
    } else {
        Err(format!("{CROWN} is served by several nodes in turn: {nodes:?}"))
    }
}
