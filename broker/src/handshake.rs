//! From an accepted socket to a session: CONNECT in, CONNACK out.

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{BufMut, BytesMut};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::codec::{self, ConnAck, Connect, DecodeError, Packet, Reason, Version};
use crate::connection::{Connection, linger};
use crate::counters::Counters;
use crate::hub::Hub;
use crate::link::{Peer, flush_all};
use crate::session::Scratch;

/// The largest CONNECT: every field of a will, a user name and a password at its longest fits.
const CONNECT_BYTES: u32 = 320 << 10;

/// Serves one accepted socket to its end.
pub(crate) async fn accept(hub: Arc<Hub>, stream: TcpStream, address: SocketAddr) {
    // Boxed, so that a connection that has it behind it does not carry its memory along.
    let Some(connection) = Box::pin(handshake(&hub, stream, address)).await else { return };
    Counters::add(&hub.counters.connected, 1);
    connection.serve().await;
    Counters::sub(&hub.counters.connected, 1);
}

async fn handshake(hub: &Arc<Hub>, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
    let mut stopping = hub.stopping.subscribe();
    let mut buffer = BytesMut::new();
    let received = tokio::select! {
        received = timeout(hub.config.limits.connect_timeout, receive(hub, &stream, &mut buffer)) => received,
        _ = stopping.wait_for(|&stop| stop) => return None,
    };
    let connect = match received {
        Ok(Ok(connect)) => connect,
        Ok(Err(failure)) => {
            let failure = failure?;
            let version = codec::announced_version(&buffer);
            refuse(hub, &stream, address, version, failure).await;
            return None;
        }
        Err(_) => {
            Counters::add(&hub.counters.refused_connections, 1);
            tracing::info!(peer = %address, "refused: no CONNECT in time");
            return None;
        }
    };
    if let Err(failure) = admit(hub, &connect) {
        refuse(hub, &stream, address, connect.version, failure).await;
        return None;
    }
    Some(connected(hub, stream, address, *connect, buffer))
}

/// Reads until CONNECT is whole. `Err(None)`: the client is gone.
async fn receive(
    hub: &Hub,
    stream: &TcpStream,
    buffer: &mut BytesMut,
) -> Result<Box<Connect>, Option<DecodeError>> {
    let limit = hub.config.limits.packet_bytes.min(CONNECT_BYTES);
    loop {
        // Told from the first byte, before a length is waited for.
        if buffer.first().is_some_and(|first| first >> 4 != 1) {
            return Err(Some(DecodeError::protocol("the first packet is not CONNECT")));
        }
        if let Some(frame) = codec::frame(buffer, limit)?
            && frame.length <= buffer.len()
        {
            let start = BytesMut::from(&buffer[..frame.length.min(16)]);
            return match codec::decode(frame, buffer, None) {
                Ok(Packet::Connect(connect)) => Ok(connect),
                Ok(_) => Err(Some(DecodeError::protocol("the first packet is not CONNECT"))),
                Err(failure) => {
                    // Left for whoever has to tell in which version to answer.
                    *buffer = start;
                    Err(Some(failure))
                }
            };
        }
        stream.readable().await.map_err(|_| None)?;
        buffer.reserve(512);
        match stream.try_read_buf(&mut (&mut *buffer).limit(16 << 10)) {
            Ok(0) => return Err(None),
            Ok(count) => Counters::add(&hub.counters.bytes_received, count as u64),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(None),
        }
    }
}

