//! From an accepted socket to a session: CONNECT in, CONNACK out.

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;
use tokio::time::{sleep, timeout};

use crate::access::{Action, Principal};
use crate::codec::{self, ConnAck, Connect, DecodeError, Packet, Reason, Version};
use crate::connection::{Connection, linger};
use crate::counters::Counters;
use crate::guesses::{Attempt, TooMany};
use crate::handshakes::Evicted;
use crate::hub::Hub;
use crate::link::flush_all;
use crate::log::ClientText;
use crate::peer::Peer;
use crate::place::Place;
use crate::session::Scratch;
use crate::transport::Transport;

/// The largest CONNECT: every field of a will, a user name and a password at its longest fits.
const CONNECT_BYTES: u32 = 320 << 10;

/// Serves one accepted socket to its end; closes it where its address has too many.
pub(crate) fn accept(
    hub: Arc<Hub>,
    transport: Transport,
    address: SocketAddr,
) -> impl Future<Output = ()> + Send {
    // Boxed, with all it was given: a connection that has it behind it does not carry its memory along.
    let handshake = Box::pin(async move {
        let counters = &hub.shared.counters;
        let Some((place, evicted)) = Place::take(&hub.shared, address.ip()) else {
            too_many(&hub, address, &counters.refused_per_address, "too many connections from this address");
            return None;
        };
        tokio::select! {
            biased;
            connection = handshake(hub.clone(), transport, address, place) => connection,
            Ok(why) = evicted => {
                let (counter, text) = match why {
                    Evicted::PerAddress => (
                        &counters.refused_per_address,
                        "too many connections from this address without a CONNECT",
                    ),
                    Evicted::InAll => (
                        &counters.refused_handshakes,
                        "too many connections without a CONNECT in all",
                    ),
                };
                too_many(&hub, address, counter, text);
                None
            }
        }
    });
    async move {
        if let Some(connection) = handshake.await {
            connection.serve().await;
        }
    }
}

fn too_many(hub: &Hub, address: SocketAddr, counter: &AtomicU64, text: &str) {
    Counters::add(counter, 1);
    if hub.shared.may_log(&hub.shared.log_lines.refused) {
        tracing::info!(peer = %address, "refused: {text}");
    }
}

async fn handshake(
    hub: Arc<Hub>,
    transport: Transport,
    address: SocketAddr,
    mut place: Place,
) -> Option<Box<Connection>> {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut buffer = BytesMut::new();
    let received = tokio::select! {
        received = timeout(hub.shared.config.limits.connect_timeout, receive(&hub, &transport, &mut buffer, &mut place)) => received,
        _ = stopping.wait_for(|&stop| stop) => return None,
    };
    let mut connect = match received {
        Ok(Ok(mut connect)) => {
            // Copied out of the packet, which it would keep in memory as long as the session lives.
            connect.client_id = ByteString::from(&*connect.client_id);
            connect.user_name = connect.user_name.map(|name| ByteString::from(&*name));
            connect
        }
        Ok(Err(failure)) => {
            let failure = failure?;
            let version = codec::announced_version(&buffer);
            let who = Refused { version, packet_maximum: u32::MAX, client_id: "" };
            refuse(&hub, &transport, address, &who, failure).await;
            return None;
        }
        Err(_) => {
            Counters::add(&hub.shared.counters.refused_connections, 1);
            if hub.shared.may_log(&hub.shared.log_lines.refused) {
                tracing::info!(peer = %address, "refused: no CONNECT in time");
            }
            return None;
        }
    };
    let turn = tokio::select! {
        turn = wait_for_turn(&hub, address, &connect) => turn,
        _ = stopping.wait_for(|&stop| stop) => return None,
    };
    let principal = match turn.and_then(|()| admit(&hub, address, &connect)) {
        Ok(principal) => principal,
        Err(failure) => {
            refuse(&hub, &transport, address, &Refused::of(&connect), failure).await;
            return None;
        }
    };
    let (ack, keep_alive) = greeting(&hub, &mut connect);
    let mut encoded = Vec::new();
    codec::connack(connect.version, ack.clone(), &mut encoded);
    if encoded.len() > connect.packet_maximum as usize {
        // It could not be told what it has to know, and may not be sent more [MQTT-3.1.2-24].
        let failure =
            DecodeError { reason: Reason::PACKET_TOO_LARGE, text: "a Maximum Packet Size below CONNACK's" };
        refuse(&hub, &transport, address, &Refused::of(&connect), failure).await;
        return None;
    }
    if let Some((session, link)) = hub.connection_of(&connect.client_id) {
        Box::pin(hub.read_out(&session, &link)).await;
    }
    let connection = connected(&hub, (transport, address), (*connect, principal), (ack, keep_alive), buffer);
    place.hand_over();
    Some(Box::new(connection))
}

