//! Shared subscriptions, by which replicas share requests, and whether a caller is notified that there is no subscriber.

use std::collections::HashSet;
use std::time::Duration;

use rantai_client::wire::name::ObjectName;
use rmqtt_codec::types::QoS;
use tokio::time::{Instant, sleep};

use super::super::item::State;
use super::super::link::{live, message};
use super::super::trouble::{Trouble, excerpt};
use super::{Finding, Probe, item};

/// Number of requests to a group of two.
const REQUESTS: usize = 40;
/// Time without a message after which the other member is read.
const TURN: Duration = Duration::from_millis(100);
/// Number of requests below which one of two members counts as left out.
const FEW: usize = REQUESTS / 10;

pub(super) async fn shared(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let (stage, object) = (probe.stage()?, probe.examination.object());
    let (one, mut first) = probe.client().await?;
    if !first.greeting().shared_subscription_available {
        return Err(Trouble::wrong("the broker announces that it has no shared subscriptions"));
    }
    let (other, mut second) = probe.client().await?;
    first.subscribe(&stage.group(&one.id, &object), live(QoS::AtLeastOnce)).await?;
    second.subscribe(&stage.group(&other.id, &object), live(QoS::AtLeastOnce)).await?;
    let (_, mut calling) = probe.client().await?;
    let topic = stage.call(&object);
    let requests: HashSet<String> = (0..REQUESTS).map(|number| number.to_string()).collect();
    calling.publish_all(requests.iter().map(|number| message(&topic, number.clone()))).await?;
    let mut seen = HashSet::new();
    let mut counts = [0; 2];
    // Waits until each request has come, and then until no more comes.
    let patience = Instant::now() + probe.patience();
    loop {
        let missing = seen.len() < REQUESTS && Instant::now() < patience;
        let before = counts;
        for (member, count) in [&mut first, &mut second].into_iter().zip(&mut counts) {
            while let Some(request) = member.receive_within(&topic, TURN).await? {
                let text = String::from_utf8_lossy(&request.payload);
                if !requests.contains(&*text) {
                    return Err(Trouble::wrong(format!(
                        "a request came as {:?}, which was not sent",
                        excerpt(&text)
                    )));
                }
                seen.insert(request.payload);
                *count += 1;
                if *count > 2 * REQUESTS {
                    break;
                }
            }
        }
        if counts.iter().sum::<usize>() > REQUESTS || !missing && counts == before {
            break;
        }
    }
    let [one, other] = counts;
    if one + other > REQUESTS {
        return Err(Trouble::wrong(format!(
            "two members of a group got {one} and {other} of {REQUESTS} requests: some are carried out twice"
        )));
    }
    if seen.is_empty() && !reads(probe, &object).await? {
        return Err(Trouble::Denied {
            action: "serve objects named doctor-*".to_owned(),
            why: String::new(),
        });
    }
    if seen.len() < REQUESTS {
        let lost = REQUESTS - seen.len();
        return Err(Trouble::wrong(format!("a group of two lost {lost} of {REQUESTS} requests")));
    }
    if one.min(other) < FEW {
        let text = format!(
            "of {REQUESTS} requests one member got {one} and the other {other}: replicas do not help"
        );
        return Ok(item::SHARED.warning(text));
    }
    Ok(item::SHARED.ok(format!("each request to one member: {one} and {other} of {REQUESTS}")))
}

/// Checks whether requests come to a subscriber outside the group: some brokers grant the subscription but do not deliver.
async fn reads(probe: Probe<'_>, object: &ObjectName) -> Result<bool, Trouble> {
    let (stage, (_, mut link)) = (probe.stage()?, probe.client().await?);
    if link.subscribe(&stage.calls(object), live(QoS::AtLeastOnce)).await.is_err() {
        return Ok(true);
    }
    let topic = stage.call(object);
    link.publish(message(&topic, "unshared")).await?;
    Ok(link.receive_within(&topic, probe.patience()).await?.is_some())
}

pub(super) async fn no_subscribers(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let object = probe.examination.object();
    let stage = probe.stage();
    let topics = stage.as_ref().map_or(&probe.examination.bus, |stage| stage);
    let (_, mut calling) = probe.client().await?;
    let patience = Instant::now() + probe.patience();
    while calling.publish(message(&topics.call(&object), "nobody")).await? {
        // Another item subscribes to everything for a moment.
        if Instant::now() >= patience {
            return Err(Trouble::wrong(
                "a caller is not told that nobody is subscribed (no PUBACK 0x10, or somebody reads everything): a call of an \
                 object that is not there takes two seconds to end",
            ));
        }
        sleep(TURN).await;
    }
    if let Ok(stage) = stage {
        let (server, mut serving) = probe.client().await?;
        serving.subscribe(&stage.group(&server.id, &object), live(QoS::AtLeastOnce)).await?;
        if !calling.publish(message(&stage.call(&object), "somebody")).await? {
            let text =
                "PUBACK 0x10 comes also where a group is subscribed: calls of objects that are there fail";
            return Ok(Finding { state: State::Fails, ..item::NO_SUBSCRIBERS.bad(text) });
        }
    }
    Ok(item::NO_SUBSCRIBERS.ok("a caller is told (PUBACK 0x10)"))
}
