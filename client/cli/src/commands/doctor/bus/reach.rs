//! Whether the broker answers, how fast, its product, and on which topics messages can be published and received.

use std::time::Duration;

use rmqtt_codec::types::QoS;
use tokio::time::Instant;

use super::super::examination::Stage;
use super::super::identity::Identity;
use super::super::link::{Link, live, message};
use super::super::product::Product;
use super::super::topics::Topics;
use super::super::trouble::{Trouble, Verdict};
use super::{Examination, Finding, Probe, item};

/// Number of messages whose round trip is measured.
const ROUNDS: usize = 21;
/// Maximum size of a packet of a call without parameters, with the properties that are added on the way, in bytes.
const SMALLEST_CALL: u32 = 1 << 10;

const INSTEAD: &str = "raise the broker's limits, look at what is between it and this client, or use another broker: docs/doctor.md says what is needed";

/// How far the broker can be reached.
pub(in super::super) enum Reach {
    /// Nothing answers at the address.
    Nowhere,
    /// It answers, but does not accept an MQTT 5 connection of this user, or does not respond on it.
    Refuses,
    /// It accepts connections.
    Connects,
}

/// Outcome of a message that a client sends to itself.
enum Echo {
    Back,
    /// The broker counts the client as a subscriber, and then does not deliver to it, as brokers do that check rules on
    /// delivery.
    Withheld,
    /// It did not arrive, without a reason given.
    Lost,
}

pub(in super::super) async fn reach(examination: &Examination) -> (Finding, Reach) {
    match connect(examination.probe()).await {
        Ok(finding) => (finding, Reach::Connects),
        Err(trouble) => {
            let reach = match trouble {
                Trouble::Unreachable(_)
                | Trouble::Silent(_)
                | Trouble::Missing(_)
                | Trouble::Malformed(_) => Reach::Nowhere,
                _ => Reach::Refuses,
            };
            let mut finding = item::REACHABLE.bad(trouble.to_string());
            finding.advice = trouble.advice().or(match trouble {
                Trouble::Wrong(_) | Trouble::Missing(_) => Some(INSTEAD),
                _ => None,
            });
            (finding, reach)
        }
    }
}

async fn connect(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let examination = probe.examination;
    let (_, link) = probe.client().await?;
    let features = link.features();
    if features.is_some() {
        examination.product.set(Product::Rantai);
    }
    examination.features.set(features.unwrap_or_default());
    if link.greeting().max_qos == QoS::AtMostOnce {
        return Err(Trouble::wrong("it takes nothing at QoS 1, as every call is sent"));
    }
    if let Some(limit) = link.greeting().max_packet_size.filter(|limit| *limit < SMALLEST_CALL) {
        return Err(Trouble::wrong(format!(
            "it takes packets of {limit} bytes at most, and no call is as small"
        )));
    }
    link.close().await;
    let (mut trouble, mut lost, mut withheld) = (None, false, false);
    for topics in [examination.own_topics(), examination.bus.clone()] {
        let (identity, mut link) = probe.client().await?;
        match echo(&mut link, &topics, &identity, probe).await {
            Ok(Echo::Back) => {
                let times = round_trips(&mut link, &topics, &identity, examination).await?;
                examination.product.set(Product::of(&mut link, probe.doubt()).await);
                link.close().await;
                let _ = examination.stage.set(Stage::Below(topics));
                return Ok(item::REACHABLE.ok(format!("a message is back in {}", median(times))));
            }
            Ok(Echo::Withheld) => withheld = true,
            Ok(Echo::Lost) => lost = true,
            // Waiting for it again would use up the time of another item.
            Err(error @ (Trouble::Missing(_) | Trouble::Silent(_))) => return Err(error),
            Err(error) if error.verdict() == Verdict::Untested => {}
            Err(error) => trouble = Some(error),
        }
    }
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let (_, mut link) = probe.client().await?;
    examination.product.set(Product::of(&mut link, probe.doubt()).await);
    if lost {
        let _ = examination.stage.set(Stage::Dark);
        return Ok(item::REACHABLE.unknown(
            "connections and subscriptions are accepted, and no message comes back: this user may not receive, or the broker \
             delivers nothing",
        ));
    }
    let _ = examination.stage.set(Stage::Denied);
    let mut finding = acknowledged(probe, link).await?;
    if withheld {
        finding.text.push_str(
            "; none comes back, though the broker counts a subscriber, as brokers do that look at rules when they deliver",
        );
    }
    Ok(finding)
}

/// Returns the finding for a user that cannot receive anything: the time until messages are acknowledged.
async fn acknowledged(probe: Probe<'_>, mut link: Link) -> Result<Finding, Trouble> {
    let topic = probe.examination.bus.call(&probe.examination.object());
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        match link.publish(message(&topic, "round")).await {
            Ok(_) => times.push(begun.elapsed()),
            Err(trouble) if trouble.verdict() == Verdict::Untested => {
                return Ok(
                    item::REACHABLE.ok("connections are accepted; this user may neither call nor serve")
                );
            }
            Err(trouble) => return Err(trouble),
        }
    }
    link.close().await;
    Ok(item::REACHABLE.ok(format!("a message is acknowledged in {}", median(times))))
}

/// Publishes a message that should come back to the same client.
async fn echo(
    link: &mut Link,
    topics: &Topics,
    identity: &Identity,
    probe: Probe<'_>,
) -> Result<Echo, Trouble> {
    let topic = topics.at(&identity.id, &probe.examination.object());
    let anybody_before = link.publish(message(&topic, "before")).await?;
    link.subscribe(&topics.inbox(&identity.id), live(QoS::AtLeastOnce)).await?;
    let anybody_after = link.publish(message(&topic, "echo")).await?;
    match link.receive_where(probe.patience(), |_| true).await? {
        Some(back) if *back.topic != *topic => {
            Err(Trouble::wrong("a message comes back to another topic than it was sent to"))
        }
        Some(back) if *back.payload == *b"echo" => Ok(Echo::Back),
        Some(back) if *back.payload == *b"before" => {
            Err(Trouble::wrong("a message comes to a subscription that did not exist when it was sent"))
        }
        Some(_) => Err(Trouble::wrong("a message comes back with another payload than it was sent with")),
        None if anybody_after && !anybody_before => Ok(Echo::Withheld),
        None => Ok(Echo::Lost),
    }
}

async fn round_trips(
    link: &mut Link,
    topics: &Topics,
    identity: &Identity,
    examination: &Examination,
) -> Result<Vec<Duration>, Trouble> {
    let topic = topics.at(&identity.id, &examination.object());
    let mut times = Vec::with_capacity(ROUNDS);
    for number in 0..ROUNDS {
        let payload = number.to_string();
        let begun = Instant::now();
        link.publish(message(&topic, payload.clone())).await?;
        // A second copy is the subject of another item.
        while *link.receive(&topic, "a message").await?.payload != *payload.as_bytes() {}
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// Formats the median of the times of all rounds.
fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = times[times.len() / 2].as_secs_f64() * 1000.0;
    format!("{ms:.2} ms (median of {})", times.len())
}