/// Reads until CONNECT is whole. `Err(None)`: the client is gone.
async fn receive(
    hub: &Hub,
    transport: &Transport,
    buffer: &mut BytesMut,
    place: &mut Place,
) -> Result<Box<Connect>, Option<DecodeError>> {
    let limit = hub.shared.config.limits.packet_bytes.min(CONNECT_BYTES);
    loop {
        // Told from the first byte, before a length is waited for.
        if buffer.first().is_some_and(|first| first >> 4 != 1) {
            return Err(Some(DecodeError::protocol("the first packet is not CONNECT")));
        }
        if let Some(frame) = codec::frame(buffer, limit)?
            && frame.length <= buffer.len()
        {
            let start = BytesMut::from(&buffer[..frame.length.min(16)]);
            return match codec::decode(frame, buffer, None, hub.shared.clock.now_ms()) {
                Ok(Packet::Connect(connect)) => Ok(connect),
                Ok(_) => Err(Some(DecodeError::protocol("the first packet is not CONNECT"))),
                Err(failure) => {
                    // Left for whoever has to tell in which version to answer.
                    *buffer = start;
                    Err(Some(failure))
                }
            };
        }
        transport.readable().await.map_err(|_| None)?;
        buffer.reserve(512);
        match transport.try_read(&mut (&mut *buffer).limit(16 << 10)) {
            Ok(0) => return Err(None),
            Ok(count) => {
                Counters::add(&hub.shared.counters.bytes_received, count as u64);
                place.hold(buffer.len());
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(None),
        }
    }
}

/// Waits until the password of `connect` may be tried, where others before it were wrong.
async fn wait_for_turn(hub: &Hub, address: SocketAddr, connect: &Connect) -> Result<(), DecodeError> {
    let Some(attempt) = attempt(hub, address, connect) else { return Ok(()) };
    let (shared, now) = (&hub.shared, hub.shared.clock.now_ms());
    match shared.guesses.take_turn(attempt, now) {
        Ok(0) => Ok(()),
        Ok(wait) => {
            Counters::add(&shared.counters.delayed_logins, 1);
            sleep(Duration::from_millis(wait)).await;
            Ok(())
        }
        Err(TooMany) => {
            Counters::add(&shared.counters.refused_logins, 1);
            let text = "too many wrong passwords for this user from this address";
            Err(DecodeError { reason: Reason::SERVER_BUSY, text })
        }
    }
}

/// What is tried by a CONNECT with a password that could be wrong.
fn attempt<'a>(hub: &Hub, address: SocketAddr, connect: &'a Connect) -> Option<Attempt<'a>> {
    let user = connect.user_name.as_deref().filter(|user| hub.shared.access.can_be_guessed(user))?;
    Some(Attempt { user, address: address.ip(), client_id: &connect.client_id })
}

