//! Order, flow control and QoS 2.

use rmqtt_codec::types::{Publish, QoS};

use super::super::link::{live, message};
use super::super::trouble::{Trouble, excerpt};
use super::{Finding, Probe, SHORT_WAIT, item};

/// Number of messages whose order is checked.
const ORDERED: usize = 200;
/// Receive Maximum that the client announces, and number of messages that are sent to it.
const WINDOW: u16 = 4;
const SENT: usize = 12;

pub(super) async fn order(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let (stage, object) = (probe.stage()?, probe.examination.object());
    let (reader, mut reading) = probe.client().await?;
    reading.subscribe(&stage.inbox(&reader.id), live(QoS::AtLeastOnce)).await?;
    let (_, mut writing) = probe.client().await?;
    let topic = stage.at(&reader.id, &object);
    writing.publish_all((0..ORDERED).map(|number| message(&topic, number.to_string()))).await?;
    for number in 0..ORDERED {
        let next = reading.receive(&topic, "the next of 200 messages at QoS 1").await?;
        if *next.payload != *number.to_string().as_bytes() {
            let text = String::from_utf8_lossy(&next.payload).into_owned();
            return Err(Trouble::wrong(format!(
                "message {} of {ORDERED} at QoS 1 came where {} was due",
                excerpt(&text),
                number
            )));
        }
    }
    if let Some(again) = reading.receive_within(&topic, SHORT_WAIT).await? {
        let text = String::from_utf8_lossy(&again.payload).into_owned();
        return Err(Trouble::wrong(format!(
            "message {} at QoS 1 came again after the last one",
            excerpt(&text)
        )));
    }
    Ok(item::ORDER.ok(format!("{ORDERED} messages at QoS 1 come once each and in order")))
}

pub(super) async fn receive_maximum(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let (stage, object) = (probe.stage()?, probe.examination.object());
    let reader = probe.examination.client();
    let mut reading = probe.connect(&reader, reader.connect().receive_max(WINDOW)).await?;
    reading.hold_acknowledgements();
    reading.subscribe(&stage.inbox(&reader.id), live(QoS::AtLeastOnce)).await?;
    let (_, mut writing) = probe.client().await?;
    let topic = stage.at(&reader.id, &object);
    writing.publish_all((0..SENT).map(|number| message(&topic, number.to_string()))).await?;
    let mut open: Vec<Publish> = vec![reading.receive(&topic, "the first of several messages").await?];
    while open.len() < SENT
        && let Some(message) = reading.receive_within(&topic, SHORT_WAIT).await?
    {
        open.push(message);
    }
    if open.len() > usize::from(WINDOW) {
        return Err(Trouble::wrong(format!(
            "a client that takes {WINDOW} messages at a time was sent {} before it acknowledged any",
            open.len()
        )));
    }
    let mut received = open.len();
    while let Some(message) = open.pop() {
        reading.acknowledge(&message).await?;
        if received < SENT {
            open.insert(0, reading.receive(&topic, "a message behind the window").await?);
            received += 1;
        }
    }
    Ok(item::RECEIVE_MAXIMUM.ok(format!("kept to: {WINDOW} messages at a time")))
}

pub(super) async fn qos_2(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let (stage, object) = (probe.stage()?, probe.examination.object());
    let (reader, mut reading) = probe.client().await?;
    if reading.greeting().max_qos != QoS::ExactlyOnce {
        return Err(Trouble::wrong("the broker announces that it takes nothing at QoS 2"));
    }
    reading.subscribe(&stage.inbox(&reader.id), live(QoS::ExactlyOnce)).await?;
    let (_, mut writing) = probe.client().await?;
    let topic = stage.at(&reader.id, &object);
    let message = Publish { qos: QoS::ExactlyOnce, ..message(&topic, "once") };
    writing.publish(message).await?;
    let received = reading.receive(&topic, "a message at QoS 2").await?;
    if received.qos != QoS::ExactlyOnce {
        return Err(Trouble::wrong(format!("a message at QoS 2 comes at QoS {}", received.qos.value())));
    }
    if *received.payload != *b"once" {
        return Err(Trouble::wrong("a message at QoS 2 comes with another payload than it was sent with"));
    }
    if reading.receive_within(&topic, SHORT_WAIT).await?.is_some() {
        return Err(Trouble::wrong("a message at QoS 2 comes twice"));
    }
    Ok(item::QOS_2.ok("a message comes exactly once"))
}
