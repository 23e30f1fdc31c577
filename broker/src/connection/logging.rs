//! Log lines about what clients do as they should, at the level debug.

use super::Connection;
use crate::hub::ConnectionEnd;
use crate::log::ClientText;

impl Connection {
    pub(super) fn log_close(&self, ending: ConnectionEnd) {
        let shared = &self.hub.shared;
        if tracing::enabled!(tracing::Level::DEBUG) && shared.may_log(&shared.log_lines.closed) {
            let by_client = matches!(ending, ConnectionEnd::Normal { .. });
            let client = ClientText(&self.session.client_id);
            tracing::debug!(%client, peer = %self.link.peer.address, by_client, "connection closed");
        }
    }

    pub(super) fn log_filter(&self, what: &'static str, filter: &str) {
        let shared = &self.hub.shared;
        if tracing::enabled!(tracing::Level::DEBUG) && shared.may_log(&shared.log_lines.filters) {
            let client = ClientText(&self.session.client_id);
            tracing::debug!(%client, filter = %ClientText(filter), "{what}");
        }
    }
}
