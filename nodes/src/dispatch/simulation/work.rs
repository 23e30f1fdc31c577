//! Objects of the simulated node: their methods do what their parameters say, and record every run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream;
use parking_lot::Mutex;
use rantai_client::object::{Answer, Answering, Call, Description, Forward, Method, Object};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::{MethodName, ObjectName};
use rantai_client::wire::request::Params;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Time limit of the method `limited`, in milliseconds.
const LIMIT_MS: u64 = 400;
/// Delay of every third item of a stream, in milliseconds.
const ITEM_PAUSE_MS: u64 = 30;

const METHODS: [&str; 9] =
    ["value", "limited", "never", "fails", "panics", "items", "pass", "put", "put_never"];

/// Execution of a method.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) number: usize,
    /// Correlation of its call.
    pub(super) call: Vec<u8>,
    /// Number of the node's life that executed it.
    pub(super) life: u64,
    /// Time at which its future was dropped.
    pub(super) ended: Option<Instant>,
    /// Time at which it had its result.
    pub(super) completed: Option<Instant>,
}

/// All executions of all methods, by number. A clone is the same table.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs(Arc<Mutex<Vec<Run>>>);

impl Runs {
    /// Returns the executions for a call, in order.
    pub(super) fn of(&self, call: &[u8]) -> Vec<Run> {
        self.0.lock().iter().filter(|run| run.call == call).cloned().collect()
    }

    fn begin(&self, call: Vec<u8>, life: u64) -> Live {
        let mut runs = self.0.lock();
        let number = runs.len();
        runs.push(Run { number, call, life, ended: None, completed: None });
        Live(self.clone(), number)
    }
}

/// Guard of an execution; dropped with the method's future.
struct Live(Runs, usize);

impl Live {
    fn complete(&self) {
        self.0.0.lock()[self.1].completed = Some(Instant::now());
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.0.lock()[self.1].ended = Some(Instant::now());
    }
}

/// Object in one life of its node.
pub(super) struct Worker {
    pub(super) runs: Runs,
    pub(super) life: u64,
    /// Whether its node was killed, so that nothing is executed any more.
    pub(super) is_over: Arc<AtomicBool>,
}

impl Object for Worker {
    fn description(&self) -> Description {
        let method = |name: &str| Method {
            name: name.to_owned(),
            once: name.starts_with("put"),
            stream: name == "items",
            time_limit_ms: (name == "limited").then_some(LIMIT_MS),
            ..Method::default()
        };
        Description { methods: METHODS.map(method).to_vec(), ..Description::default() }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        if self.is_over.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        let live = self.runs.begin(call.context.correlation.clone().unwrap_or_default().to_vec(), self.life);
        Box::pin(async move {
            let result = carry_out(&call, live.1).await;
            live.complete();
            if call.method.as_str() == "panics" {
                std::panic::resume_unwind(Box::new("as it was told"));
            }
            result
        })
    }
}

/// Returns an item of a stream.
pub(super) fn item(number: u64, bytes: usize) -> Value {
    json!([number, "x".repeat(bytes)])
}

async fn carry_out(call: &Call, run: usize) -> Result<Answer, Fault> {
    let Params::Positional(params) = &call.params else { return Err(Fault::failed("told", "no list")) };
    let number = |index: usize| params.get(index).and_then(Value::as_u64).unwrap_or_default();
    if call.method.as_str() != "items" && number(0) > 0 {
        sleep(Duration::from_millis(number(0))).await;
    }
    match call.method.as_str() {
        "never" | "put_never" => std::future::pending().await,
        "fails" => Err(Fault::failed("told", "as it was told").with("run", run)),
        "items" => {
            let (count, bytes) = (number(0), number(1) as usize);
            let items = stream::unfold(0, move |number| async move {
                if number % 3 == 2 {
                    sleep(Duration::from_millis(ITEM_PAUSE_MS)).await;
                }
                (number < count).then(|| (Ok::<_, Fault>(item(number, bytes)), number + 1))
            });
            call.context.try_stream(items).await
        }
        "pass" => Ok(Answer::Forward(Forward {
            to: ObjectName::new("next").expect("a name"),
            method: MethodName::new("value").expect("a name"),
            params: vec![json!(1)],
            hop: json!({"run": run}),
        })),
        _ => Ok(Answer::Value(json!({"run": run, "pad": "x".repeat(number(1) as usize)}))),
    }
}
