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
/// A stage on which nothing comes for so long is none.
const STAGE_WAIT: Duration = Duration::from_secs(1);

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
                Trouble::Unreachable(_) | Trouble::Silent(_) => Reach::Nowhere,
                _ => Reach::Refuses,
            };
            (item::REACHABLE.bad(trouble.to_string()), reach)
        }
    }
}

async fn connect(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let examination = probe.examination;
    let (_, mut link) = probe.client().await?;
    let product = Product::of(&mut link).await;
    examination.product.set(product);
    examination.features.set(link.features().unwrap_or_default());
    link.close().await;
    let stages = [examination.own_topics(), examination.bus.clone()];
    for topics in stages {
        let (identity, mut link) = probe.client().await?;
        if echo(&mut link, &topics, &identity, examination).await.is_err() {
            continue;
        }
        let median = median(&mut link, &topics, &identity, examination).await?;
        link.close().await;
        let _ = examination.stage.set(Some(topics));
        let ms = median.as_secs_f64() * 1000.0;
        return Ok(item::REACHABLE.ok(format!("a message is back in {ms:.2} ms (median of {ROUNDS})")));
    }
    let _ = examination.stage.set(None);
    Ok(item::REACHABLE.ok("connections are accepted"))
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
    let back = link.receive_within(STAGE_WAIT).await?;
    back.map(drop).ok_or(Trouble::Silent("a message"))
}

async fn median(
    link: &mut Link,
    topics: &Topics,
    identity: &Identity,
    examination: &Examination,
) -> Result<Duration, Trouble> {
    let topic = topics.at(&identity.id, &examination.object());
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        link.publish(message(&topic, "round")).await?;
        link.receive("a message").await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}
