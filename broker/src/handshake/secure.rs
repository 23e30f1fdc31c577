//! TLS handshake, before any MQTT packet.

use std::net::{Shutdown, SocketAddr};

use super::computing::Computing;
use crate::connection::linger;
use crate::counters::Counters;
use crate::hub::Hub;
use crate::transport::{HandshakeError, Tls, TlsStep, Transport};

/// Performs the TLS handshake, with its cryptography on another thread. Returns false if it fails or the client closes
/// the connection.
pub(super) async fn secure(hub: &Hub, transport: &Transport, tls: &Tls, address: SocketAddr) -> bool {
    let error = loop {
        let advanced = match tls.try_handshake() {
            Ok(TlsStep::Done) => {
                Counters::add(&hub.shared.counters.tls_handshakes, 1);
                // Without this, if no session ticket answers the client's last record, a client with Nagle's algorithm
                // on would hold its CONNECT back for the 40 ms by which the kernel delays the acknowledgement.
                if let Err(error) = transport.acknowledge() {
                    tracing::debug!(peer = %address, "no TCP_QUICKACK: {error}");
                }
                return true;
            }
            Ok(TlsStep::Reads) => transport.readable().await.map_err(|_| HandshakeError::Gone),
            Ok(TlsStep::Writes) => transport.writable().await.map_err(|_| HandshakeError::Gone),
            Ok(TlsStep::Computes(computation)) => {
                let computing = hub.shared.tls_computing.get_or_init(Computing::start);
                match computing.run(computation).await {
                    Some(computed) => tls.resume(computed),
                    None => Err(HandshakeError::Gone),
                }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = advanced {
            break error;
        }
    };
    if let HandshakeError::Failed(text) = error {
        note_refused(hub, address, text);
        transport.shutdown(Shutdown::Write);
        // Closing a socket with unread bytes would discard the alert.
        linger(transport).await;
    }
    false
}

fn note_refused(hub: &Hub, address: SocketAddr, text: &str) {
    Counters::add(&hub.shared.counters.refused_tls, 1);
    if hub.shared.may_log(&hub.shared.log_lines.refused) {
        tracing::info!(peer = %address, "refused: {text}");
    }
}
