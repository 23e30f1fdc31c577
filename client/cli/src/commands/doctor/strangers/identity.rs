//! Passing for somebody else: a caller, a client, a node.

use std::num::NonZeroU32;

use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::PublishProperties;

use super::super::link::{Link, live, message};
use super::{Finding, Intrusion, Taken, Trouble, barred};

/// The user property that says who calls (PROTOCOL.md).
const CALLER: &str = "caller";
/// A user that does not exist.
const FORGED: &str = "doctor-forged";
/// Seconds after which a forged entry is gone whatever becomes of the examination.
const EXPIRY: u32 = 60;

/// Says in a request that somebody else calls.
pub(super) async fn caller(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, examination) = (intrusion.items.caller, intrusion.examination());
    let topics = &examination.bus;
    let mut stranger = match intrusion.enter(&intrusion.stranger()).await? {
        Taken::Allowed(stranger) => stranger,
        Taken::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let (owner, mut reading) = intrusion.probe.client().await?;
    let reads = matches!(
        barred(reading.subscribe(&topics.inbox(&owner.id), live(QoS::AtLeastOnce)).await)?,
        Taken::Allowed(())
    );
    let request = Publish {
        properties: Some(PublishProperties {
            user_properties: vec![(CALLER.into(), FORGED.into())],
            ..PublishProperties::default()
        }),
        ..message(&topics.at(&owner.id, &examination.object()), "forged")
    };
    if let Taken::Barred(why) = barred(stranger.publish(request).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    let received = if reads { reading.receive_within(intrusion.probe.doubt()).await? } else { None };
    let claims = examination.features.get().caller();
    let Some(received) = received else {
        return Ok(if claims {
            item.ok("the broker says that it sets caller itself; not seen, as the user of this command may not serve")
        } else {
            item.warning(NOT_SET)
        });
    };
    let forged = received
        .properties
        .iter()
        .flat_map(|properties| &properties.user_properties)
        .any(|(name, value)| *name == CALLER && *value == FORGED);
    let who = intrusion.who();
    Ok(match (forged, claims) {
        (false, _) => item.ok("a forged caller is removed"),
        (true, true) => item
            .bad(format!("{who} passes for another user: the broker says that it sets caller, and does not")),
        (true, false) => item.warning(NOT_SET),
    })
}

const NOT_SET: &str = "the broker does not say who calls: objects know no users, and nodes ignore the caller that a request names";

/// Takes the client id of a connection.
pub(super) async fn client_id(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let item = intrusion.items.client_id;
    if let Taken::Barred(why) = intrusion.enter(&intrusion.stranger()).await? {
        return Ok(intrusion.refused(item, &why));
    }
    let (owner, mut link) = intrusion.probe.client().await?;
    let mut thief = intrusion.stranger();
    thief.id = owner.id;
    let taken: Link = match intrusion.enter(&thief).await? {
        Taken::Allowed(link) => link,
        Taken::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let ended = link.is_ended_within(intrusion.probe.doubt()).await;
    taken.close().await;
    if ended {
        return Ok(item.bad(format!("{} ends other connections by taking their client ids", intrusion.who())));
    }
    Ok(item.ok("a second connection with a client id does not end the first"))
}

/// Writes the registry entry of another node.
pub(super) async fn registry(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, examination) = (intrusion.items.registry, intrusion.examination());
    let (topics, object) = (&examination.bus, examination.object());
    let identity = intrusion.stranger();
    let mut stranger = match intrusion.enter(&identity).await? {
        Taken::Allowed(stranger) => stranger,
        Taken::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let (owner, mut reading) = intrusion.probe.client().await?;
    reading.subscribe(&topics.entries_of(&object), live(QoS::AtLeastOnce)).await?;
    let topic = topics.entry(&object, &owner.id);
    examination.traces.retained(&identity, &topic);
    let entry = Publish {
        retain: true,
        properties: Some(PublishProperties {
            message_expiry_interval: NonZeroU32::new(EXPIRY),
            ..PublishProperties::default()
        }),
        ..message(&topic, super::super::bus::entry(&object, &owner.id, "forged"))
    };
    if let Taken::Barred(why) = barred(stranger.publish(entry).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    if reading.receive_within(intrusion.probe.doubt()).await?.is_none() {
        return Ok(item.ok("the entry is taken, and comes to nobody"));
    }
    Ok(item.bad(format!(
        "{} writes registry entries of other nodes, and so takes objects away",
        intrusion.who()
    )))
}
