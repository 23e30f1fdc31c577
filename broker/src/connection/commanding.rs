//! Commands to the broker, which only users with the role admin may publish.

use super::{BatchBuffers, Connection};
use crate::codec::{Publish, Reason};
use crate::log::ClientText;
use crate::message::QoS;
use crate::reload::Reloader;

impl Connection {
    /// Executes a command and acknowledges it. The client's socket is not read until then.
    pub(super) async fn command(&self, publish: Publish) {
        let client = ClientText(&self.session.client_id);
        let user = ClientText(self.link.principal.name());
        let shared = &self.hub.shared;
        if shared.may_log(&shared.log_lines.limits) {
            tracing::info!(%client, %user, peer = %self.link.peer.address, "has users and rules read again");
        }
        let result = Reloader(std::sync::Arc::downgrade(&self.hub)).reload().await;
        let (reason, text) = match &result {
            Ok(reloaded) => (Reason::SUCCESS, reloaded.to_string()),
            Err(error) => {
                let line = error.line();
                if shared.may_log(&shared.log_lines.limits) {
                    tracing::warn!("users and rules stay as they are: {line}");
                }
                (Reason::IMPLEMENTATION_SPECIFIC_ERROR, line)
            }
        };
        let mut work = BatchBuffers::take(self.hub.shared.clock.now_ms());
        if publish.message.qos == QoS::ExactlyOnce && !reason.is_error() {
            self.session.state.lock().received.insert(publish.id);
        }
        self.answer_because(&publish, (reason, &text), 0, &mut work.scratch);
        work.scratch.settle(&self.hub.shared);
        crate::link::flush_all(&mut work.scratch.dirty);
        work.give_back();
    }
}
