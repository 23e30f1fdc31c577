//! TLS handshake, before any MQTT packet.

use std::net::{Shutdown, SocketAddr};

use crate::connection::linger;
use crate::counters::Counters;
use crate::hub::Hub;
use crate::transport::{HandshakeError, Progress, Tls, Transport};

/// Performs the TLS handshake, in turns with other handshakes. Returns false if it fails or the client closes the
/// connection.
pub(super) async fn secure(hub: &Hub, transport: &Transport, tls: &Tls, address: SocketAddr) -> bool {
    let mut progress = Progress::Reads;
    loop {
        let waited = match progress {
            Progress::Done => {
                Counters::add(&hub.shared.counters.tls_handshakes, 1);
                // Without this, if no session ticket answers the client's last record, a client with Nagle's algorithm
                // on would hold its CONNECT back for the 40 ms by which the kernel delays the acknowledgement.
                if let Err(error) = transport.acknowledge() {
                    tracing::debug!(peer = %address, "no TCP_QUICKACK: {error}");
                }
                return true;
            }
            Progress::Reads => transport.readable().await,
            Progress::Writes => transport.writable().await,
        };
        if waited.is_err() {
            return false;
        }
        // The cryptography is done in turns: other tasks wait for a few handshakes, not for all that arrived at once.
        hub.shared.tls_turns.take().await;
        match tls.try_handshake() {
            Ok(next) => progress = next,
            Err(HandshakeError::Gone) => return false,
            Err(HandshakeError::Failed(text)) => {
                note_refused(hub, address, text);
                transport.shutdown(Shutdown::Write);
                // Closing a socket with unread bytes would discard the alert.
                linger(transport).await;
                return false;
            }
        }
    }
}

fn note_refused(hub: &Hub, address: SocketAddr, text: &str) {
    Counters::add(&hub.shared.counters.refused_tls, 1);
    if hub.shared.may_log(&hub.shared.log_lines.refused) {
        tracing::info!(peer = %address, "refused: {text}");
    }
}
