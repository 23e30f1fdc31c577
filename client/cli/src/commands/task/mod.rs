//! `rantai task`: calls that are stored, and carried out once their object is served.

mod schedule;
mod submit_all;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use chrono::DateTime;
use rantai_client::CallError;
use rantai_client::wire::fault::Code;
use rantai_tasks::after::When;
use rantai_tasks::ledger::{Summary, TasksProxy};
use rantai_tasks::options::Options;
use rantai_tasks::task::{State, Task};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::arguments;
use crate::completing;
use crate::connection::{Connection, duration, log, long_duration, note, print, print_json, run, shown};
use crate::exit::{EXIT_CODES, Exit, Failure};
use crate::progress::Line;
use crate::table::print_wrapped;
use crate::terminal::print_text;

/// Interval at which `--wait` polls the progress of a task.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(300);
/// Text in place of a secret result that the ledger does not return.
const SECRET_RETURNED: &str =
    "secret: it is told once, to the owner of the task, and kept for an hour at most";

const EXAMPLES: &str = "\
Examples:
  rantai task submit pages.add 4 120 --wait        124
  rantai task submit pages.add 4 120 --retries 3 --delay 10s --key today
  rantai task status ID
  rantai task result ID
  rantai task list --state failed
  rantai task submit pages.add '{\"$result\": 0}' 1 --after ID --wait
  rantai task schedule morning '30 7 * * MON-FRI' pages.add 4 120
";

/// Store calls that are carried out when their object is there.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Tasks {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Store a call, and print its id
    Submit(Submit),
    /// Store calls, all of them or none, and print an id each
    SubmitAll {
        #[arg(
            value_name = "FILE",
            help = r#"A list of {"object", "method", "params", "options"} in JSON; - is standard input"#
        )]
        file: PathBuf,
    },
    /// Make a task again and again, at the times of a cron expression
    Schedule(schedule::New),
    /// List schedules
    Schedules,
    /// Make no more tasks of a schedule
    Unschedule {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Print a task as it is
    Status {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Wait until a task has ended, and print its result
    Result {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// End a task that has not ended
    Cancel {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Take up again what failed, was cancelled or expired
    Retry {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// List tasks, the oldest first
    List {
        /// Of one state
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<State>,
    },
    /// Print every change of state, until Ctrl-C
    Watch,
}

#[derive(clap::Args)]
struct Submit {
    /// The object and its method, as in pages.add
    #[arg(value_name = "OBJECT.METHOD", add = completing::methods())]
    target: String,
    /// Parameters, as for `rantai call`
    #[arg(value_name = "ARGS", allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// Wait for the result, and print it
    #[arg(long)]
    wait: bool,
    /// Run it after this time, as in 90s, 1h30m or 1d
    #[arg(long, value_name = "TIME", value_parser = long_duration)]
    delay: Option<Duration>,
    /// Run it at this time, as in 2026-12-24T18:00:00+07:00
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    at: Option<u64>,
    /// One key, one task: a second submission of the same call is the first, and another call is an error
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[arg(
        id = "tls_key",
        long = "tls-key",
        help = "The private key of --cert, which is --key elsewhere",
        value_name = "FILE",
        env = "RANTAI_KEY",
        hide_env_values = true
    )]
    _tls_key: Option<PathBuf>,
    #[arg(
        long,
        value_name = "ID",
        help = r#"Not before this task has succeeded; {"$result": 0} in ARGS stands for the result of the first"#
    )]
    after: Vec<String>,
    /// Also run it if a task before it has failed
    #[arg(long, requires = "after")]
    whatever: bool,
    #[command(flatten)]
    carried: Carried,
}

/// How a task is carried out once it is due.
#[derive(clap::Args)]
struct Carried {
    /// Maximum number of repetitions after a failure
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// The wait before the first of them, doubled each time
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1")]
    backoff: Duration,
    /// Expire if it has not run after this time
    #[arg(long, value_name = "TIME", value_parser = long_duration)]
    expires: Option<Duration>,
    /// Maximum duration of one run
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m")]
    limit: Duration,
    /// 0 to 9; of a caller's tasks that are due the highest go first
    #[arg(long, value_name = "N", default_value_t = 5)]
    priority: u8,
}

impl Carried {
    fn options(&self) -> Options {
        Options {
            retries: self.retries,
            backoff_ms: ms(self.backoff),
            expires_ms: self.expires.map(ms),
            timeout_ms: ms(self.limit),
            priority: self.priority,
            ..Options::default()
        }
    }
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// Parses a time in RFC 3339; returns milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    let time =
        DateTime::parse_from_rfc3339(text).map_err(|error| format!("{error}; RFC 3339 is expected"))?;
    u64::try_from(time.timestamp_millis()).map_err(|_| "a time after 1970 is expected".to_owned())
}

/// Parses the name of a state.
fn state(text: &str) -> Result<State, String> {
    serde_json::from_value(Value::from(text))
        .map_err(|_| "one of queued, running, retrying, succeeded, failed, cancelled and expired".to_owned())
}

impl Tasks {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.act())
    }

    async fn act(self) -> Result<(), Failure> {
        let Self { action, connection } = self;
        // Deadline of the command as a whole, however many calls it makes.
        let end = tokio::time::Instant::now() + connection.timeout();
        let client = connection.client().await?;
        let tasks = client.object("tasks").deadline(connection.timeout()).until(end);
        // Goes on while the broker or the ledger is away.
        let patient = TasksProxy::from(tasks.clone().patient().idempotent());
        let ledger = TasksProxy::from(tasks);
        let failed = |error: CallError| connection.failed(&error);
        let result = match action {
            Action::Submit(submit) => submit.send(&ledger, &patient, &connection).await,
            Action::SubmitAll { file } => submit_all::submit_all(&ledger, &connection, &file).await,
            Action::Schedule(new) => new.make(&ledger, &connection).await,
            Action::Schedules => schedule::list(&ledger, &connection).await,
            Action::Unschedule { name } => {
                let known = ledger.unschedule(name.clone()).await.map_err(failed)?;
                let nothing = || Failure::new(Exit::Failed, format!("there is no schedule {name:?}"));
                known.then_some(()).ok_or_else(nothing)
            }
            Action::Status { id } => {
                let task = ledger.get(id).await.map_err(failed)?;
                show(&connection, &task);
                Ok(())
            }
            Action::Result { id } => result_of(&ledger, &patient, &connection, id).await,
            Action::Cancel { id } => {
                changed(ledger.cancel(id.clone()).await.map_err(failed)?, &id, "it has ended already")
            }
            Action::Retry { id } => {
                changed(ledger.retry(id.clone()).await.map_err(failed)?, &id, "it has not failed")
            }
            Action::List { state } => list(&ledger, &connection, state).await,
            Action::Watch => watch::watch(&client, &connection).await,
        };
        client.close().await;
        result
    }
}

