//! Examination of callers: the examiner plays the object.

use std::ffi::OsString;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use rantai_client::hex;
use rantai_client::session::{Message, Publish, Unsent};
use rantai_client::wire::Properties;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::cases::{Case, Role};
use crate::check::{equal, has, present, read};
use crate::error::ExamineError;
use crate::examination::Examination;
use crate::placeholders::{Placeholders, bytes, format_payload};
use crate::steps::PATIENCE;
use crate::verdict::{Problem, Verdict};
use crate::wire::Wire;

/// Time limit for a caller to report an outcome after its last reply, unless the case has another.
const OUTCOME_WITHIN: Duration = Duration::from_secs(20);

/// Requirements on the request of a caller.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    topic: Option<String>,
    #[serde(default, deserialize_with = "present")]
    json: Option<Value>,
    binary_hex: Option<String>,
    #[serde(default)]
    user: Vec<String>,
    /// Method and parameters, if the request must be in JSON-RPC form.
    rpc: Option<Map<String, Value>>,
    #[serde(default)]
    expiry: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    #[serde(default)]
    payload: String,
    payload_hex: Option<String>,
    content_type: Option<String>,
    #[serde(default)]
    user: Vec<(String, String)>,
    /// Without Correlation Data, as a device of MQTT 3.1.1 replies.
    #[serde(default)]
    bare: bool,
    /// With Correlation Data that differs from that of the request.
    #[serde(default)]
    stray: bool,
}

/// Outcome that the caller must report.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    result_hex: Option<String>,
    code: Option<i64>,
    kind: Option<String>,
    #[serde(default)]
    data: Map<String, Value>,
    within_ms: Option<u64>,
}

/// Program under test: each line on its stdin is a call, each line on its stdout an outcome.
struct Program {
    _child: Child,
    calls: ChildStdin,
    outcomes: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(command: &[OsString]) -> Result<Self, ExamineError> {
        let (program, arguments) = command.split_first().expect("a command has at least its program");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ExamineError::Program { program: program.display().to_string(), source })?;
        let calls = child.stdin.take().expect("stdin is piped");
        let outcomes = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Ok(Self { _child: child, calls, outcomes })
    }

    async fn tell(&mut self, call: &Value) -> Result<(), String> {
        let written = self.calls.write_all(format!("{call}\n").as_bytes()).await;
        written.map_err(|error| format!("the caller has ended: {error}"))
    }

    async fn outcome(&mut self, within: Duration) -> Result<Value, String> {
        let waited = || format!("the caller told no outcome within {} ms", within.as_millis());
        let line = timeout(within, self.outcomes.next_line()).await.map_err(|_| waited())?;
        let line = line.map_err(|error| error.to_string())?.ok_or("the caller has ended")?;
        serde_json::from_str(&line).map_err(|_| format!("expected one line of JSON on stdout, got {line:?}"))
    }
}

/// Future of a call by the caller under test.
pub type Calling = Pin<Box<dyn Future<Output = Value> + Send>>;

/// Caller under test.
enum Caller<'a> {
    Program { command: &'a [OsString], running: Box<Program> },
    Function { begin: &'a dyn Fn(Value) -> Calling, running: Option<JoinHandle<Value>> },
}

impl Caller<'_> {
    async fn tell(&mut self, call: Value) -> Result<(), String> {
        match self {
            Self::Program { running, .. } => running.tell(&call).await,
            Self::Function { begin, running } => {
                *running = Some(tokio::spawn(begin(call)));
                Ok(())
            }
        }
    }

    async fn outcome(&mut self, within: Duration) -> Result<Value, String> {
        match self {
            Self::Program { running, .. } => running.outcome(within).await,
            Self::Function { running, .. } => {
                let called = running.take().expect("it was told to call");
                let told = timeout(within, called).await;
                let told = told.map_err(|_| format!("no outcome within {} ms", within.as_millis()))?;
                told.map_err(|error| error.to_string())
            }
        }
    }

    /// Restarts the program, so that a late outcome does not count for the next case.
    fn start_again(&mut self) -> Result<(), ExamineError> {
        if let Self::Program { command, running } = self {
            **running = Program::start(command)?;
        }
        Ok(())
    }
}