/// Checks the password of a client, and counts it where it is wrong.
fn log_in(hub: &Hub, address: SocketAddr, connect: &Connect) -> Result<Arc<Principal>, Reason> {
    let shared = &hub.shared;
    let principal = shared.access.log_in(connect.user_name.as_ref(), connect.password.as_deref());
    if let Some(attempt) = attempt(hub, address, connect) {
        if principal.is_ok() {
            shared.guesses.succeeded(attempt);
        } else if shared.guesses.failed(attempt, shared.clock.now_ms())
            && shared.may_log(&shared.log_lines.refused)
        {
            let (client, user) = (ClientText(attempt.client_id), ClientText(attempt.user));
            tracing::warn!(%client, %user, peer = %address, "wrong passwords: the next ones wait for their turn");
        }
    }
    principal
}

/// Who the client is, where it is let in.
fn admit(hub: &Hub, address: SocketAddr, connect: &Connect) -> Result<Arc<Principal>, DecodeError> {
    let refused = |reason: Reason| Err(DecodeError { reason, text: reason.text() });
    if connect.authentication_method.is_some() {
        return refused(Reason::BAD_AUTHENTICATION_METHOD);
    }
    if connect.version == Version::V3 && connect.client_id.is_empty() && !connect.clean_start {
        return refused(Reason::CLIENT_ID_NOT_VALID);
    }
    let principal = log_in(hub, address, connect).or_else(refused)?;
    let shared = &hub.shared;
    // The broker's own process is let in all the same.
    if shared.counters.connected.load(Ordering::Relaxed) >= shared.config.limits.connections as u64
        && !principal.local
    {
        Counters::add(&shared.counters.refused_over_limit, 1);
        return refused(Reason::SERVER_BUSY);
    }
    if !connect.client_id.is_empty() && !hub.shared.access.claim_id(&connect.client_id, &principal) {
        let text = "the client id belongs to a connection of the broker's own process";
        return Err(DecodeError { reason: Reason::CLIENT_ID_NOT_VALID, text });
    }
    if let Err(reason) = hub.admit(&connect.client_id, &principal, address.ip()) {
        return refused(reason);
    }
    if let Some(text) = hub.shared.disk_refusal()
        && connect.session_expiry > 0
        && hub.shared.max_session_expiry() > 0
        && (connect.clean_start || !hub.sessions.lock().by_client.contains_key(&connect.client_id))
    {
        Counters::add(&hub.shared.counters.refused_store, 1);
        let reason =
            if connect.version == Version::V5 { Reason::QUOTA_EXCEEDED } else { Reason::SERVER_BUSY };
        return Err(DecodeError { reason, text });
    }
    if let Some(will) = &connect.will {
        let topic = &will.message.topic;
        if will.message.properties.user.len() > hub.shared.config.limits.user_properties {
            Counters::add(&hub.shared.counters.refused_properties, 1);
            return refused(Reason::QUOTA_EXCEEDED);
        }
        if !crate::topic::valid_name(topic, hub.shared.config.limits.topic_levels) {
            return refused(Reason::TOPIC_NAME_INVALID);
        }
        if hub.shared.wills.are_full_for(will, hub.shared.config.limits.will_bytes) && !principal.local {
            Counters::add(&hub.shared.counters.refused_wills, 1);
            return refused(Reason::QUOTA_EXCEEDED);
        }
        if let Err(reason) = hub.shared.access.authorize(&principal, Action::Publish, topic) {
            return refused(reason);
        }
    }
    Ok(principal)
}

/// Who is refused.
struct Refused<'a> {
    version: Version,
    packet_maximum: u32,
    client_id: &'a str,
}

impl<'a> Refused<'a> {
    fn of(connect: &'a Connect) -> Self {
        let Connect { version, packet_maximum, client_id, .. } = connect;
        Self { version: *version, packet_maximum: *packet_maximum, client_id }
    }
}

