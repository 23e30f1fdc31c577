//! Taking over another client's connection by its client id.

use std::time::Duration;

use super::super::link::ConnectionEnd;
use super::{AttemptOutcome, Finding, Intrusion, Trouble};

/// Connects with the client id of the owner's connection.
pub(super) async fn client_id(intrusion: Intrusion<'_>) -> Result<Finding, Trouble> {
    let item = intrusion.items.client_id;
    if let AttemptOutcome::Barred(why) = intrusion.enter(&intrusion.stranger()).await? {
        return Ok(intrusion.refused(item, &why));
    }
    let (owner, mut link) = intrusion.probe.client().await?;
    let (_, mut beside) = intrusion.probe.client().await?;
    let mut thief = intrusion.stranger();
    thief.id = owner.id;
    let taken = match intrusion.probe.link(&thief).await {
        Ok(taken) => taken,
        Err(Trouble::Refused { code: code @ 0x85..=0x87, .. }) => {
            return Ok(intrusion.refused(item, &format!("is refused the connection ({code:#04x})")));
        }
        Err(trouble) => return Err(trouble),
    };
    let end = link.end_within(intrusion.probe.doubt()).await?;
    let other = beside.end_within(Duration::ZERO).await?;
    taken.close().await;
    Ok(match (end, other) {
        (ConnectionEnd::TakenOver, _) | (ConnectionEnd::Otherwise, ConnectionEnd::Alive) => {
            item.bad(format!("{} ends other connections by taking their client ids", intrusion.who()))
        }
        (ConnectionEnd::Otherwise, _) => {
            item.unknown("the broker also ended a connection whose client id nobody took")
        }
        (ConnectionEnd::Alive, _) => item.ok("a second connection with a client id does not end the first"),
    })
}
