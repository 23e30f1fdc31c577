//! Conformance of this library to PROTOCOL.md, by the cases of docs/protocol/cases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use rantai_client::object::{Binary, Stream};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::ObjectName;
use rantai_client::{Client, Content, hex, interface};
use rantai_conformance::{Calling, Examination, Level, Verdict};
use rantai_site::config::{Config, Configured};
use serde_json::{Value, json};

use super::support::{Bus, bus};
use super::users::{ADMIN, log_in};

/// Object that the cases require.
#[interface]
pub(crate) trait Cases {
    /// The sum of `a` and `b`.
    async fn add(&self, a: f64, b: f64) -> Result<f64, Fault>;
    /// Returns the integer.
    async fn whole(&self, number: i64) -> Result<i64, Fault>;
    /// Returns the text.
    async fn say(&self, text: String) -> Result<String, Fault>;
    /// Returns the value.
    async fn echo(&self, value: Option<Value>) -> Result<Value, Fault>;
    /// Fails with this kind.
    async fn fail(&self, kind: String) -> Result<(), Fault>;
    /// Returns the number of bytes.
    async fn size(&self, data: Binary) -> Result<usize, Fault>;
    /// Returns this number of bytes.
    async fn blob(&self, count: usize) -> Result<Binary, Fault>;
    /// Waits for this time, in milliseconds.
    async fn wait(&self, ms: u64) -> Result<(), Fault>;
    /// Returns how many calls of `wait` have begun.
    async fn runs(&self) -> Result<Value, Fault>;
    /// Streams the numbers below `to`.
    async fn count(&self, to: u64) -> Result<impl Stream<Item = u64>, Fault>;
}

#[derive(Default)]
struct Served {
    runs: AtomicU64,
}

impl Cases for Served {
    async fn add(&self, a: f64, b: f64) -> Result<f64, Fault> {
        Ok(a + b)
    }

    async fn whole(&self, number: i64) -> Result<i64, Fault> {
        Ok(number)
    }

    async fn say(&self, text: String) -> Result<String, Fault> {
        Ok(text)
    }

    async fn echo(&self, value: Option<Value>) -> Result<Value, Fault> {
        Ok(value.unwrap_or_default())
    }

    async fn fail(&self, kind: String) -> Result<(), Fault> {
        Err(Fault::failed(&kind, "as asked"))
    }

    async fn size(&self, data: Binary) -> Result<usize, Fault> {
        Ok(data.0.len())
    }

    async fn blob(&self, count: usize) -> Result<Binary, Fault> {
        Ok(Binary(vec![b'x'; count].into()))
    }

    async fn wait(&self, ms: u64) -> Result<(), Fault> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(())
    }

    async fn runs(&self) -> Result<Value, Fault> {
        Ok(json!({"runs": self.runs.load(Ordering::Relaxed)}))
    }

    async fn count(&self, to: u64) -> Result<impl Stream<Item = u64>, Fault> {
        Ok(stream::iter(0..to))
    }
}

pub(crate) fn examination(bus: &Bus, object: &str) -> Examination {
    let address = log_in(bus.address.clone(), ADMIN);
    Examination::new(address, bus.root.clone(), ObjectName::new(object).expect("a name"))
}

pub(crate) fn assert_passed(verdicts: &[Verdict], at_least: usize) {
    let failed: Vec<_> = verdicts.iter().filter(|verdict| verdict.problem.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(verdicts.len() >= at_least, "{} cases", verdicts.len());
}

#[tokio::test]
async fn a_node_of_this_library_is_a_full_node() {
    let bus = bus().await;
    let node = bus.node().await;
    node.serve("cases", CasesObject(Served::default())).await.expect("served");
    let verdicts = examination(&bus, "cases").level(Level::Full).node(|_| ()).await.expect("examined");
    assert_passed(&verdicts, 55);
}

/// Makes the call of a case, and returns its outcome in the form that a program prints.
async fn called(client: Client, call: Value) -> Value {
    let object = call["object"].as_str().expect("a name").to_owned();
    let deadline = Duration::from_millis(call["deadline_ms"].as_u64().expect("milliseconds"));
    let request = client.object(&object).deadline(deadline).request(call["method"].as_str().expect("a name"));
    let request = match call["params_hex"].as_str() {
        Some(_) => request.binary(vec![0, 0xff, 0x7b]),
        None => request.params(&call["params"]),
    };
    match request.send().await.map(|response| response.outcome) {
        Ok(Ok(Content::Value(value))) => json!({"result": value}),
        Ok(Ok(Content::Binary(bytes))) => json!({"result_hex": hex(&bytes)}),
        Ok(Err(fault)) => json!({"error": fault}),
        Err(error) => json!({"error": error.fault().expect("an error of the contract")}),
    }
}

#[tokio::test]
async fn a_client_of_this_library_is_a_caller() {
    let bus = bus().await;
    let client = bus.client().await;
    let begin = move |call| Box::pin(called(client.clone(), call)) as Calling;
    let verdicts = examination(&bus, "cases").calling(&begin, |_| ()).await.expect("examined");
    assert_passed(&verdicts, 16);
}

const CHAIN: &str = r#"
[[chain]]
prefix = "cases."
name = "one"
next = "two"
passing = "passed {name}"
closing = "ended at {name}"

[[chain]]
prefix = "cases."
name = "two"
next = "one"
passing = "passed {name}"
closing = "ended at {name}"
"#;

#[tokio::test]
async fn a_link_of_this_library_is_a_link() {
    let bus = bus().await;
    let node = bus.node().await;
    let objects = Config::from_toml(CHAIN, "it")
        .and_then(|config| config.objects("it", &(Arc::new(|_: &str| {}) as _)));
    let link = objects.expect("objects").into_iter().find(|object| object.name.as_str() == "cases.one");
    let Configured { name, object, options, .. } = link.expect("the first link");
    node.serve_with(name.as_str(), object, options).await.expect("served");
    let next = ObjectName::new("cases.two").expect("a name");
    let examination = examination(&bus, "cases.one").prefix("cases.");
    assert_passed(&examination.chain(&next, |_| ()).await.expect("examined"), 8);
}