impl Submit {
    async fn send(
        self,
        ledger: &TasksProxy,
        patient: &TasksProxy,
        connection: &Connection,
    ) -> Result<(), Failure> {
        let usage = |error: String| Failure::new(Exit::Usage, error);
        let (object, method) = arguments::target(&self.target).map_err(usage)?;
        let params = arguments::params(&self.arguments).map_err(usage)?;
        // A submission with a key may be repeated.
        let key = self.key.or_else(|| self.wait.then(|| Uuid::now_v7().to_string()));
        let options = Options {
            delay_ms: self.delay.map_or(0, ms),
            at_ms: self.at,
            key,
            after: self.after,
            when: if self.whatever { When::Ended } else { When::Succeeded },
            ..self.carried.options()
        };
        let submit = |ledger: &TasksProxy| {
            let (object, method) = (object.to_owned(), method.to_owned());
            let ledger = ledger.clone();
            let (params, options) = (params.clone(), Some(options.clone()));
            async move { ledger.submit(object, method, params, options).await }
        };
        let submitted = match submit(ledger).await {
            Err(error) if self.wait && is_away(&error) => submit(patient).await,
            submitted => submitted,
        };
        let id = submitted.map_err(|error| connection.failed(&error))?;
        // Whoever may submit need not be allowed to read tasks.
        if let Ok(Task { waits: Some(reason), .. }) = ledger.get(id.clone()).await {
            note(&format!("the task waits: {reason}"));
        }
        if self.wait {
            let waited = wait(patient, connection, id.clone()).await;
            if waited.as_ref().is_err_and(|failure| !failure.mentions(&id)) {
                note(&format!("submitted as {id}"));
            }
            return waited;
        }
        if connection.json {
            print_json(&json!({ "id": id }));
        } else {
            print(&id);
        }
        Ok(())
    }
}

/// Returns whether there is a ledger that may be back soon.
fn is_away(error: &CallError) -> bool {
    let is_away = matches!(error, CallError::Lost) || error.code() == Some(Code::LOST_OBJECT);
    if is_away {
        note("the ledger is away; waiting for it");
    }
    is_away
}

/// Waits for a task that somebody has submitted. A ledger that is not registered is an error, unless it has answered before.
async fn result_of(
    ledger: &TasksProxy,
    patient: &TasksProxy,
    connection: &Connection,
    id: String,
) -> Result<(), Failure> {
    match ledger.result(id.clone(), Some(0)).await {
        Ok(task) if task.state.is_ended() => print_task(connection, &task),
        Ok(_) => wait(patient, connection, id).await,
        Err(error) if is_away(&error) => wait(patient, connection, id).await,
        Err(error) => Err(connection.failed(&error)),
    }
}

