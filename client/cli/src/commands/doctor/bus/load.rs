//! As many retained names as a large bus has.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::super::link::{message, with_retained};
use super::super::trouble::Trouble;
use super::{Finding, Probe, entry, item};

/// Nothing more comes once nothing has come for so long.
const END: Duration = Duration::from_secs(2);
/// Seconds after which the names expire, if they cannot be removed.
const EXPIRY: u32 = 600;

/// Publishes so many entries of the registry, and reads them.
pub(in super::super) async fn names(probe: Probe<'_>, count: usize) -> Result<Finding, Trouble> {
    let stage = probe.stage()?;
    let (publisher, mut writing) = probe.client().await?;
    let names: Vec<_> = (0..count).map(|_| probe.examination.object()).collect();
    for object in &names {
        probe.examination.traces.retained(&publisher, &stage.entry(object, &publisher.id));
    }
    let begun = Instant::now();
    let entries = names.iter().map(|object| {
        let payload = entry(object, &publisher.id, "one of many names");
        let mut message = message(&stage.entry(object, &publisher.id), payload);
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
    let mut came = 0;
    while came < count && reading.receive_within(END).await?.is_some() {
        came += 1;
    }
    let read = begun.elapsed();
    reading.close().await;
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
