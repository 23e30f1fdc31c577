//! Costs of streams: `cargo bench -p rantai-nodes --bench streams`.
//!
//! Broker, object and caller run in one process, whose memory is that of all three. Measures the time to the first item
//! compared with a whole call, the items per second for a reader that does nothing else, and the memory for ten million
//! items (`STREAM_ITEMS`) to a reader that is slower than the object.

use std::time::{Duration, Instant};

use futures_util::stream;
use rantai_broker::{Broker, Config};
use rantai_client::object::Stream;
use rantai_client::wire::fault::Fault;
use rantai_client::{Client, interface};
use rantai_nodes::Node;

const ITEM: usize = 100;
const PAIRS: usize = 2_000;
/// Number of items after which the slow reader rests.
const REST_AFTER: u64 = 10_000;
const REST: Duration = Duration::from_millis(50);

/// Source of texts.
#[interface]
trait Source {
    /// Returns one text.
    async fn one(&self) -> Result<String, Fault>;

    /// Returns this number of texts.
    async fn many(&self, count: u64) -> Result<impl Stream<Item = String>, Fault>;
}

struct Texts;

fn text() -> String {
    "x".repeat(ITEM)
}

impl Source for Texts {
    async fn one(&self) -> Result<String, Fault> {
        Ok(text())
    }

    async fn many(&self, count: u64) -> Result<impl Stream<Item = String>, Fault> {
        Ok(stream::iter((0..count).map(|_| text())))
    }
}

/// Returns the memory of this process, in KiB.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn first_items(source: &SourceProxy) {
    let (mut whole, mut first) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let began = Instant::now();
        source.one().await.expect("a text");
        whole.push(began.elapsed());
        let began = Instant::now();
        // The first item of many: the others are on their way when it is read.
        let mut items = source.many(200).await.expect("a stream");
        items.next().await.expect("an item").expect("a text");
        first.push(began.elapsed());
        while items.next().await.is_some() {}
    }
    let (whole, first) = (median(whole), median(first));
    let ratio = first.as_secs_f64() / whole.as_secs_f64();
    println!(
        "a whole call {whole:.1?}, the first of 200 items {first:.1?} ({ratio:.2} times), medians of {PAIRS}"
    );
}

async fn read(source: &SourceProxy, count: u64, rest: Option<Duration>, what: &str) {
    let before = resident();
    let (mut most, began) = (before, Instant::now());
    let mut items = source.many(count).await.expect("a stream");
    let mut taken = 0;
    while let Some(item) = items.next().await {
        assert_eq!(item.expect("a text").len(), ITEM);
        taken += 1;
        if taken % REST_AFTER == 0 {
            most = most.max(resident());
            if let Some(rest) = rest {
                tokio::time::sleep(rest).await;
            }
        }
    }
    assert_eq!(taken, count);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{what}: {count} items of {ITEM} B in {seconds:.1} s, {:.0} a second; {} KiB before, {} KiB more at most",
        count as f64 / seconds,
        before,
        most - before,
    );
}

#[tokio::main]
async fn main() {
    let items = std::env::var("STREAM_ITEMS").ok().and_then(|items| items.parse().ok()).unwrap_or(10_000_000);
    let broker = Broker::start(Config::on_free_port()).await.expect("a broker");
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let node = Node::connect(&address).await.expect("a node");
    node.serve("source", SourceObject(Texts)).await.expect("served");
    let client = Client::connect(&address).await.expect("a client");
    let source = SourceProxy::new(&client, "source");
    first_items(&source).await;
    read(&source, items, None, "as fast as it goes").await;
    read(&source, items, Some(REST), "to a slow reader").await;
}
