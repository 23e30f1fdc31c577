//! Streams: a result that comes item by item, no faster than it is taken.
//!
//! `cargo run -p rantai --example streams`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use rantai::broker::Config;
use rantai::{Broker, Client, Fault, Node, Stream, interface};

/// Sequences of numbers.
#[interface]
pub trait Sequences {
    /// The Fibonacci numbers, up to the largest that 64 bits hold.
    #[method(read_only)]
    async fn fibonacci(&self) -> Result<impl Stream<Item = u64>, Fault>;

    /// All numbers from 0 on: the stream does not end.
    #[method(read_only)]
    async fn naturals(&self) -> Result<impl Stream<Item = u64>, Fault>;

    /// Halves a number for as long as it is even. An item may be an error, which ends the stream.
    #[method(read_only)]
    async fn halves(&self, of: u64) -> Result<impl Stream<Item = Result<u64, Fault>>, Fault>;
}

#[derive(Clone, Default)]
struct Source {
    /// How many natural numbers were asked for.
    taken: Arc<AtomicU64>,
}

impl Sequences for Source {
    async fn fibonacci(&self) -> Result<impl Stream<Item = u64>, Fault> {
        let next = |(one, two): &(u64, u64)| Some((*two, one.checked_add(*two)?));
        Ok(stream::iter(std::iter::successors(Some((0, 1)), next).map(|(one, _)| one)))
    }

    async fn naturals(&self) -> Result<impl Stream<Item = u64>, Fault> {
        let taken = self.taken.clone();
        Ok(stream::iter((0..).inspect(move |_| {
            taken.fetch_add(1, Ordering::SeqCst);
        })))
    }

    async fn halves(&self, of: u64) -> Result<impl Stream<Item = Result<u64, Fault>>, Fault> {
        Ok(stream::try_unfold(of, async |rest| match rest % 2 {
            0 => Ok(Some((rest / 2, rest / 2))),
            _ => Err(Fault::failed("odd", format!("{rest} is odd"))),
        }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let (node, source) = (Node::connect(&address).await?, Source::default());
    node.serve("sequences", SequencesObject(source.clone())).await?;

    let client = Client::connect(&address).await?;
    let sequences = SequencesProxy::new(&client, "sequences");

    let mut items = sequences.fibonacci().await?;
    let mut sum_of_even = 0;
    while let Some(number) = items.next().await {
        let number = number?;
        if number >= 4_000_000 {
            // Dropping the items below cancels the call.
            break;
        }
        sum_of_even += if number.is_multiple_of(2) { number } else { 0 };
    }
    drop(items);
    assert_eq!(sum_of_even, 4_613_732);
    println!("the even Fibonacci numbers below 4 million make {sum_of_even}");

    // The stream of the object is asked for an item only while there is room: whoever reads slowly slows it down.
    let mut items = sequences.naturals().await?;
    for expected in 0..10 {
        assert_eq!(items.next().await.expect("the stream does not end")?, expected);
    }
    let mut before = source.taken.load(Ordering::SeqCst);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = source.taken.load(Ordering::SeqCst);
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before < 1_000_000, "{before} numbers were made for a reader of 10");
    println!("10 were read, {before} made, and no more are");
    drop(items);

    let mut halves = sequences.halves(12).await?;
    assert_eq!(halves.next().await.expect("an item")?, 6);
    assert_eq!(halves.next().await.expect("an item")?, 3);
    let error = halves.next().await.expect("an item").expect_err("3 is odd");
    assert_eq!(error.fault().expect("the object's own error").data["kind"], "odd");
    assert!(halves.next().await.is_none());
    println!("12, 6, 3: {error}");
    Ok(())
}
