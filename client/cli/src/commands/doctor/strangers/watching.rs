//! Reading messages that are for others.

use bytes::Bytes;
use rantai_client::wire::name::ObjectName;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::PublishProperties;

use super::super::identity::Identity;
use super::super::link::{Link, live, message, with_retained};
use super::super::trouble::Verdict;
use super::{AttemptOutcome, Finding, Intrusion, Trouble, barred};

/// Reads the replies to another client.
pub(super) async fn replies(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, topics) = (intrusion.items.replies, &intrusion.examination().bus);
    let owner = intrusion.examination().client();
    let object = intrusion.examination().object();
    let reply_topic = topics.reply(&object, &owner.id);
    let mut stranger = match intrusion.listen(&topics.replies(&owner.id), QoS::AtLeastOnce).await? {
        AttemptOutcome::Allowed(stranger) => stranger,
        AttemptOutcome::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let answered = answer(intrusion, &owner, &object, &reply_topic).await;
    if stranger.receive_within(&reply_topic, intrusion.probe.doubt()).await?.is_some() {
        return Ok(item.bad(format!("{} reads replies to others", intrusion.who())));
    }
    let granted = "the subscription to replies of others is granted";
    Ok(match answered {
        Ok(()) => {
            item.ok(format!("{granted}, and nothing comes to it, but to {}", intrusion.examination().who()))
        }
        Err(trouble) if trouble.verdict() == Verdict::Untested || intrusion.may_not_serve() => {
            item.untested(format!("{granted}; whether they come could not be tried: {trouble}"))
        }
        Err(trouble) => item.unknown(format!("{granted}, and {trouble}")),
    })
}

/// Has a reply to the owner published: in answer to a request of the owner, as access rules may require.
async fn answer(
    intrusion: Intrusion<'_>,
    owner: &Identity,
    object: &ObjectName,
    reply_topic: &str,
) -> Result<(), Trouble> {
    let (probe, topics) = (intrusion.probe, &intrusion.examination().bus);
    let with_correlation = |message: Publish, response_topic: Option<&str>| Publish {
        properties: Some(PublishProperties {
            response_topic: response_topic.map(Into::into),
            correlation_data: Some(Bytes::from_static(b"doctor-0123456789")),
            ..PublishProperties::default()
        }),
        ..message
    };
    let mut calling: Link = probe.link(owner).await?;
    calling.subscribe(&topics.replies(&owner.id), live(QoS::AtLeastOnce)).await?;
    let (server, mut serving) = probe.client().await?;
    serving.subscribe(&topics.inbox(&server.id), live(QoS::AtLeastOnce)).await?;
    let request_topic = topics.at(&server.id, object);
    calling.publish(with_correlation(message(&request_topic, "request"), Some(reply_topic))).await?;
    let silent = || Trouble::wrong("the request did not come to its object");
    serving.receive_within(&request_topic, probe.patience()).await?.ok_or_else(silent)?;
    serving.publish(with_correlation(message(reply_topic, "reply"), None)).await?;
    let reply = calling.receive_within(reply_topic, probe.patience()).await?;
    reply.map(drop).ok_or_else(|| Trouble::wrong("the reply did not come to its caller"))
}

/// Subscribes to everything.
pub(super) async fn everything(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, topics) = (intrusion.items.everything, &intrusion.examination().bus);
    // Tried first whether the stranger may connect at all, as the owner may be denied to serve.
    let mut stranger = match intrusion.enter(&intrusion.stranger()).await? {
        AttemptOutcome::Allowed(stranger) => stranger,
        AttemptOutcome::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let (owner, mut link) = intrusion.probe.client().await?;
    let topic = topics.at(&owner.id, &intrusion.examination().object());
    let tells_nobody = !link.publish(message(&topic, "before")).await?;
    // At QoS 0, as no in-flight window delays messages when everything on the broker comes too.
    if let AttemptOutcome::Barred(why) = barred(stranger.subscribe("#", live(QoS::AtMostOnce)).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    let is_counted = link.publish(message(&topic, "for the owner")).await? && tells_nobody;
    if stranger.receive_within(&topic, intrusion.probe.doubt()).await?.is_some() {
        return Ok(item.bad(format!("{} reads every message by subscribing to #", intrusion.who())));
    }
    let filter = topics.inbox(&owner.id);
    intrusion.nothing_came(item, is_counted, (&mut link, &filter), &topic, &mut stranger).await
}

/// Reads the broker's own statistics.
pub(super) async fn system(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let item = intrusion.items.system;
    let mut stranger = match intrusion.enter(&intrusion.stranger()).await? {
        AttemptOutcome::Allowed(stranger) => stranger,
        AttemptOutcome::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    if let AttemptOutcome::Barred(why) = barred(stranger.subscribe("$SYS/#", with_retained()).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    let system = |message: &Publish| message.topic.starts_with("$SYS/");
    if stranger.receive_where(intrusion.probe.doubt(), system).await?.is_none() {
        return Ok(item.ok("the subscription to $SYS/# is granted, and nothing comes"));
    }
    Ok(item.bad(format!(
        "{} reads $SYS: the broker's version, and how many clients and messages",
        intrusion.who()
    )))
}
