//! Disconnection of clients whose acknowledgements wait too long for a failed disk, so that they send their messages
//! again.

use std::sync::Arc;

use hashbrown::HashMap;

use super::sessions::Hub;
use crate::codec::Reason;
use crate::counters::Counters;
use crate::link::Link;
use crate::log::ClientText;

/// Connections whose acknowledgements wait for a failed disk, and since when (milliseconds since 1970), by the key of
/// the session.
#[derive(Debug, Default)]
pub(crate) struct WaitingForDisk(HashMap<u64, (Arc<Link>, u64)>);

impl Hub {
    /// Detects a stalled disk. If the disk has failed, ends the connections of clients whose acknowledgements have
    /// waited for `disk_wait`: their messages were accepted just before the failure, and the refusals of all later
    /// messages would wait behind their acknowledgements. The publishers send these messages again after reconnecting,
    /// and they are refused then.
    pub(crate) fn look_at_disk(&self, waiting: &mut WaitingForDisk, now: u64) {
        let Some(store) = &self.shared.store else { return };
        store.look_for_stall();
        let longest = self.shared.limits().disk_wait;
        if !store.health().is_failed() || longest.is_zero() {
            waiting.0.clear();
            return;
        }
        let waiting_now = self.sessions_where(|session| {
            let state = session.state.lock();
            state
                .link
                .clone()
                .filter(|link| !link.is_closing() && (state.has_gated_answers() || link.held().is_some()))
        });
        let mut before = std::mem::take(&mut waiting.0);
        for (session, link) in waiting_now {
            let since = before.remove(&session.key).filter(|(before, _)| Arc::ptr_eq(before, &link));
            let since = since.map_or(now, |(_, since)| since);
            if u128::from(now.saturating_sub(since)) < longest.as_millis() {
                waiting.0.insert(session.key, (link, since));
                continue;
            }
            Counters::add(&self.shared.counters.disconnected_store, 1);
            if self.shared.may_log(&self.shared.log_lines.ended) {
                tracing::warn!(
                    client = %ClientText(&session.client_id), peer = %link.peer.address,
                    "ended: its messages wait for a disk that does not work"
                );
            }
            link.close(Some(Reason::QUOTA_EXCEEDED));
        }
    }
}