/// Says no where the version has a way to, and closes.
async fn refuse(
    hub: &Hub,
    transport: &Transport,
    address: SocketAddr,
    who: &Refused<'_>,
    failure: DecodeError,
) {
    Counters::add(&hub.shared.counters.refused_connections, 1);
    if hub.shared.may_log(&hub.shared.log_lines.refused) {
        tracing::info!(client = %ClientText(who.client_id), peer = %address, "refused: {}", failure.text);
    }
    let Refused { version, packet_maximum, .. } = *who;
    let mut answer = Vec::new();
    // 3.1.1 has return codes for a few refusals; on anything else it is closed without a word (3.1.1, 4.8).
    let has_code = [
        Reason::UNSUPPORTED_VERSION,
        Reason::CLIENT_ID_NOT_VALID,
        Reason::BAD_USER_NAME_OR_PASSWORD,
        Reason::NOT_AUTHORIZED,
        Reason::SERVER_BUSY,
        Reason::QUOTA_EXCEEDED,
    ];
    if version == Version::V5 || has_code.contains(&failure.reason) {
        let mut ack = ConnAck::refused(failure.reason, failure.text);
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
    // A few bytes into an empty socket: it takes them at once or not at all.
    let _ = transport.writable().await;
    let _ = transport.try_write(&answer);
    transport.shutdown(Shutdown::Write);
    linger(transport).await;
}

/// What CONNACK tells a client that is let in, and the keep-alive that holds; draws a client id where it has
/// none.
fn greeting(hub: &Hub, connect: &mut Connect) -> (ConnAck, u16) {
    let limits = &hub.shared.config.limits;
    let mut assigned = None;
    if connect.client_id.is_empty() {
        connect.client_id = format!("auto-{}", hub.shared.random.id()).into();
        assigned = Some(connect.client_id.clone());
    }
    let mut keep_alive = connect.keep_alive;
    let above = limits.keep_alive > 0 && (keep_alive == 0 || keep_alive > limits.keep_alive);
    // 3.1.1 cannot be told of another keep-alive, so it keeps its own.
    let server_keep_alive = (above && connect.version == Version::V5).then_some(limits.keep_alive);
    keep_alive = server_keep_alive.unwrap_or(keep_alive);
    let granted = connect.session_expiry.min(hub.shared.max_session_expiry());
    let ack = ConnAck {
        reason: Reason::SUCCESS,
        reason_string: None,
        session_present: false,
        session_expiry: (granted != connect.session_expiry).then_some(granted),
        receive_maximum: limits.receive_maximum,
        packet_maximum: limits.packet_bytes,
        alias_maximum: limits.topic_aliases,
        assigned_client_id: assigned,
        keep_alive: server_keep_alive,
        dropped: 0,
        features: "",
    };
    (ack, keep_alive)
}

fn connected(
    hub: &Arc<Hub>,
    (transport, address): (Transport, SocketAddr),
    (connect, principal): (Connect, Arc<Principal>),
    (ack, keep_alive): (ConnAck, u16),
    rest: BytesMut,
) -> Connection {
    let peer = Peer {
        address,
        version: connect.version,
        packet_maximum: connect.packet_maximum,
        receive_maximum: connect.receive_maximum,
        alias_maximum: connect.alias_maximum.min(hub.shared.config.limits.send_topic_aliases),
        problem_information: connect.problem_information,
        bridge: connect.bridge,
    };
    let session_expiry = connect.session_expiry;
    if hub.shared.may_log(&hub.shared.log_lines.connected) {
        tracing::info!(
            client = %ClientText(&connect.client_id),
            peer = %address,
            version = connect.protocol.name(),
            bridge = connect.bridge,
            user = %ClientText(principal.user.as_deref().unwrap_or("-")),
            "connected"
        );
    }
    let mut scratch = Scratch::at(hub.shared.clock.now_ms());
    let connected = hub.connect(connect, principal.clone(), peer, transport, ack, &mut scratch);
    flush_all(&mut scratch.dirty);
    // An empty buffer would hold on to what CONNECT was read into.
    let rest = if rest.is_empty() { BytesMut::new() } else { rest };
    Counters::add(&hub.shared.counters.connected, 1);
    Connection::new(hub.clone(), connected, principal, session_expiry, keep_alive, rest)
}
