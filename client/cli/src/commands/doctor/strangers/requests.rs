//! Reading, answering and taking away requests to objects.

use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::PublishProperties;

use super::super::link::{Link, live, message};
use super::{Finding, Intrusion, Taken, Trouble, barred};

/// Requests of which some may vanish.
const REQUESTS: usize = 10;

/// Answers for an object: reads its requests, and replies.
pub(super) async fn answers(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, topics) = (intrusion.items.answers, &intrusion.examination().bus);
    let object = intrusion.examination().object();
    let mut stranger = match intrusion.listen(&topics.calls(&object)).await? {
        Taken::Allowed(stranger) => stranger,
        Taken::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let (owner, mut calling) = intrusion.probe.client().await?;
    let reply_topic = topics.reply(&object, &owner.id);
    let hears_replies = calling.subscribe(&topics.replies(&owner.id), live(QoS::AtLeastOnce)).await.is_ok();
    let request = Publish {
        properties: Some(PublishProperties {
            response_topic: Some(reply_topic.as_str().into()),
            ..PublishProperties::default()
        }),
        ..message(&topics.call(&object), "request")
    };
    calling.publish(request).await?;
    if stranger.receive_within(intrusion.probe.doubt()).await?.is_none() {
        return Ok(item.ok("the subscription to requests of others is granted, and nothing comes"));
    }
    let answered = hears_replies
        && matches!(barred(stranger.publish(message(&reply_topic, "forged")).await)?, Taken::Allowed(_))
        && calling.receive_within(intrusion.probe.doubt()).await?.is_some();
    let who = intrusion.who();
    Ok(item.bad(if answered {
        format!("{who} reads requests to objects and answers in their place")
    } else {
        format!("{who} reads requests to objects")
    }))
}

/// Joins the group of an object, and so takes requests away from it.
pub(super) async fn group(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, topics) = (intrusion.items.group, &intrusion.examination().bus);
    let object = intrusion.examination().object();
    let identity = intrusion.stranger();
    let mut stranger = match intrusion.enter(&identity).await? {
        Taken::Allowed(stranger) => stranger,
        Taken::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let (topic, group) = (topics.call(&object), topics.group(&identity.id, &object));
    let (_, mut calling) = intrusion.probe.client().await?;
    let tells_nobody = !calling.publish(message(&topic, "before")).await?;
    let served = serve(intrusion, &mut calling, &topic, &group).await?;
    if let Taken::Barred(why) = barred(stranger.subscribe(&group, live(QoS::AtLeastOnce)).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    let who = intrusion.who();
    let taken =
        |count| Ok(item.bad(format!("{who} joins the groups of objects and takes requests away: {count}")));
    if let Some(mut serving) = served {
        calling.publish_all((0..REQUESTS).map(|number| message(&topic, number.to_string()))).await?;
        let mut came = 0;
        while came < REQUESTS && serving.receive_within(intrusion.probe.doubt()).await?.is_some() {
            came += 1;
        }
        if came < REQUESTS {
            return taken(format!("{} of {REQUESTS}", REQUESTS - came));
        }
        return Ok(item.ok("the group is joined, and nothing goes to the new member"));
    }
    let somebody = calling.publish(message(&topic, "after")).await?;
    if stranger.receive_within(intrusion.probe.doubt()).await?.is_some() {
        return taken("it is sent them".to_owned());
    }
    match (tells_nobody, somebody) {
        (true, true) => taken("they vanish, though it is not sent them".to_owned()),
        (true, false) => Ok(item.ok("the subscription is granted, and nothing goes to it")),
        (false, _) => Ok(item.untested(
            "the subscription is granted; whether requests go to it could not be tried, as the user of this command may \
             not serve",
        )),
    }
}

/// A member of the group that may serve the object; `None` where the owner may not, or gets nothing.
async fn serve(
    intrusion: Intrusion<'_>,
    calling: &mut Link,
    topic: &str,
    group: &str,
) -> Result<Option<Link>, Trouble> {
    let (_, mut serving) = intrusion.probe.client().await?;
    if let Taken::Barred(_) = barred(serving.subscribe(group, live(QoS::AtLeastOnce)).await)? {
        return Ok(None);
    }
    calling.publish(message(topic, "served")).await?;
    let served = serving.receive_within(intrusion.probe.patience()).await?.is_some();
    Ok(served.then_some(serving))
}