fn admit(hub: &Hub, connect: &Connect) -> Result<(), DecodeError> {
    let refused = |reason: Reason| Err(DecodeError { reason, text: reason.text() });
    if connect.authentication_method.is_some() {
        return refused(Reason::BAD_AUTHENTICATION_METHOD);
    }
    if hub.counters.connected.load(Ordering::Relaxed) >= hub.config.limits.connections as u64 {
        Counters::add(&hub.counters.refused_over_limit, 1);
        return refused(Reason::SERVER_BUSY);
    }
    if connect.version == Version::V3 && connect.client_id.is_empty() && !connect.clean_start {
        return refused(Reason::CLIENT_ID_NOT_VALID);
    }
    if let Err(reason) = hub.access.log_in(connect.user_name.as_ref(), connect.password.as_deref()) {
        return refused(reason);
    }
    if let Some(will) = &connect.will {
        if will.message.topic.starts_with('$') {
            return refused(Reason::NOT_AUTHORIZED);
        }
        if !crate::topic::valid_name(&will.message.topic, hub.config.limits.topic_levels) {
            return refused(Reason::TOPIC_NAME_INVALID);
        }
    }
    Ok(())
}

/// Says no where the version has a way to, and closes.
async fn refuse(hub: &Hub, stream: &TcpStream, address: SocketAddr, version: Version, failure: DecodeError) {
    Counters::add(&hub.counters.refused_connections, 1);
    tracing::info!(peer = %address, "refused: {}", failure.text);
    let mut answer = Vec::new();
    // A malformed CONNECT of 3.1.1 is closed on without a word (3.1.1, 4.8); what is well formed and not
    // acceptable gets a return code.
    let silent = matches!(
        failure.reason,
        Reason::MALFORMED_PACKET | Reason::PROTOCOL_ERROR | Reason::PACKET_TOO_LARGE
    );
    if version == Version::V5 || !silent {
        codec::connack(version, ConnAck::refused(failure.reason, failure.text), &mut answer);
    }
    // A few bytes into an empty socket: it takes them at once or not at all.
    let _ = stream.writable().await;
    let _ = stream.try_write(&answer);
    let _ = socket2::SockRef::from(stream).shutdown(Shutdown::Write);
    linger(stream).await;
}

fn connected(
    hub: &Arc<Hub>,
    stream: TcpStream,
    address: SocketAddr,
    mut connect: Connect,
    rest: BytesMut,
) -> Connection {
    let limits = &hub.config.limits;
    let mut assigned = None;
    if connect.client_id.is_empty() {
        connect.client_id = format!("auto-{}", Uuid::new_v4().simple()).into();
        assigned = Some(connect.client_id.clone());
    }
    let mut keep_alive = connect.keep_alive;
    let mut server_keep_alive = None;
    if limits.keep_alive > 0 && (keep_alive == 0 || keep_alive > limits.keep_alive) {
        keep_alive = limits.keep_alive;
        server_keep_alive = Some(keep_alive);
    }
    if connect.version == Version::V3 {
        // It cannot be told of another keep-alive, so it keeps its own.
        keep_alive = connect.keep_alive;
    }
    let peer = Peer {
        address,
        version: connect.version,
        packet_maximum: connect.packet_maximum,
        receive_maximum: connect.receive_maximum,
        alias_maximum: connect.alias_maximum,
        problem_information: connect.problem_information,
    };
    let ack = ConnAck {
        reason: Reason::SUCCESS,
        reason_string: None,
        session_present: false,
        session_expiry: None,
        receive_maximum: limits.receive_maximum,
        packet_maximum: limits.packet_bytes,
        alias_maximum: limits.topic_aliases,
        assigned_client_id: assigned,
        keep_alive: server_keep_alive,
    };
    let (session_expiry, user_name) = (connect.session_expiry, connect.user_name.clone());
    tracing::info!(
        client = %connect.client_id,
        peer = %address,
        version = if connect.version == Version::V5 { "5" } else { "3.1.1" },
        user = user_name.as_deref().unwrap_or("-"),
        "connected"
    );
    let mut scratch = Scratch::default();
    let link = hub.connect(connect, peer, stream, ack, &mut scratch);
    flush_all(&mut scratch.dirty);
    Connection::new(hub.clone(), link, session_expiry, keep_alive, user_name, rest)
}
