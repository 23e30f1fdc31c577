//! Wills, by which everybody learns that a node is gone.

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
    watcher.subscribe(&topic, live(QoS::AtLeastOnce)).await?;
    // A will that is not allowed is not published, and nobody told: so the same is tried as a message.
    let mut before = probe.link(&node).await?;
    before.publish(message(&topic, will.message.clone())).await?;
    watcher.receive("a message on the topic of the will").await?;
    before.close().await;
    probe.examination.traces.session(&node);
    probe.examination.traces.retained(&node, &topic);
    let mut connect = node.connect();
    connect.last_will = Some(will);
    drop(probe.connect(connect).await?);
    let cut = Instant::now();
    watcher.receive("the will of a connection that was cut").await?;
    let ms = cut.elapsed().as_millis();
    watcher.close().await;
    Ok(item::WILL.ok(format!("comes {ms} ms after its connection was cut")))
}
