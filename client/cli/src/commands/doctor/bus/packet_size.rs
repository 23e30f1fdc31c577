//! Maximum Packet Size of the broker.

use rmqtt_codec::types::QoS;

use super::super::link::{live, message};
use super::super::trouble::Trouble;
use super::{Finding, Probe, item};

/// Largest payload that is tried, in bytes: blocks of files have this size.
const WANTED_BYTES: u32 = 256 << 10;
/// Minimum that is needed, in bytes: registry entries have up to 16 KiB, and properties besides.
const MIN_BYTES: u32 = 32 << 10;
/// Room for topic and properties, in bytes.
const PACKET_OVERHEAD: u32 = 1 << 10;

pub(super) async fn packet_size(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let (identity, mut link) = probe.client().await?;
    let announced = link.greeting().max_packet_size;
    let limit = announced.unwrap_or(u32::MAX);
    if limit < MIN_BYTES {
        return Err(Trouble::wrong(format!(
            "packets of more than {limit} bytes are not taken; entries of the registry need {MIN_BYTES}"
        )));
    }
    let (stage, object) = (probe.stage()?, probe.examination.object());
    let size = WANTED_BYTES.min(limit - PACKET_OVERHEAD);
    let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let topic = stage.at(&identity.id, &object);
    link.subscribe(&stage.inbox(&identity.id), live(QoS::AtLeastOnce)).await?;
    link.publish(message(&topic, payload.clone())).await?;
    let back = link.receive(&topic, "a large message").await?;
    if *back.payload != *payload {
        return Err(Trouble::wrong(format!("a payload of {size} bytes does not come as it was sent")));
    }
    let announced = match announced {
        Some(bytes) => format!("{bytes} bytes are announced as the most"),
        None => "no limit is announced".to_owned(),
    };
    if size < WANTED_BYTES {
        return Ok(item::PACKET_SIZE.warning(format!("{announced}: files go slowly, and large replies fail")));
    }
    Ok(item::PACKET_SIZE.ok(format!("{size} bytes pass; {announced}")))
}
