//! Refusal of a client during the handshake.

use std::borrow::Cow;
use std::net::{Shutdown, SocketAddr};

use crate::access::Denial;
use crate::codec::{self, ConnAck, Connect, DecodeError, Reason, Version};
use crate::connection::linger;
use crate::counters::Counters;
use crate::hub::Hub;
use crate::log::ClientText;
use crate::transport::{CloseCode, Transport};

/// Reason for a refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    reason: Reason,
    /// Reason String for the client.
    text: Cow<'static, str>,
    /// Reason for the log, without text sent by the client.
    logged: &'static str,
}

impl From<DecodeError> for Refusal {
    fn from(DecodeError { reason, text }: DecodeError) -> Self {
        Self { reason, text: text.into(), logged: text }
    }
}

impl From<Denial> for Refusal {
    fn from(Denial { reason, text }: Denial) -> Self {
        let logged = match reason {
            Reason::CLIENT_ID_NOT_VALID => "its client id is somebody else's",
            Reason::NOT_AUTHORIZED => "the rules do not allow its will",
            other => other.text(),
        };
        Self { reason, text: text.to_string().into(), logged }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, text: reason.text().into(), logged: reason.text() }
    }
}

/// Properties of the refused client.
pub(super) struct Refused<'a> {
    pub(super) version: Version,
    pub(super) packet_maximum: u32,
    pub(super) client_id: &'a str,
}

impl<'a> Refused<'a> {
    pub(super) fn of(connect: &'a Connect) -> Self {
        let Connect { version, packet_maximum, client_id, .. } = connect;
        Self { version: *version, packet_maximum: *packet_maximum, client_id }
    }
}

/// Sends a refusal, if the protocol version has a code for it, and closes the connection.
pub(super) async fn refuse(
    hub: &Hub,
    transport: &Transport,
    address: SocketAddr,
    who: &Refused<'_>,
    failure: impl Into<Refusal>,
) {
    let failure = failure.into();
    Counters::add(&hub.shared.counters.refused_connections, 1);
    if hub.shared.may_log(&hub.shared.log_lines.refused) {
        tracing::info!(client = %ClientText(who.client_id), peer = %address, "refused: {}", failure.logged);
    }
    let Refused { version, packet_maximum, .. } = *who;
    let mut answer = Vec::new();
    // MQTT 3.1.1 has return codes for some refusals; for others the connection is closed without an answer (3.1.1,
    // 4.8).
    let has_code = [
        Reason::UNSUPPORTED_VERSION,
        Reason::CLIENT_ID_NOT_VALID,
        Reason::BAD_USER_NAME_OR_PASSWORD,
        Reason::NOT_AUTHORIZED,
        Reason::SERVER_BUSY,
        Reason::QUOTA_EXCEEDED,
    ];
    if version == Version::V5 || has_code.contains(&failure.reason) {
        let mut ack = ConnAck::refused(failure.reason, &failure.text);
        codec::connack(version, ack.clone(), &mut answer);
        if answer.len() > packet_maximum as usize {
            answer.clear();
            ack.reason_string = None;
            codec::connack(version, ack, &mut answer);
        }
        if answer.len() > packet_maximum as usize {
            answer.clear();
        }
    }
    // A few bytes for an empty send buffer: the socket accepts all of them or none.
    let _ = transport.writable().await;
    let _ = transport.try_write(&answer);
    say_goodbye(transport, close_code(failure.reason));
    linger(transport).await;
}

/// Ends a connection whose client has violated TLS or WebSocket before its CONNECT.
pub(super) async fn end_violation(hub: &Hub, transport: &Transport, address: SocketAddr, text: &str) {
    let counters = &hub.shared.counters;
    let counter =
        if matches!(transport, Transport::Web(_)) { &counters.refused_web } else { &counters.refused_tls };
    Counters::add(counter, 1);
    if hub.shared.may_log(&hub.shared.log_lines.refused) {
        tracing::info!(peer = %address, "refused: {text}");
    }
    // The transport sends its own code for the violation instead of this one.
    say_goodbye(transport, CloseCode::Protocol);
    linger(transport).await;
}

/// Ends the broker's side of a connection, with a close code if its transport has them.
pub(super) fn say_goodbye(transport: &Transport, code: CloseCode) {
    transport.set_close_code(code);
    transport.shutdown(Shutdown::Write);
}

/// Returns the WebSocket close code of a refusal.
fn close_code(reason: Reason) -> CloseCode {
    match reason {
        Reason::MALFORMED_PACKET => CloseCode::Malformed,
        Reason::PROTOCOL_ERROR | Reason::UNSUPPORTED_VERSION => CloseCode::Protocol,
        Reason::PACKET_TOO_LARGE => CloseCode::TooLarge,
        Reason::SERVER_BUSY | Reason::QUOTA_EXCEEDED => CloseCode::TryAgainLater,
        _ => CloseCode::Policy,
    }
}
