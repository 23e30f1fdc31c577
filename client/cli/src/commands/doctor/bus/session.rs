//! Sessions that outlive their connection.

use rmqtt_codec::types::QoS;

use super::super::link::{live, message};
use super::super::trouble::Trouble;
use super::{EXPIRY, Finding, Probe, item};

pub(super) async fn session(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let (stage, object) = (probe.stage()?, probe.examination.object());
    let reader = probe.examination.client();
    probe.examination.traces.session(&reader);
    let mut connect = reader.connect();
    connect.session_expiry_interval_secs = EXPIRY;
    let mut before = probe.connect(&reader, connect.clone()).await?;
    let granted = before.greeting().session_expiry_interval_secs;
    before.subscribe(&stage.inbox(&reader.id), live(QoS::AtLeastOnce)).await?;
    before.close().await;
    let (_, mut writing) = probe.client().await?;
    let topic = stage.at(&reader.id, &object);
    writing.publish(message(&topic, "missed")).await?;
    connect.clean_start = false;
    let mut after = probe.connect(&reader, connect).await?;
    if granted.is_some_and(|seconds| seconds < EXPIRY) {
        return Err(Trouble::wrong(format!(
            "a session of {EXPIRY} s was asked for, and {} s are granted",
            granted.unwrap_or_default()
        )));
    }
    if !after.greeting().session_present {
        return Err(Trouble::wrong("a session ends with its connection: what is sent meanwhile is lost"));
    }
    let missed = after.receive(&topic, "the message that was sent while the client was away").await?;
    if *missed.payload != *b"missed" {
        return Err(Trouble::wrong("what was sent while the client was away comes with another payload"));
    }
    after.close().await;
    Ok(item::SESSION.ok("kept while its client is away, with the message that was sent meanwhile"))
}
