//! Reading, answering and intercepting requests to objects.

use std::collections::HashSet;
use std::time::Duration;

use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::PublishProperties;
use tokio::time::{Instant, sleep};

use super::super::link::{Link, live, message};
use super::{AttemptOutcome, Finding, Intrusion, Item, Trouble, barred};

/// Number of requests, of which some may vanish.
const REQUESTS: usize = 10;
/// Interval at which it is checked whether there are subscribers.
const TURN: Duration = Duration::from_millis(50);

/// Answers in the place of an object: reads its requests, and replies.
pub(super) async fn answers(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, topics) = (intrusion.items.answers, &intrusion.examination().bus);
    let object = intrusion.examination().object();
    let (topic, filter) = (topics.call(&object), topics.calls(&object));
    // Tried first whether the stranger may connect at all, as the owner may be denied to serve.
    let mut stranger = match intrusion.enter(&intrusion.stranger()).await? {
        AttemptOutcome::Allowed(stranger) => stranger,
        AttemptOutcome::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let (owner, mut calling) = intrusion.probe.client().await?;
    let tells_nobody = !calling.publish(message(&topic, "before")).await?;
    if let AttemptOutcome::Barred(why) = barred(stranger.subscribe(&filter, live(QoS::AtLeastOnce)).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    let reply_topic = topics.reply(&object, &owner.id);
    let hears_replies = calling.subscribe(&topics.replies(&owner.id), live(QoS::AtLeastOnce)).await.is_ok();
    let request = Publish {
        properties: Some(PublishProperties {
            response_topic: Some(reply_topic.as_str().into()),
            ..PublishProperties::default()
        }),
        ..message(&topic, "request")
    };
    let is_counted = calling.publish(request).await? && tells_nobody;
    if stranger.receive_within(&topic, intrusion.probe.doubt()).await?.is_none() {
        let owner = (&mut calling, &*filter);
        return intrusion.nothing_came(item, is_counted, owner, &topic, &mut stranger).await;
    }
    let answered = hears_replies
        && matches!(
            barred(stranger.publish(message(&reply_topic, "forged")).await),
            Ok(AttemptOutcome::Allowed(_))
        )
        && matches!(calling.receive_within(&reply_topic, intrusion.probe.doubt()).await, Ok(Some(_)));
    let who = intrusion.who();
    Ok(item.bad(if answered {
        format!("{who} reads requests to objects and answers in their place")
    } else {
        format!("{who} reads requests to objects")
    }))
}

/// Outcome of the owner's subscription in the group.
enum Served {
    /// Requests come to it.
    By(Box<Link>),
    /// The owner may not serve.
    Denied,
    /// The owner is a member, but no requests come.
    Dark,
}

/// Joins the group of an object, and so takes requests away from it.
pub(super) async fn group(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, topics) = (intrusion.items.group, &intrusion.examination().bus);
    let object = intrusion.examination().object();
    let identity = intrusion.stranger();
    let mut stranger = match intrusion.enter(&identity).await? {
        AttemptOutcome::Allowed(stranger) => stranger,
        AttemptOutcome::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    if !stranger.greeting().shared_subscription_available {
        return Ok(item.unknown("there are no groups: see shared-subscriptions"));
    }
    let (topic, group) = (topics.call(&object), topics.group(&identity.id, &object));
    let (_, mut calling) = intrusion.probe.client().await?;
    let tells_nobody = !calling.publish(message(&topic, "before")).await?;
    let served = serve(intrusion, &mut calling, &topic, &group, tells_nobody).await?;
    if let AttemptOutcome::Barred(why) = barred(stranger.subscribe(&group, live(QoS::AtLeastOnce)).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    if let Served::By(serving) = served {
        return shared(intrusion, item, (&mut calling, &topic), *serving, stranger).await;
    }
    let somebody = calling.publish(message(&topic, "after")).await?;
    if stranger.receive_within(&topic, intrusion.probe.doubt()).await?.is_some() {
        return Ok(taken(intrusion, item, "it is sent them"));
    }
    stranger.close().await;
    // Another client that subscribes to everything would count as a subscriber too.
    let nobody_again = is_left(&mut calling, &topic, intrusion.probe.patience()).await?;
    Ok(match (tells_nobody, somebody) {
        (true, true) if nobody_again => taken(intrusion, item, "they vanish, though it is not sent them"),
        (true, false) => item.ok("the subscription is granted, and nothing goes to it"),
        _ if matches!(served, Served::Denied) => item.untested(
            "the subscription is granted; whether requests go to it could not be tried, as the user of this command may \
             not serve",
        ),
        _ => item.unknown("the subscription is granted, and nothing comes to any member of the group"),
    })
}

/// Counts the requests that still come to a member that may serve the object.
async fn shared(
    intrusion: Intrusion<'_>,
    item: Item,
    (calling, topic): (&mut Link, &str),
    mut serving: Link,
    mut stranger: Link,
) -> Result<Finding, Trouble> {
    let wait = intrusion.probe.doubt();
    let lost = |came: usize| format!("{} of {REQUESTS}", REQUESTS - came);
    let came = come(calling, topic, &mut serving, wait).await?;
    if came == REQUESTS {
        return Ok(item.ok("the group is joined, and nothing goes to the new member"));
    }
    if stranger.receive_within(topic, Duration::ZERO).await?.is_some() {
        return Ok(taken(intrusion, item, &lost(came)));
    }
    stranger.close().await;
    // If requests vanish without the stranger too, it is not the cause. The broker may notice its end a moment later.
    for _ in 0..3 {
        if come(calling, topic, &mut serving, wait).await? == REQUESTS {
            return Ok(taken(intrusion, item, &format!("{}, which it is not sent", lost(came))));
        }
    }
    Ok(item.unknown("requests vanish also where no stranger is in the group: see shared-subscriptions"))
}

/// Checks whether the broker reports within this time that there are no subscribers any more.
async fn is_left(calling: &mut Link, topic: &str, time: Duration) -> Result<bool, Trouble> {
    let end = Instant::now() + time;
    while calling.publish(message(topic, "nobody")).await? {
        if Instant::now() >= end {
            return Ok(false);
        }
        sleep(TURN).await;
    }
    Ok(true)
}

/// Sends requests to a group, and counts those that come to a member.
async fn come(calling: &mut Link, topic: &str, member: &mut Link, wait: Duration) -> Result<usize, Trouble> {
    calling.publish_all((0..REQUESTS).map(|number| message(topic, number.to_string()))).await?;
    let mut seen = HashSet::new();
    while seen.len() < REQUESTS
        && let Some(request) = member.receive_within(topic, wait).await?
    {
        if request.payload.len() == 1 {
            seen.insert(request.payload);
        }
    }
    Ok(seen.len())
}

fn taken(intrusion: Intrusion<'_>, item: Item, count: &str) -> Finding {
    let who = intrusion.who();
    item.bad(format!("{who} joins the groups of objects and takes requests away: {count}"))
}

/// Lets the owner join the group before the stranger.
async fn serve(
    intrusion: Intrusion<'_>,
    calling: &mut Link,
    topic: &str,
    group: &str,
    tells_nobody: bool,
) -> Result<Served, Trouble> {
    let (_, mut serving) = intrusion.probe.client().await?;
    if let AttemptOutcome::Barred(_) = barred(serving.subscribe(group, live(QoS::AtLeastOnce)).await)? {
        return Ok(Served::Denied);
    }
    let is_counted = calling.publish(message(topic, "served")).await?;
    if serving.receive_within(topic, intrusion.probe.patience()).await?.is_some() {
        return Ok(Served::By(Box::new(serving)));
    }
    serving.close().await;
    let is_alone = tells_nobody && is_left(calling, topic, intrusion.probe.patience()).await?;
    Ok(if is_counted && is_alone { Served::Denied } else { Served::Dark })
}