async fn wait(ledger: &TasksProxy, connection: &Connection, id: String) -> Result<(), Failure> {
    let ended = ledger.result(id.clone(), None);
    tokio::pin!(ended);
    let mut shown_so_far = Line::new();
    let task = loop {
        tokio::select! {
            ended = &mut ended => break ended,
            () = tokio::time::sleep(PROGRESS_INTERVAL), if shown_so_far.wanted() => {
                match ledger.get(id.clone()).await {
                    Ok(Task { progress: Some(progress), .. }) => shown_so_far.show(&progress),
                    // The task has ended since, and this reply is the only one with its secret result.
                    Ok(task) if task.secret && task.result.is_some() => break Ok(task),
                    _ => {}
                }
            }
        }
    };
    shown_so_far.end();
    print_task(connection, &task.map_err(|error| connection.failed(&error))?)
}

/// Prints a task, or its result.
fn print_task(connection: &Connection, task: &Task) -> Result<(), Failure> {
    if connection.json {
        print_json(&json!(task));
    }
    outcome(connection, task).map_err(Failure::shown)
}

/// Prints the result of a task that succeeded; an error otherwise.
fn outcome(connection: &Connection, task: &Task) -> Result<(), Failure> {
    match task.state {
        State::Succeeded if is_told(task) => {
            let text = format!("the result of task {} is {SECRET_RETURNED}", task.id);
            Err(Failure::new(Exit::Failed, text))
        }
        State::Succeeded => {
            if !connection.json {
                print_text(&shown(&result(task)));
            }
            Ok(())
        }
        State::Cancelled => Err(Failure::new(Exit::Cancelled, format!("task {} was cancelled", task.id))),
        state if state.is_ended() => Err(Failure::new(Exit::Failed, reason(task))),
        state => {
            let text =
                format!("task {} is {} still; ask again with `rantai task result`", task.id, word(state));
            Err(Failure::new(Exit::NoAnswer, text))
        }
    }
}

/// Checks whether the ledger does not return the result of a task that succeeded, as it is secret.
fn is_told(task: &Task) -> bool {
    task.secret && task.result.is_none()
}

/// Returns the result of a task that succeeded; a missing result is null.
fn result(task: &Task) -> Value {
    task.result.clone().unwrap_or_default()
}

fn reason(task: &Task) -> String {
    let error = task.error.as_ref().and_then(|error| error["message"].as_str());
    match (task.state, error) {
        (State::Expired, _) => format!("task {} was not carried out in its time", task.id),
        (_, Some(error)) => format!("task {} failed: {error}", task.id),
        (_, None) => format!("task {} failed", task.id),
    }
}

fn word(state: State) -> String {
    shown(&json!(state))
}

fn show(connection: &Connection, task: &Task) {
    if connection.json {
        return print_json(&json!(task));
    }
    print(&format!("{}  {}.{}  {}", task.id, task.object, task.method, word(task.state)));
    let line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            print(&format!("  {name}: {value}"));
        }
    };
    line("waits", task.waits.clone());
    line("runs", Some(task.runs.to_string()));
    line("node", task.node.clone());
    line(
        "result",
        (task.state == State::Succeeded)
            .then(|| if is_told(task) { SECRET_RETURNED.to_owned() } else { shown(&result(task)) }),
    );
    line("error", task.error.as_ref().and_then(|error| error["message"].as_str()).map(ToOwned::to_owned));
}

fn changed(changed: bool, id: &str, otherwise: &str) -> Result<(), Failure> {
    if changed { Ok(()) } else { Err(Failure::new(Exit::Failed, format!("task {id}: {otherwise}"))) }
}

async fn list(ledger: &TasksProxy, connection: &Connection, state: Option<State>) -> Result<(), Failure> {
    let (mut all, mut after): (Vec<Summary>, Option<String>) = (Vec::new(), None);
    loop {
        let listed = ledger.list(state, after).await.map_err(|error| connection.failed(&error))?;
        after = listed.last().map(|task| task.id.clone());
        all.extend(listed);
        if after.is_none() {
            break;
        }
    }
    if connection.json {
        print_json(&json!(all));
    } else {
        for task in &all {
            print_wrapped(&line(task));
        }
    }
    Ok(())
}

fn line(task: &Summary) -> String {
    let owner = task.user.as_ref().map(|user| format!("  of {user}")).unwrap_or_default();
    format!("{}  {:9}  {}  {}.{}{owner}", task.id, word(task.state), task.runs, task.object, task.method)
}
