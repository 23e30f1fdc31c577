//! Description of a session for administrators.

use super::{Session, SessionState};
use crate::administration::{ConnectionInfo, SessionInfo};
use crate::link::Link;
use crate::peer::Reach;

impl Session {
    /// Returns a description of the session; `None` if it has ended.
    pub(crate) fn info(&self) -> Option<SessionInfo> {
        let state = self.state.lock();
        if state.ended { None } else { Some(state.info(&self.client_id)) }
    }
}

impl SessionState {
    fn info(&self, client_id: &str) -> SessionInfo {
        let principal = &self.principal;
        SessionInfo {
            client_id: client_id.to_owned(),
            user: principal.checked_user().map(str::to_owned),
            is_own: principal.local,
            connection: self.link.as_deref().map(connection),
            away_since: self.link.is_none().then_some(self.since),
            expiry_s: Some(self.expiry).filter(|&expiry| expiry != u32::MAX),
            is_on_disk: self.durable,
            subscriptions: self.subscriptions.len(),
            queued: self.queue.len(),
            queued_bytes: self.queue_bytes,
            in_flight: self.in_flight.len(),
            will: self.will.as_ref().map(|will| will.message.topic.to_string()),
        }
    }
}

fn connection(link: &Link) -> ConnectionInfo {
    let peer = &link.peer;
    let address = match peer.reach {
        Reach::Process => "process".to_owned(),
        Reach::Unix => "unix".to_owned(),
        Reach::Loopback | Reach::Network | Reach::Web => peer.address.to_string(),
    };
    ConnectionInfo { address, protocol: peer.protocol.name(), since: peer.connected_at }
}
