//! Wills, by which others learn that a node is lost.

use std::num::NonZeroU32;

use rantai_client::wire::entry::{NodeState, State};
use rmqtt_codec::types::QoS;
use rmqtt_codec::v5::LastWill;
use tokio::time::Instant;

use super::super::link::{live, message};
use super::super::trouble::Trouble;
use super::{EXPIRY, Finding, Probe, item};

pub(super) async fn will(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let stage = probe.stage()?;
    let node = probe.examination.client();
    let topic = stage.state(&node.id);
    let lost = serde_json::to_vec(&NodeState::new(State::Lost, "00000000")).expect("a state is JSON");
    let will = LastWill {
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: topic.as_str().into(),
        message: lost.into(),
        will_delay_interval_sec: None,
        correlation_data: None,
        message_expiry_interval: NonZeroU32::new(EXPIRY),
        content_type: None,
        user_properties: Vec::new(),
        is_utf8_payload: None,
        response_topic: None,
    };
    let (_, mut watcher) = probe.client().await?;
    if !watcher.greeting().retain_available {
        return Ok(
            item::WILL.unknown("a node's will is retained, and no retained messages are kept: see retained")
        );
    }
    watcher.subscribe(&topic, live(QoS::AtLeastOnce)).await?;
    // A will that is denied is dropped without notice, so a message to its topic is tried first.
    let mut before = probe.link(&node).await?;
    before.publish(message(&topic, "before")).await?;
    watcher.receive(&topic, "a message on the topic of the will").await?;
    before.close().await;
    probe.examination.traces.session(&node);
    probe.examination.traces.retained(&node, &topic);
    let (mut connect, payload) = (node.connect(), will.message.clone());
    connect.last_will = Some(will);
    drop(probe.connect(&node, connect).await?);
    let cut = Instant::now();
    loop {
        let received = watcher.receive(&topic, "the will of a connection that was cut").await?;
        if received.payload == payload {
            break;
        }
        // A second copy of the first message may arrive.
        if *received.payload != *b"before" {
            return Err(Trouble::wrong("a will comes with another payload than it was sent with"));
        }
    }
    let ms = cut.elapsed().as_millis();
    watcher.close().await;
    Ok(item::WILL.ok(format!("comes {ms} ms after its connection was cut")))
}
