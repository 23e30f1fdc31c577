//! Progress: a method that takes a while tells its caller how far it is.
//!
//! `cargo run -p rantai --example progress`

use rantai::broker::Config;
use rantai::{Broker, Client, Context, Fault, Node, Progress, interface};

/// Number theory.
#[interface]
pub trait Primes {
    /// The number of primes below `limit`.
    async fn count(&self, limit: u32, context: Context) -> Result<u32, Fault>;
}

struct Sieve;

impl Primes for Sieve {
    async fn count(&self, limit: u32, context: Context) -> Result<u32, Fault> {
        let is_prime = |number: u32| (2..=number.isqrt()).all(|d| !number.is_multiple_of(d));
        let (mut count, step) = (0, limit.div_ceil(4).max(1));
        for number in 2..limit {
            count += u32::from(is_prime(number));
            if number.is_multiple_of(step) {
                // Goes to the caller of this call alone. It is a message like any other, so a quarter at a time and not at
                // each number.
                context.progress(number.into(), limit.into(), &format!("{count} primes so far"));
                // Lets the node send it, and others have their turn.
                tokio::task::yield_now().await;
            }
        }
        Ok(count)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let node = Node::connect(&address).await?;
    node.serve("primes", PrimesObject(Sieve)).await?;

    let client = Client::connect(&address).await?;
    // Progress arrives as an event that is published to this client. Each has the correlation of the call that it belongs to,
    // for clients that make several calls at a time.
    let mut progress = client.object("primes").upcalls::<Progress>("progress").await?;
    let printing = async {
        let mut shares = Vec::new();
        while shares.len() < 3 {
            let Progress { done, total, text } =
                progress.next().await.expect("the client is connected")?.value;
            println!("{} %: {text}", 100 * done / total);
            shares.push(100 * done / total);
        }
        Ok::<_, rantai::CallError>(shares)
    };

    let primes = PrimesProxy::new(&client, "primes");
    let (count, shares) = tokio::try_join!(primes.count(10_000), printing)?;
    assert_eq!((count, shares), (1_229, vec![25, 50, 75]));
    println!("{count} primes below 10,000");
    Ok(())
}
