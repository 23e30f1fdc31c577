//! Reading what is for others.

use bytes::Bytes;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::PublishProperties;
use tokio::time::Instant;

use super::super::identity::Identity;
use super::super::link::{Link, live, message, with_retained};
use super::{Finding, Intrusion, Taken, Trouble, barred};

/// Reads the replies to another client.
pub(super) async fn replies(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, topics) = (intrusion.items.replies, &intrusion.examination().bus);
    let owner = intrusion.examination().client();
    let mut stranger = match intrusion.listen(&topics.replies(&owner.id)).await? {
        Taken::Allowed(stranger) => stranger,
        Taken::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    if let Err(trouble) = answer(intrusion, &owner).await {
        return Ok(item.untested(format!(
            "the subscription to replies of others is granted; whether they come could not be tried: {trouble}"
        )));
    }
    if stranger.receive_within(intrusion.probe.doubt()).await?.is_none() {
        return Ok(item.ok("the subscription is granted, and nothing comes"));
    }
    Ok(item.bad(format!("{} reads replies to others", intrusion.who())))
}

/// Has a reply to the owner published: in answer to a request of its own, as rules may ask for.
async fn answer(intrusion: Intrusion<'_>, owner: &Identity) -> Result<(), Trouble> {
    let (probe, topics, object) =
        (intrusion.probe, &intrusion.examination().bus, intrusion.examination().object());
    let reply_topic = topics.reply(&object, &owner.id);
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
    let request = message(&topics.at(&server.id, &object), "request");
    calling.publish(with_correlation(request, Some(&reply_topic))).await?;
    let silent = || Trouble::wrong("the request did not come to its object");
    serving.receive_within(probe.patience()).await?.ok_or_else(silent)?;
    serving.publish(with_correlation(message(&reply_topic, "reply"), None)).await?;
    calling
        .receive_within(probe.patience())
        .await?
        .ok_or_else(|| Trouble::wrong("the reply did not come"))?;
    Ok(())
}

/// Subscribes to everything.
pub(super) async fn everything(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, topics) = (intrusion.items.everything, &intrusion.examination().bus);
    let mut stranger = match intrusion.listen("#").await? {
        Taken::Allowed(stranger) => stranger,
        Taken::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let (owner, mut link) = intrusion.probe.client().await?;
    let topic = topics.at(&owner.id, &intrusion.examination().object());
    link.publish(message(&topic, "for the owner")).await?;
    link.close().await;
    // Whatever else there is on the broker comes, too, and is not looked at.
    let end = Instant::now() + intrusion.probe.doubt();
    while let Some(message) = stranger.receive_within(end.saturating_duration_since(Instant::now())).await? {
        if *message.topic == *topic {
            return Ok(item.bad(format!("{} reads every message by subscribing to #", intrusion.who())));
        }
    }
    Ok(item.ok("the subscription to # is granted, and nothing of others comes"))
}

/// Reads what the broker says of itself.
pub(super) async fn system(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let item = intrusion.items.system;
    let mut stranger = match intrusion.enter(&intrusion.stranger()).await? {
        Taken::Allowed(stranger) => stranger,
        Taken::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    if let Taken::Barred(why) = barred(stranger.subscribe("$SYS/#", with_retained()).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    if stranger.receive_within(intrusion.probe.doubt()).await?.is_none() {
        return Ok(item.ok("the subscription to $SYS/# is granted, and nothing comes"));
    }
    Ok(item.bad(format!(
        "{} reads $SYS: the broker's version, and how many clients and messages",
        intrusion.who()
    )))
}
