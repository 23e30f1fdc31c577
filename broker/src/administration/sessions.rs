//! Lists of clients and sessions.

use std::sync::Arc;

use super::{AdministrationError, EndResult, Listed, Page, PageBuilder};
use crate::codec::Reason;
use crate::hub::Hub;

/// Session of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Client id.
    pub client_id: String,
    /// User that the session belongs to; `None` for a client that did not log in.
    pub user: Option<String>,
    /// Whether the session belongs to the broker's own process.
    pub is_own: bool,
    /// Current connection; `None` while the client is not connected.
    pub connection: Option<ConnectionInfo>,
    /// Time at which the client disconnected, in milliseconds since 1970; `None` while it is connected.
    pub away_since: Option<u64>,
    /// Time that the session outlives its connection, in seconds; `None` if it never expires.
    pub expiry_s: Option<u32>,
    /// Whether the session is kept on disk.
    pub is_on_disk: bool,
    /// Number of subscriptions.
    pub subscriptions: usize,
    /// Number of messages queued at QoS 1 and 2.
    pub queued: usize,
    /// Size of the queued messages, in bytes as counted for limits.
    pub queued_bytes: usize,
    /// Number of messages sent and not acknowledged.
    pub in_flight: usize,
    /// Topic of the will, if there is one.
    pub will: Option<String>,
}

/// Connection of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Address with port, `unix` for a Unix socket, or `process` for the broker's own process.
    pub address: String,
    /// Version of MQTT: `3.1`, `3.1.1` or `5`.
    pub protocol: &'static str,
    /// Time of CONNECT, in milliseconds since 1970.
    pub since: u64,
}

impl SessionInfo {
    /// Returns the approximate number of bytes of the item in an answer.
    fn bytes(&self) -> usize {
        const ITEM_OVERHEAD_BYTES: usize = 200;
        let texts = [self.user.as_ref(), self.will.as_ref()];
        ITEM_OVERHEAD_BYTES
            + self.client_id.len()
            + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

pub(super) async fn list(
    hub: Arc<Hub>,
    Page { after, most }: Page,
    connected: bool,
) -> Result<Listed<SessionInfo>, AdministrationError> {
    let after = after.map(|key| key.parse().map_err(|_| AdministrationError::NoSuchPage)).transpose()?;
    let (mut gathered, mut last, mut found) = (PageBuilder::new(most), after, Vec::new());
    loop {
        let more = hub.look_at_some(&mut last, |_| Some(()), &mut found);
        for (session, ()) in found.drain(..) {
            let Some(info) = session.info().filter(|info| !connected || info.connection.is_some()) else {
                continue;
            };
            let bytes = info.bytes();
            gathered.push(info, bytes);
            if gathered.is_full() {
                return Ok(Listed { items: gathered.items, next: Some(session.key.to_string()) });
            }
        }
        if !more {
            return Ok(Listed { items: gathered.items, next: None });
        }
        tokio::task::yield_now().await;
    }
}

pub(super) fn disconnect(hub: &Hub, client_id: &str) -> EndResult {
    let Some((session, link)) = hub.connection_of(client_id) else { return EndResult::None };
    if session.state.lock().principal.local {
        return EndResult::Own;
    }
    link.close(Some(Reason::ADMINISTRATIVE_ACTION));
    EndResult::Ended
}
