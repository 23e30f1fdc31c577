//! Impersonating another client: a caller, a node.

use std::num::NonZeroU32;

use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::PublishProperties;

use super::super::bus::entry;
use super::super::link::{live, message};
use super::{AttemptOutcome, Finding, Intrusion, Trouble, barred};

/// User property with the name of the caller (PROTOCOL.md).
const CALLER: &str = "caller";
/// Name of a user that does not exist.
const FORGED: &str = "doctor-forged";
/// Expiry of a forged entry in seconds, in case it cannot be removed.
const EXPIRY: u32 = 60;

/// Sends a request that names another caller.
pub(super) async fn caller(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, examination) = (intrusion.items.caller, intrusion.examination());
    let topics = &examination.bus;
    let mut stranger = match intrusion.enter(&intrusion.stranger()).await? {
        AttemptOutcome::Allowed(stranger) => stranger,
        AttemptOutcome::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    let (owner, mut reading) = intrusion.probe.client().await?;
    let reads = matches!(
        barred(reading.subscribe(&topics.inbox(&owner.id), live(QoS::AtLeastOnce)).await)?,
        AttemptOutcome::Allowed(())
    );
    let topic = topics.at(&owner.id, &examination.object());
    let request = Publish {
        properties: Some(PublishProperties {
            user_properties: vec![(CALLER.into(), FORGED.into())],
            ..PublishProperties::default()
        }),
        ..message(&topic, "forged")
    };
    if let AttemptOutcome::Barred(why) = barred(stranger.publish(request).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    let received = if reads { reading.receive_within(&topic, intrusion.probe.doubt()).await? } else { None };
    let claims = examination.features.get().caller();
    let Some(received) = received else {
        return Ok(match (claims, reads) {
            (false, _) => item.warning(NOT_SET),
            (true, _) if !reads || intrusion.may_not_serve() => item.untested(
                "the broker says that it sets caller itself; this was not seen, as the user of this command may not serve",
            ),
            (true, _) => item.unknown(
                "the broker says that it sets caller itself; this was not seen, as the request did not come",
            ),
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

/// Writes the registry entry of another node.
pub(super) async fn registry(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let (item, examination) = (intrusion.items.registry, intrusion.examination());
    let (topics, object) = (&examination.bus, examination.object());
    let identity = intrusion.stranger();
    let mut stranger = match intrusion.enter(&identity).await? {
        AttemptOutcome::Allowed(stranger) => stranger,
        AttemptOutcome::Barred(why) => return Ok(intrusion.refused(item, &why)),
    };
    if !stranger.greeting().retain_available {
        return Ok(item.unknown("no retained messages are kept: see retained"));
    }
    let (owner, mut reading) = intrusion.probe.client().await?;
    reading.subscribe(&topics.entries_of(&object), live(QoS::AtLeastOnce)).await?;
    let topic = topics.entry(&object, &owner.id);
    let written = |text: &str| Publish {
        retain: true,
        properties: Some(PublishProperties {
            message_expiry_interval: NonZeroU32::new(EXPIRY),
            ..PublishProperties::default()
        }),
        ..message(&topic, entry(&object, &owner.id, text))
    };
    // The stranger may be denied removing it.
    for client in [&identity, &owner] {
        examination.traces.retained(client, &topic);
    }
    if let AttemptOutcome::Barred(why) = barred(stranger.publish(written("forged")).await)? {
        return Ok(intrusion.refused(item, &why));
    }
    if reading.receive_within(&topic, intrusion.probe.doubt()).await?.is_some() {
        return Ok(item.bad(format!(
            "{} writes registry entries of other nodes, and so takes objects away",
            intrusion.who()
        )));
    }
    // If the broker delivers no entries at all, an entry of the owner does not come either.
    reading.publish(written("control")).await?;
    if reading.receive_within(&topic, intrusion.probe.patience()).await?.is_none() {
        return Ok(item.unknown("the entry is taken, and comes to nobody, as no other does"));
    }
    Ok(item.ok("the entry is taken, and comes to nobody"))
}
