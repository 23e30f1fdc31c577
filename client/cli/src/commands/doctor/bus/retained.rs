//! Retained messages, of which the registry consists, and their expiry.

use std::num::NonZeroU32;
use std::time::Duration;

use rmqtt_codec::types::Publish;
use tokio::time::sleep;

use super::super::identity::Identity;
use super::super::link::{Link, message, with_retained};
use super::super::trouble::Trouble;
use super::{EXPIRY, Finding, Probe, SHORT_WAIT, entry, item};

/// Time after which a message with an expiry of one second is gone, even if seconds are rounded up.
const EXPIRED: Duration = Duration::from_millis(2200);

/// Creates a retained message of the examination, which expires.
fn retained_message(topic: &str, payload: impl Into<bytes::Bytes>, expiry: u32) -> Publish {
    let mut message = message(topic, payload);
    message.retain = true;
    if let Some(properties) = &mut message.properties {
        properties.message_expiry_interval = NonZeroU32::new(expiry);
    }
    message
}

pub(super) async fn retained(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let (stage, object) = (probe.stage()?, probe.examination.object());
    let publisher = probe.examination.client();
    keeps_retained(&probe.link(&publisher).await?)?;
    let (topic, filter) = (stage.entry(&object, &publisher.id), stage.entries_of(&object));
    probe.examination.traces.retained(&publisher, &topic);
    for text in ["first", "second"] {
        let payload = entry(&object, &publisher.id, text);
        publish(probe, &publisher, retained_message(&topic, payload.clone(), EXPIRY)).await?;
        let (_, mut reader) = probe.client().await?;
        reader.subscribe(&filter, with_retained()).await?;
        let kept = reader.receive_within(&topic, probe.patience()).await?;
        let kept =
            kept.ok_or_else(|| Trouble::wrong("a retained message does not come to who subscribes later"))?;
        if kept.payload != payload {
            return Err(Trouble::wrong(if text == "first" {
                "a retained message comes with another payload than it was sent with"
            } else {
                "a retained message is not replaced by the next one"
            }));
        }
        if !kept.retain {
            return Err(Trouble::wrong("a retained message comes without the retain flag"));
        }
        reader.close().await;
    }
    publish(probe, &publisher, retained_message(&topic, "", EXPIRY)).await?;
    let (_, mut reader) = probe.client().await?;
    reader.subscribe(&filter, with_retained()).await?;
    if reader.receive_within(&topic, SHORT_WAIT).await?.is_some() {
        return Err(Trouble::wrong("an empty payload does not remove a retained message"));
    }
    reader.close().await;
    Ok(item::RETAINED.ok("kept after their publisher has gone, replaced, and removed"))
}

/// Checks whether the broker announces that it supports retained messages.
fn keeps_retained(link: &Link) -> Result<(), Trouble> {
    if link.greeting().retain_available {
        return Ok(());
    }
    Err(Trouble::wrong("the broker announces that it keeps no retained messages"))
}

/// Publishes on a connection that is closed afterwards.
async fn publish(probe: Probe<'_>, publisher: &Identity, message: Publish) -> Result<(), Trouble> {
    let mut link: Link = probe.link(publisher).await?;
    link.publish(message).await?;
    link.close().await;
    Ok(())
}

pub(super) async fn expiry(probe: Probe<'_>) -> Result<Finding, Trouble> {
    // The wait does not depend on the broker, and is not part of the item's time limit.
    let probe = Probe { deadline: probe.deadline + EXPIRED, ..probe };
    let stage = probe.stage()?;
    let (publisher, mut link) = probe.client().await?;
    if !link.greeting().retain_available {
        return Ok(item::EXPIRY.unknown("no retained messages are kept: see retained"));
    }
    let [short, long] = [1, EXPIRY].map(|expiry| (probe.examination.object(), expiry));
    for (object, expiry) in [&short, &long] {
        let topic = stage.entry(object, &publisher.id);
        probe.examination.traces.retained(&publisher, &topic);
        let payload = entry(object, &publisher.id, "expires");
        link.publish(retained_message(&topic, payload, *expiry)).await?;
    }
    link.close().await;
    sleep(EXPIRED).await;
    let (_, mut reader) = probe.client().await?;
    reader.subscribe(&stage.entries_on(&publisher.id), with_retained()).await?;
    let mut kept = Vec::new();
    // One of them should come; the other would come soon after it.
    let mut wait = probe.patience();
    while kept.len() < 4
        && let Some(message) = reader.receive_where(wait, |_| true).await?
    {
        kept.push(message);
        wait = SHORT_WAIT;
    }
    let of = |object| kept.iter().find(|message| *message.topic == *stage.entry(object, &publisher.id));
    if of(&short.0).is_some() {
        return Err(Trouble::wrong("a message that has expired is delivered"));
    }
    let Some(long) = of(&long.0) else {
        return Ok(item::EXPIRY.unknown("retained messages do not come: see retained"));
    };
    let left = long.properties.as_ref().and_then(|properties| properties.message_expiry_interval);
    match left.map(NonZeroU32::get) {
        Some(0..EXPIRY) => Ok(item::EXPIRY.ok("messages expire, and their remaining time is passed on")),
        Some(_) => {
            Err(Trouble::wrong("the expiry that is passed on is not lowered by the time a message waited"))
        }
        None => Err(Trouble::wrong("the expiry of a message is not passed on")),
    }
}