impl Examination {
    /// Same as [`caller`](Self::caller), for a function that makes a call and returns its outcome, both in the form of
    /// the program's lines.
    ///
    /// # Errors
    ///
    /// The broker cannot be used.
    pub async fn calling(
        &self,
        begin: &dyn Fn(Value) -> Calling,
        told: impl FnMut(&Verdict),
    ) -> Result<Vec<Verdict>, ExamineError> {
        self.callers(Caller::Function { begin, running: None }, told).await
    }

    /// Examines a caller that a command starts. The program gets a call on each line of its stdin, and writes a line
    /// with the outcome of each to stdout (docs/protocol/cases/README.md). Calls `told` after each case, and returns
    /// all verdicts.
    ///
    /// # Errors
    ///
    /// The broker cannot be used, or the program cannot be started.
    pub async fn caller(
        &self,
        command: &[OsString],
        told: impl FnMut(&Verdict),
    ) -> Result<Vec<Verdict>, ExamineError> {
        let running = Box::new(Program::start(command)?);
        self.callers(Caller::Program { command, running }, told).await
    }

    async fn callers(
        &self,
        mut caller: Caller<'_>,
        mut told: impl FnMut(&Verdict),
    ) -> Result<Vec<Verdict>, ExamineError> {
        let mut verdicts = Vec::new();
        for case in self.cases(Role::Caller)? {
            let (mut wire, presented) = self.present(&self.object, case.form.clone()).await?;
            let (root, object) = (self.root.as_str(), self.object.as_str());
            let mut names = Placeholders::new(root, object, wire.id.as_str());
            let problem = examine(&case, &mut names, &mut wire, &mut caller).await;
            presented.disappear().await?;
            wire.close().await;
            let problem = problem.err().map(|(step, text)| Problem { step, text });
            if problem.is_some() {
                caller.start_again()?;
            }
            verdicts.push(Verdict::new(&case, problem));
            told(&verdicts[verdicts.len() - 1]);
        }
        Ok(verdicts)
    }
}

/// Returns the failure, if any, with the failed step: the call (1), the request (2) or the outcome (3).
async fn examine(
    case: &Case,
    names: &mut Placeholders,
    wire: &mut Wire,
    caller: &mut Caller<'_>,
) -> Result<(), (usize, String)> {
    let mut call = case.call.clone();
    call["object"] = Value::from(names.get("object"));
    if call["deadline_ms"].is_null() {
        call["deadline_ms"] = json!(30_000);
    }
    let began = Instant::now();
    caller.tell(call).await.map_err(|text| (1, text))?;
    let request = wire.next(PATIENCE).await;
    let request =
        request.ok_or_else(|| (2, format!("no request came within {} ms", PATIENCE.as_millis())))?;
    let wanted: Wanted = parsed(&names.fill(&case.request));
    let reply_topic = check(&wanted, &request, names).map_err(|text| {
        let (topic, payload) = (&request.topic, format_payload(&request.payload));
        (2, format!("{text}; the request was {payload} on {topic}"))
    })?;
    for reply in &case.reply {
        let sent = reply_to(parsed(&names.fill(reply)), &request, &reply_topic);
        let sent = wire.publish(sent).await;
        sent.map_err(|error: Unsent| (2, format!("cannot reply on {reply_topic}: {error}")))?;
    }
    let outcome: Outcome = parsed(&case.outcome);
    let within = outcome.within_ms.map_or(OUTCOME_WITHIN, Duration::from_millis);
    let told = caller.outcome(within.saturating_sub(began.elapsed())).await.map_err(|text| (3, text))?;
    if is_wanted(&outcome, &told) {
        return Ok(());
    }
    Err((3, format!("expected the outcome {}, got {told}", case.outcome)))
}

