//! Whether the broker answers, how fast, which one it is, and where messages can go to and fro.

use std::time::Duration;

use rmqtt_codec::types::QoS;
use tokio::time::Instant;

use super::super::identity::Identity;
use super::super::link::{Link, live, message};
use super::super::product::Product;
use super::super::topics::Topics;
use super::super::trouble::Trouble;
use super::{Examination, Finding, Probe, item};

/// Messages whose way to itself and back is measured.
const ROUNDS: usize = 21;

/// How far the broker can be reached.
pub(in super::super) enum Reach {
    /// Nobody answers there.
    Nowhere,
    /// It answers, but takes no MQTT 5 connection of this user.
    Refuses,
    /// It takes connections.
    Connects,
}

pub(in super::super) async fn reach(examination: &Examination) -> (Finding, Reach) {
    match connect(examination.probe()).await {
        Ok(finding) => (finding, Reach::Connects),
        Err(trouble) => {
            let reach = match trouble {
                Trouble::Unreachable(_) | Trouble::Silent(_) | Trouble::Malformed(_) => Reach::Nowhere,
                _ => Reach::Refuses,
            };
            (item::REACHABLE.conclude(Err(trouble)), reach)
        }
    }
}

async fn connect(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let examination = probe.examination;
    let (_, mut link) = probe.client().await?;
    let product = Product::of(&mut link, probe.doubt()).await;
    examination.product.set(product);
    examination.features.set(link.features().unwrap_or_default());
    link.close().await;
    let stages = [examination.own_topics(), examination.bus.clone()];
    for topics in stages {
        let (identity, mut link) = probe.client().await?;
        if echo(&mut link, &topics, &identity, examination).await.is_err() {
            continue;
        }
        let times = round_trips(&mut link, &topics, &identity, examination).await?;
        link.close().await;
        let _ = examination.stage.set(Some(topics));
        return Ok(item::REACHABLE.ok(format!("a message is back in {}", median(times))));
    }
    let _ = examination.stage.set(None);
    acknowledged(probe).await
}

/// What can be said where the user receives nothing.
async fn acknowledged(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let topic = probe.examination.bus.call(&probe.examination.object());
    let (_, mut link) = probe.client().await?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        if link.publish(message(&topic, "round")).await.is_err() {
            return Ok(item::REACHABLE.ok("connections are accepted"));
        }
        times.push(begun.elapsed());
    }
    link.close().await;
    Ok(item::REACHABLE.ok(format!("a message is acknowledged in {}", median(times))))
}

/// Has a message of the client's come back to it, once.
async fn echo(
    link: &mut Link,
    topics: &Topics,
    identity: &Identity,
    examination: &Examination,
) -> Result<(), Trouble> {
    link.subscribe(&topics.inbox(&identity.id), live(QoS::AtLeastOnce)).await?;
    link.publish(message(&topics.at(&identity.id, &examination.object()), "echo")).await?;
    let back = link.receive_within(examination.probe().patience()).await?;
    back.map(drop).ok_or(Trouble::Silent("a message"))
}

async fn round_trips(
    link: &mut Link,
    topics: &Topics,
    identity: &Identity,
    examination: &Examination,
) -> Result<Vec<Duration>, Trouble> {
    let topic = topics.at(&identity.id, &examination.object());
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        link.publish(message(&topic, "round")).await?;
        link.receive("a message").await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// The median of as many times as there are rounds, for people.
fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = times[times.len() / 2].as_secs_f64() * 1000.0;
    format!("{ms:.2} ms (median of {})", times.len())
}
