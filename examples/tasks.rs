//! Tasks: calls that are stored, made when their object is there, tried again, and joined to graphs.
//!
//! `cargo run -p rantai --example tasks`

use std::sync::atomic::{AtomicU32, Ordering};

use rantai::broker::Config;
use rantai::tasks::ledger::{Submission, TasksProxy};
use rantai::tasks::options::Options;
use rantai::tasks::task::{State, Task};
use rantai::tasks::{Ledger, Limits};
use rantai::{Broker, Client, Fault, Node, interface};
use serde_json::{Value, json};

/// Pages of books.
#[interface]
pub trait Pages {
    /// The number of words on some pages.
    #[method(idempotent)]
    async fn count(&self, pages: Vec<String>) -> Result<u64, Fault>;

    /// The sum of numbers. Its first two attempts fail.
    #[method(idempotent)]
    async fn sum(&self, numbers: Vec<u64>) -> Result<u64, Fault>;
}

#[derive(Default)]
struct Reader {
    attempts: AtomicU32,
}

impl Pages for Reader {
    async fn count(&self, pages: Vec<String>) -> Result<u64, Fault> {
        Ok(pages.iter().map(|page| page.split_whitespace().count() as u64).sum())
    }

    async fn sum(&self, numbers: Vec<u64>) -> Result<u64, Fault> {
        if self.attempts.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(Fault::failed("tired", "not now"));
        }
        Ok(numbers.iter().sum())
    }
}

/// Waits for the end of a task.
async fn end(tasks: &TasksProxy, id: &str) -> Result<Task, rantai::CallError> {
    loop {
        let task = tasks.result(id.to_owned(), Some(10_000)).await?;
        if task.state.is_ended() {
            return Ok(task);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);

    // The ledger is an object like any other, named `tasks`. A task is in its file before the submission is answered, and calls
    // are made by a connection of its own.
    let folder = tempfile::tempdir()?;
    let ledger = Ledger::open(Some(&folder.path().join("tasks.redb")), Limits::default())?;
    let node = Node::connect(&address).await?;
    node.serve("tasks", ledger.start(Client::builder(address.parse()?)).await?).await?;

    let client = Client::connect(&address).await?;
    let tasks = TasksProxy::new(&client, "tasks");

    // Nobody serves `pages` yet: the task waits.
    let pages = json!([["satu dua", "tiga"]]);
    let id = tasks.submit("pages".to_owned(), "count".to_owned(), Some(pages), None).await?;
    assert!(!tasks.get(id.clone()).await?.state.is_ended());
    println!("task {id} waits for its object");

    let worker = Node::connect(&address).await?;
    worker.serve("pages", PagesObject(Reader::default())).await?;
    let task = end(&tasks, &id).await?;
    assert_eq!((task.state, task.result), (State::Succeeded, Some(json!(3))));
    println!("its object is there: 3 words");

    // Three calls of one submission: the last begins when the two before it have succeeded, and gets their results.
    let call = |method: &str, params: Value, options: Options| Submission {
        object: "pages".to_owned(),
        method: method.to_owned(),
        params,
        options,
    };
    let after = vec!["#0".to_owned(), "#1".to_owned()];
    let patient = Options { after, retries: 5, backoff_ms: 10, ..Options::default() };
    let ids = tasks
        .submit_all(vec![
            call("count", json!([["a b c d"]]), Options::default()),
            call("count", json!([["e f", "g"]]), Options::default()),
            call("sum", json!([{"$result": "all"}]), patient),
        ])
        .await?;
    let task = end(&tasks, &ids[2]).await?;
    assert_eq!((task.state, task.result, task.runs), (State::Succeeded, Some(json!(7)), 3));
    println!("4 + 3 words, after {} attempts: 7", task.runs);

    // A task that has not begun can be cancelled.
    let later = Options { delay_ms: 60_000, ..Options::default() };
    let id = tasks.submit("pages".to_owned(), "count".to_owned(), Some(json!([[]])), Some(later)).await?;
    assert!(tasks.cancel(id.clone()).await?);
    assert_eq!(tasks.get(id).await?.state, State::Cancelled);
    Ok(())
}
