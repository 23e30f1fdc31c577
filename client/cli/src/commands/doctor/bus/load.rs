//! As many retained names as on a large bus.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use rantai_client::wire::name::ObjectName;
use rmqtt_codec::types::Publish;
use tokio::time::Instant;

use super::super::link::{message, with_retained};
use super::super::trouble::Trouble;
use super::{Finding, Probe, entry, item};

/// Time without a message after which all names are taken to have arrived.
const END: Duration = Duration::from_secs(2);
/// Message Expiry of the names in seconds, in case they cannot be removed.
const EXPIRY: u32 = 600;

/// Publishes `count` registry entries, and reads them.
pub(in super::super) async fn names(probe: Probe<'_>, count: usize) -> Result<Finding, Trouble> {
    let stage = probe.stage()?;
    let (publisher, mut writing) = probe.client().await?;
    let mut names = HashMap::with_capacity(count);
    for _ in 0..count {
        let object = probe.examination.object();
        let topic = stage.entry(&object, &publisher.id);
        probe.examination.traces.retained(&publisher, &topic);
        names.insert(topic, object);
    }
    let payload = |object: &ObjectName| entry(object, &publisher.id, "one of many names");
    let begun = Instant::now();
    let entries = names.iter().map(|(topic, object)| {
        let mut message = message(topic, payload(object));
        message.retain = true;
        if let Some(properties) = &mut message.properties {
            properties.message_expiry_interval = NonZeroU32::new(EXPIRY);
        }
        message
    });
    writing.publish_all(entries).await?;
    let written = begun.elapsed();
    writing.close().await;
    let (_, mut reading) = probe.client().await?;
    let begun = Instant::now();
    reading.subscribe(&stage.entries_on(&publisher.id), with_retained()).await?;
    while !names.is_empty() {
        let known = |message: &Publish| {
            names.get(&*message.topic).is_some_and(|object| message.payload == payload(object))
        };
        let Some(message) = reading.receive_where(END, known).await? else { break };
        names.remove(&*message.topic);
    }
    let read = begun.elapsed();
    reading.close().await;
    let came = count - names.len();
    if came < count {
        return Err(Trouble::wrong(format!("of {count} retained names {came} come to who subscribes")));
    }
    let rate = |time: Duration| count as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(item::RETAINED_LOAD.ok(format!(
        "{count} names: {:.0} a second written, {:.0} a second read",
        rate(written),
        rate(read)
    )))
}
