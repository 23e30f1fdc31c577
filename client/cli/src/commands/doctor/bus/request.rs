//! A request and its reply: the properties that calls need.

use std::num::NonZeroU32;

use bytes::Bytes;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::PublishProperties;

use super::super::item::State;
use super::super::link::{live, message};
use super::super::trouble::Trouble;
use super::{EXPIRY, Finding, Probe, item};

/// User properties of the request: names may be repeated, and the order matters.
const USER: [(&str, &str); 3] = [("doctor", "one"), ("ttl_ms", "5000"), ("doctor", "two")];

/// Examines Response Topic, Correlation Data and User Properties in one exchange.
pub(super) async fn request(probe: Probe<'_>) -> Vec<Finding> {
    match exchange(probe).await {
        Ok(findings) => findings,
        Err(trouble) => {
            let first = item::RESPONSE_TOPIC.conclude(Err(trouble));
            let other = |item: item::Item| match first.state {
                State::Untested => item.untested(first.text.clone()),
                _ => item.unknown("the request did not come: see response-topic"),
            };
            let rest = [item::CORRELATION, item::USER_PROPERTIES].map(other);
            std::iter::once(first.clone()).chain(rest).collect()
        }
    }
}

async fn exchange(probe: Probe<'_>) -> Result<Vec<Finding>, Trouble> {
    let (stage, object) = (probe.stage()?, probe.examination.object());
    let (server, mut serving) = probe.client().await?;
    serving.subscribe(&stage.inbox(&server.id), live(QoS::AtLeastOnce)).await?;
    let (caller, mut calling) = probe.client().await?;
    calling.subscribe(&stage.replies(&caller.id), live(QoS::AtLeastOnce)).await?;
    let reply_topic = stage.reply(&object, &caller.id);
    let topic = stage.at(&server.id, &object);
    let correlation = Bytes::from_static(b"doctor-0123456789");
    let request = Publish {
        properties: Some(PublishProperties {
            response_topic: Some(reply_topic.as_str().into()),
            correlation_data: Some(correlation.clone()),
            message_expiry_interval: NonZeroU32::new(EXPIRY),
            user_properties: USER.map(|(name, value)| (name.into(), value.into())).to_vec(),
            ..PublishProperties::default()
        }),
        ..message(&topic, "request")
    };
    calling.publish(request).await?;
    let received = serving.receive(&topic, "the request").await?;
    if *received.payload != *b"request" {
        return Err(Trouble::wrong("a request comes with another payload than it was sent with"));
    }
    let received = received.properties.unwrap_or_default();
    let user: Vec<(&str, &str)> =
        received.user_properties.iter().map(|(name, value)| (&**name, &**value)).collect();
    let ours: Vec<_> =
        user.into_iter().filter(|(name, _)| USER.iter().any(|(known, _)| known == name)).collect();
    let properties = if ours == USER {
        item::USER_PROPERTIES.ok("kept, in their order")
    } else {
        item::USER_PROPERTIES.bad(format!("{} of {} are kept in their order", kept(&ours), USER.len()))
    };
    let matched = received.correlation_data == Some(correlation);
    let correlation = if matched {
        item::CORRELATION.ok("kept")
    } else {
        item::CORRELATION.bad("not kept: a caller cannot tell which request a reply is for")
    };
    let response = match received.response_topic {
        Some(topic) if *topic == *reply_topic => {
            let reply = Publish {
                properties: Some(PublishProperties {
                    correlation_data: received.correlation_data,
                    ..PublishProperties::default()
                }),
                ..message(&topic, "reply")
            };
            let replied = async {
                serving.publish(reply).await?;
                let reply = calling.receive(&reply_topic, "the reply").await?;
                if *reply.payload != *b"reply" {
                    return Err(Trouble::wrong("a reply comes with another payload than it was sent with"));
                }
                Ok(item::RESPONSE_TOPIC.ok("kept, and the reply comes to it"))
            };
            item::RESPONSE_TOPIC.conclude(replied.await)
        }
        _ => item::RESPONSE_TOPIC.bad("not kept: nobody can answer a request"),
    };
    Ok(vec![response, correlation, properties])
}

/// Returns how many of the user properties are unchanged at their position.
fn kept(received: &[(&str, &str)]) -> usize {
    USER.iter().zip(received).filter(|(sent, received)| sent == received).count()
}
