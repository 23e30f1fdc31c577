//! `rantai bench task`: calls that the ledger stores and carries out.

use std::sync::{Arc, Mutex};

use rantai_client::client::Client;
use rantai_load::latencies::Latencies;
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::options::Options as Storing;
use rantai_tasks::task::{State, Task};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::call::Repeated;
use super::load::Ticket;
use super::options::{Options, Run, Sending};
use super::report::{Figure, Report, Times};
use super::tally::{Done, Problem};
use crate::exit::{Exit, Failure};

/// Name of the ledger's object.
const TASKS: &str = "tasks";

/// Submit tasks to the ledger, and wait until they have ended
///
/// A task is under way until it has ended, or with --stored-only until it is on disk. The ledger keeps every one of
/// them for a day.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rantai bench task                       echo.echo, stored and carried out
  rantai bench task pages.add 4 120       another method
  rantai bench task --stored-only         how many a second are durable
")]
pub(super) struct Tasks {
    /// The object and its method, as in pages.add
    #[arg(value_name = "OBJECT.METHOD", default_value = "echo.echo")]
    target: String,
    /// Parameters, as for `rantai call`
    #[arg(value_name = "ARGS", allow_negative_numbers = true, conflicts_with = "size")]
    arguments: Vec<String>,
    /// Do not wait until they have been carried out
    #[arg(long)]
    stored_only: bool,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    options: Options,
}

/// Task that is submitted repeatedly.
struct Submission {
    ledgers: Vec<TasksProxy>,
    object: String,
    method: String,
    params: Option<Value>,
    stored_only: bool,
    timeout_ms: u64,
    stored: Arc<Mutex<Latencies>>,
}

impl Tasks {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let repeated = Repeated::new(&self.target, &self.arguments, &self.sending)?;
        let usage = |error: serde_json::Error| Failure::new(Exit::Usage, error.to_string());
        let params = match &repeated.payload[..] {
            [] => None,
            bytes => Some(serde_json::from_slice(bytes).map_err(usage)?),
        };
        let run = self.options.clone().begin()?;
        let report = self.measure(&run, repeated, params).await?;
        run.conclude(&report)
    }

    async fn measure(&self, run: &Run, repeated: Repeated, params: Option<Value>) -> Result<Report, Failure> {
        let clients = run.clients(self.sending.clients).await?;
        let ledger = |client: &Client| {
            let proxy = client.object(TASKS).deadline(run.options.timeout).qos(self.sending.qos());
            TasksProxy::from(proxy)
        };
        let stored = Arc::new(Mutex::new(Latencies::new()));
        let size = repeated.payload.len();
        let submission = Arc::new(Submission {
            ledgers: clients.iter().map(ledger).collect(),
            object: repeated.object,
            method: repeated.method,
            params,
            stored_only: self.stored_only,
            timeout_ms: run.options.timeout.as_millis() as u64,
            stored: stored.clone(),
        });
        let in_flight = run.in_flight(64);
        let anew = || *stored.lock().expect("nobody panics with it") = Latencies::new();
        let submit = move |ticket: Ticket| submission.clone().submit(ticket);
        let (measured, warmup_errors) = run.measure(clients.len() * in_flight, anew, submit).await?;
        for client in clients {
            client.close().await;
        }
        let mut settings = run.settings(in_flight, self.sending.clients);
        settings.insert("qos".to_owned(), json!(self.sending.qos));
        settings.insert("size".to_owned(), json!(size));
        settings.insert("stored_only".to_owned(), json!(self.stored_only));
        let mut report = Report {
            bench: "task",
            what: self.target.clone(),
            broker: run.shown(),
            settings,
            measured,
            warmup_errors,
            figures: Vec::new(),
            times: Vec::new(),
        };
        let latencies = stored.lock().expect("nobody panics with it").clone();
        let figure = |name, label, count: u64| Figure { name, label, value: report.per_second(count as f64) };
        let mut figures = vec![figure("stored_per_second", "  stored a second", latencies.count())];
        if !self.stored_only {
            figures.push(figure("ended_per_second", "  ended a second", report.succeeded()));
            report.times.push(Times { name: "stored_us", label: "Until stored", latencies });
        }
        report.figures = figures;
        Ok(report)
    }
}

impl Submission {
    async fn submit(self: Arc<Self>, ticket: Ticket) -> Result<Done, Problem> {
        let ledger = &self.ledgers[ticket.worker % self.ledgers.len()];
        let storing = Storing { timeout_ms: self.timeout_ms, ..Storing::default() };
        let (object, method) = (self.object.clone(), self.method.clone());
        let id = ledger.submit(object, method, self.params.clone(), Some(storing)).await?;
        self.stored
            .lock()
            .expect("nobody panics with it")
            .record(Instant::now().saturating_duration_since(ticket.due));
        if self.stored_only {
            return Ok(Done::default());
        }
        let task = ledger.result(id, None).await?;
        match task.state {
            State::Succeeded => Ok(Done { node: task.node, bytes: 0 }),
            _ => Err(problem(&task)),
        }
    }
}

/// Creates the error of a task that has not succeeded.
fn problem(task: &Task) -> Problem {
    let state = json!(task.state);
    let state = state.as_str().unwrap_or_default();
    let error = task.error.as_ref().and_then(|error| error["message"].as_str());
    if task.state.is_ended() {
        let text = error.map_or_else(|| format!("the task is {state}"), ToOwned::to_owned);
        Problem::new(&format!("task_{state}"), text)
    } else {
        Problem::new("not_ended", format!("the task is {state} still when its time is over"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(state: &str, error: &Value) -> Task {
        let task = json!({
            "id": "0192f7c4a0b17d3c8f60a1b2c3d4e5f6", "object": "pages", "method": "add", "params": null,
            "options": {}, "state": state, "submitted_ms": 0, "due_ms": 0, "ended_ms": null, "runs": 1,
            "forgiven": 0, "node": null, "repeats": 0, "result": null, "error": error,
        });
        serde_json::from_value(task).expect("a task")
    }

    #[test]
    fn error_of_an_unsuccessful_task_is_reported() {
        let found = |state, error: Value| {
            let Problem { kind, text } = problem(&task(state, &error));
            (kind, text)
        };
        let failed = found("failed", json!({"code": -32000, "message": "no paper"}));
        assert_eq!(failed, ("task_failed".to_owned(), "no paper".to_owned()));
        assert_eq!(
            found("expired", Value::Null),
            ("task_expired".to_owned(), "the task is expired".to_owned())
        );
        let queued = found("queued", Value::Null);
        assert_eq!(queued.0, "not_ended", "{queued:?}");
    }
}