fn parsed<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

/// Checks a request; returns its reply topic.
fn check(wanted: &Wanted, request: &Message, names: &mut Placeholders) -> Result<String, String> {
    let properties = &request.properties;
    if let Some(topic) = &wanted.topic
        && *topic != *request.topic
    {
        return Err(format!("expected a request on {topic}"));
    }
    if request.retain {
        return Err("a request is never retained".to_owned());
    }
    for name in &wanted.user {
        properties.user(name).ok_or_else(|| format!("expected the user property {name}"))?;
    }
    if wanted.expiry && properties.expiry.is_none() {
        return Err("expected a Message Expiry Interval".to_owned());
    }
    if let Some(json) = &wanted.json
        && !equal(&read(&request.payload)?, json)
    {
        return Err(format!("expected the parameters {json}"));
    }
    if let Some(digits) = &wanted.binary_hex {
        if hex(&request.payload) != *digits {
            return Err(format!("expected the bytes {digits}"));
        }
        if properties.content_type.as_deref() != Some(rantai_client::wire::BINARY) {
            return Err(format!("expected the content type {}", rantai_client::wire::BINARY));
        }
    }
    let mut reply_to = properties.response_topic.as_deref().map(str::to_owned);
    if let Some(rpc) = &wanted.rpc {
        let Value::Object(members) = read(&request.payload)? else {
            return Err("expected a JSON-RPC request".to_owned());
        };
        if !has(&members, rpc) {
            return Err(format!("expected the members {}", Value::Object(rpc.clone())));
        }
        let id = members.get("id").and_then(Value::as_str).filter(|id| id.len() >= 16);
        names.set("id", id.ok_or("expected an `id` of 16 bytes or more")?);
        let reply_member = members.get("reply_to").and_then(Value::as_str).ok_or("expected `reply_to`")?;
        if properties.correlation.is_some() {
            return Err("expected no Correlation Data".to_owned());
        }
        if reply_to.as_deref().is_some_and(|topic| topic != reply_member) {
            return Err("expected the same topic in `reply_to` and as Response Topic".to_owned());
        }
        reply_to = Some(reply_member.to_owned());
    } else if properties.correlation.as_ref().is_none_or(|correlation| correlation.len() < 16) {
        return Err("expected Correlation Data of 16 bytes or more".to_owned());
    }
    let own = format!("{}/reply/{}/", names.get("root"), names.get("object"));
    reply_to
        .filter(|topic| {
            topic.strip_prefix(&own).is_some_and(|client| !client.is_empty() && !client.contains('/'))
        })
        .ok_or_else(|| format!("expected a Response Topic {own}CLIENT"))
}

fn reply_to(reply: Reply, request: &Message, topic: &str) -> Publish {
    let payload = reply.payload_hex.map_or_else(|| reply.payload.into_bytes(), |digits| bytes(&digits));
    let correlation = match (reply.bare, reply.stray) {
        (true, _) => None,
        (_, true) => Some(bytes(Placeholders::new("", "", "").get("key")).into()),
        _ => request.properties.correlation.clone(),
    };
    let properties = Properties {
        correlation,
        content_type: reply.content_type.map(Into::into),
        user: reply.user.into_iter().collect(),
        ..Properties::default()
    };
    Publish::new(topic, payload).properties(properties).once()
}

fn is_wanted(wanted: &Outcome, told: &Value) -> bool {
    if let Some(code) = wanted.code {
        let error = &told["error"];
        let kind = wanted.kind.as_ref().is_none_or(|kind| error["data"]["kind"] == **kind);
        let data = wanted.data.iter().all(|(name, wanted)| equal(&error["data"][name.as_str()], wanted));
        return error["code"] == code && kind && data;
    }
    match (&wanted.result, &wanted.result_hex) {
        (Some(result), _) => told.get("result").is_some_and(|told| equal(told, result)),
        (None, Some(digits)) => told["result_hex"] == **digits,
        (None, None) => false,
    }
}
