//! Handshake of an accepted socket: reads CONNECT, writes CONNACK and begins or resumes a session.

pub(crate) mod computing;
mod refusal;
mod secure;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::access::{Denial, Principal};
use crate::certified::certified;
use crate::codec::{self, ConnAck, Connect, DecodeError, Packet, Reason, Version};
use crate::connection::{AgreedLimits, Connection};
use crate::counters::Counters;
use crate::handshakes::Evicted;
use crate::hub::Hub;
use crate::link::flush_all;
use crate::listener_rules::{Full, ListenerRules, Seat};
use crate::log::ClientText;
use crate::log_in::log_in;
use crate::peer::{Identity, Peer, Reach};
use crate::place::Place;
use crate::session::Scratch;
use crate::transport::{CloseCode, Transport};
use refusal::{Refusal, Refused, end_violation, refuse, say_goodbye};
use secure::secure;
use upgrade::upgrade;

/// Maximum size of a CONNECT packet, in bytes: every field of a will, a user name and a password at its maximum length
/// fits.
const MAX_CONNECT_BYTES: u32 = 320 << 10;

/// Interval at which a client that waits for its login is checked for having closed the connection.
const CLOSED_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// First byte of a TLS handshake. As the first byte of MQTT it would be a CONNECT with reserved flags.
const TLS_RECORD: u8 = 0x16;

/// Prefix of the client ids that are assigned to clients without one.
const ASSIGNED_ID_PREFIX: &str = "auto-";

// Rare waits in a handshake are boxed. With all of them, the future of a handshake would exceed the size that malloc
// caches for each thread (1,032 bytes), and would leave holes in memory between the connections that stay.

/// Serves one accepted socket until it ends, or closes it if its address has too many connections.
pub(crate) fn accept(
    hub: Arc<Hub>,
    transport: Transport,
    address: SocketAddr,
    rules: Arc<ListenerRules>,
) -> impl Future<Output = ()> + Send {
    // Boxed with its arguments, so that their memory is freed when the handshake is over.
    let handshake = Box::pin(async move {
        let counters = &hub.shared.counters;
        let Some((place, evicted)) = Place::take(&hub.shared, address.ip()) else {
            too_many(&hub, address, &counters.refused_per_address, "too many connections from this address");
            return None;
        };
        let mut transport = Some(transport);
        let why = tokio::select! {
            biased;
            connection = handshake(hub.clone(), &mut transport, (address, &rules), place) => return connection,
            Ok(why) = evicted => why,
        };
        let (counter, text) = match why {
            Evicted::PerAddress => {
                (&counters.refused_per_address, "too many connections from this address without a CONNECT")
            }
            Evicted::InAll => (&counters.refused_handshakes, "too many connections without a CONNECT in all"),
        };
        too_many(&hub, address, counter, text);
        if let Some(transport) = transport {
            // Does not wait for the client to read the packet, because other connections need the place.
            say_goodbye(&transport, CloseCode::TryAgainLater);
        }
        None
    });
    async move {
        match handshake.await {
            None => {}
            Some((connection, None)) => connection.serve().await,
            // Boxed, so that the futures of connections to listeners without a limit do not include it.
            Some((connection, Some(seat))) => {
                Box::pin(async move {
                    connection.serve().await;
                    drop(seat);
                })
                .await;
            }
        }
    }
}

fn too_many(hub: &Hub, address: SocketAddr, counter: &AtomicU64, text: &str) {
    Counters::add(counter, 1);
    if hub.shared.may_log(&hub.shared.log_lines.refused) {
        tracing::info!(peer = %address, "refused: {text}");
    }
}

/// Performs the handshake. The transport is taken out of `connecting` only if the connection is accepted.
async fn handshake(
    hub: Arc<Hub>,
    connecting: &mut Option<Transport>,
    (address, rules): (SocketAddr, &ListenerRules),
    mut place: Place,
) -> Option<(Box<Connection>, Option<Seat>)> {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut buffer = BytesMut::new();
    let transport = connecting.as_ref()?;
    let received = tokio::select! {
        received = timeout(hub.shared.limits().connect_timeout, async {
            if let Some(tls) = transport.tls()
                && !Box::pin(secure(&hub, transport, tls, address)).await
            {
                return Err(None);
            }
            if let (Transport::Web(web), Some(settings)) = (transport, &rules.web)
                && !Box::pin(upgrade(&hub, transport, (web, settings), address, &mut place)).await
            {
                return Err(None);
            }
            let received = receive(&hub, transport, &mut buffer, &mut place).await;
            if let (Err(None), Some(text)) = (&received, transport.violation()) {
                Box::pin(end_violation(&hub, transport, address, text)).await;
            }
            received
        }) => received,
        _ = stopping.wait_for(|&stop| stop) => {
            say_goodbye(transport, CloseCode::GoingAway);
            return None;
        }
    };
    let connect = match received {
        Ok(Ok(mut connect)) => {
            // Copied, because the client id would otherwise keep the packet in memory for as long as the session
            // lives.
            connect.client_id = ByteString::from(&*connect.client_id);
            connect.user_name = connect.user_name.map(|name| ByteString::from(&*name));
            connect
        }
        Ok(Err(None)) => {
            Box::pin(hub.shared.endings.take()).await;
            return None;
        }
        Ok(Err(Some(failure))) => {
            let version = codec::announced_version(&buffer);
            let who = Refused { version, packet_maximum: u32::MAX, client_id: "" };
            Box::pin(refuse(&hub, transport, address, &who, failure)).await;
            return None;
        }
        Err(_) => {
            Counters::add(&hub.shared.counters.refused_connections, 1);
            if hub.shared.may_log(&hub.shared.log_lines.refused) {
                tracing::info!(peer = %address, "refused: no CONNECT in time");
            }
            say_goodbye(transport, CloseCode::Policy);
            return None;
        }
    };
    Box::pin(answer(hub, (connecting, address, place), rules, connect, buffer, stopping)).await
}

/// Answers a CONNECT.
async fn answer(
    hub: Arc<Hub>,
    (connecting, address, place): (&mut Option<Transport>, SocketAddr, Place),
    rules: &ListenerRules,
    mut connect: Box<Connect>,
    buffer: BytesMut,
    mut stopping: watch::Receiver<bool>,
) -> Option<(Box<Connection>, Option<Seat>)> {
    let number = hub.number_connect();
    let transport = connecting.as_ref()?;
    let admitted = async {
        check(&connect)?;
        let principal = match certified(&hub, rules, transport, &connect) {
            Some(certified) => certified?,
            None => Box::pin(log_in(&hub, address, rules, &connect)).await?,
        };
        admit(&hub, address, &connect, &principal)?;
        Ok::<_, Refusal>(principal)
    };
    let admitted = tokio::select! {
        biased;
        admitted = admitted => Some(admitted),
        _ = stopping.wait_for(|&stop| stop) => {
            say_goodbye(transport, CloseCode::GoingAway);
            return None;
        }
        () = Box::pin(closed(transport)) => None,
    };
    let Some(admitted) = admitted else {
        Box::pin(hub.shared.endings.take()).await;
        return None;
    };
    let greeted = admitted.and_then(|principal| {
        let greeting = greeting(&hub, &mut connect);
        Ok((seat(&hub, rules, &connect.client_id, &principal)?, principal, greeting))
    });
    let (seat, principal, (ack, keep_alive)) = match greeted {
        Ok(greeted) => greeted,
        Err(failure) => {
            Box::pin(refuse(&hub, transport, address, &Refused::of(&connect), failure)).await;
            return None;
        }
    };
    let mut encoded = Vec::new();
    codec::connack(connect.version, ack.clone(), &mut encoded);
    if encoded.len() > connect.packet_maximum as usize {
        // Without CONNACK the client would lack required information, and a packet above its maximum must not be sent
        // [MQTT-3.1.2-24].
        let failure =
            DecodeError { reason: Reason::PACKET_TOO_LARGE, text: "a Maximum Packet Size below CONNACK's" };
        Box::pin(refuse(&hub, transport, address, &Refused::of(&connect), failure)).await;
        return None;
    }
    // Held until the client is connected.
    let _waiter = match hub.connection_of(&connect.client_id) {
        Some((session, link)) => Some(Box::pin(hub.read_out(&session, &link)).await),
        None => None,
    };
    let (version, packet_maximum, client_id) =
        (connect.version, connect.packet_maximum, connect.client_id.clone());
    let transport = connecting.take()?;
    match connected(&hub, (transport, address, number), (*connect, principal), (ack, keep_alive), buffer) {
        Ok(connection) => {
            place.hand_over();
            Some((Box::new(connection), seat))
        }
        Err((transport, denial)) => {
            // In the meantime another client has taken the client id, or the access rules have changed.
            let who = Refused { version, packet_maximum, client_id: &client_id };
            Box::pin(refuse(&hub, &transport, address, &who, denial)).await;
            None
        }
    }
}

/// Waits until the client has closed the connection. Checks periodically, because the socket is not read between
/// CONNECT and its answer.
async fn closed(transport: &Transport) {
    loop {
        sleep(CLOSED_CHECK_INTERVAL).await;
        if transport.is_read_closed() {
            return;
        }
    }
}

/// Reads until CONNECT is complete. `Err(None)` means that the client has closed the connection.
async fn receive(
    hub: &Hub,
    transport: &Transport,
    buffer: &mut BytesMut,
    place: &mut Place,
) -> Result<Box<Connect>, Option<DecodeError>> {
    let limit = hub.shared.limits().packet_bytes.min(MAX_CONNECT_BYTES);
    loop {
        if buffer.first() == Some(&TLS_RECORD) {
            return Err(Some(DecodeError::protocol("TLS on a listener without it; connect to one of TLS")));
        }
        // Decided by the first byte, before the length has arrived.
        if buffer.first().is_some_and(|first| first >> 4 != 1) {
            return Err(Some(DecodeError::protocol("the first packet is not CONNECT")));
        }
        if let Some(frame) = codec::frame(buffer, limit)?
            && frame.length <= buffer.len()
        {
            let start = BytesMut::from(&buffer[..frame.length.min(16)]);
            return match codec::decode(
                frame,
                buffer,
                None,
                hub.shared.clock.now_ms(),
                hub.shared.limits().user_properties,
            ) {
                Ok(Packet::Connect(connect)) => Ok(connect),
                Ok(_) => Err(Some(DecodeError::protocol("the first packet is not CONNECT"))),
                Err(failure) => {
                    if failure == codec::TOO_MANY_USER_PROPERTIES {
                        Counters::add(&hub.shared.counters.refused_properties, 1);
                    }
                    // Kept, so that the caller can read the protocol version for its answer.
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

/// Checks what can be checked before the client is authenticated.
fn check(connect: &Connect) -> Result<(), Refusal> {
    let refused = |reason: Reason| Err(Refusal::from(reason));
    if connect.authentication_method.is_some() {
        return refused(Reason::BAD_AUTHENTICATION_METHOD);
    }
    if connect.version == Version::V3 && connect.client_id.is_empty() && !connect.clean_start {
        return refused(Reason::CLIENT_ID_NOT_VALID);
    }
    Ok(())
}

/// Checks whether an authenticated client is admitted.
fn admit(hub: &Hub, address: SocketAddr, connect: &Connect, principal: &Principal) -> Result<(), Refusal> {
    let refused = |reason: Reason| Err(Refusal::from(reason));
    let shared = &hub.shared;
    // The broker's own process is admitted above the limit. So is a client that takes over from its earlier
    // connection, whose end the broker may not have noticed yet; whether it may is checked below.
    if shared.counters.connected.load(Ordering::Relaxed) >= shared.limits().connections as u64
        && !principal.local
        && hub.connection_of(&connect.client_id).is_none()
    {
        Counters::add(&shared.counters.refused_over_limit, 1);
        return refused(Reason::SERVER_BUSY);
    }
    let count = |_: &Denial| Counters::add(&shared.counters.refused_client_ids, 1);
    if connect.client_id.is_empty() {
        shared.access.check_client_id(ASSIGNED_ID_PREFIX, principal).inspect_err(count)?;
    } else {
        shared.access.claim_id(&connect.client_id, principal).inspect_err(count)?;
        if !hub.is_free_for(&connect.client_id, principal) {
            return Err(hub.session_of_another().into());
        }
    }
    if let Err(reason) = hub.admit(&connect.client_id, principal, address.ip()) {
        return refused(reason);
    }
    if let Some(text) = hub.shared.disk_refusal()
        && connect.session_expiry > 0
        && hub.shared.max_session_expiry() > 0
        && (connect.clean_start || !hub.sessions.lock().by_client.contains(&connect.client_id))
    {
        Counters::add(&hub.shared.counters.refused_store, 1);
        let reason =
            if connect.version == Version::V5 { Reason::QUOTA_EXCEEDED } else { Reason::SERVER_BUSY };
        return Err(DecodeError { reason, text }.into());
    }
    if let Some(will) = &connect.will {
        let topic = &will.message.topic;
        if will.message.properties.user.len() > hub.shared.limits().user_properties {
            Counters::add(&hub.shared.counters.refused_properties, 1);
            return refused(Reason::QUOTA_EXCEEDED);
        }
        if !crate::topic::valid_name(topic, hub.shared.limits().topic_levels) {
            return refused(Reason::TOPIC_NAME_INVALID);
        }
        if !principal.local && hub.shared.is_administrative(topic) {
            let text = "a will neither administers the broker nor speaks for it";
            return Err(DecodeError { reason: Reason::NOT_AUTHORIZED, text }.into());
        }
        if hub.has_no_room_for(will, &connect.client_id) && !principal.local {
            Counters::add(&hub.shared.counters.refused_wills, 1);
            return refused(Reason::QUOTA_EXCEEDED);
        }
        // No rule can contain a client id that is not assigned yet.
        let drawn = ByteString::from_static("/");
        let client_id = if connect.client_id.is_empty() { &drawn } else { &connect.client_id };
        let client = Identity { principal, client_id };
        let denied = |_: &Denial| Counters::add(&shared.counters.refused_access, 1);
        shared.access.authorize_will(client, &will.message).inspect_err(denied)?;
    }
    Ok(())
}

/// Reserves a place for a client at its listener, if the listener has a limit. The broker's own process needs none.
fn seat(
    hub: &Hub,
    rules: &ListenerRules,
    client_id: &ByteString,
    principal: &Principal,
) -> Result<Option<Seat>, Refusal> {
    if principal.local {
        return Ok(None);
    }
    rules.take_seat(client_id).map_err(|Full| {
        Counters::add(&hub.shared.counters.refused_listener, 1);
        let text = "too many clients at this listener; connect by another one, or later";
        DecodeError { reason: Reason::SERVER_BUSY, text }.into()
    })
}

/// Returns the CONNACK of an accepted client and the effective keep-alive in seconds. Assigns a client id if the client
/// has none.
fn greeting(hub: &Hub, connect: &mut Connect) -> (ConnAck, u16) {
    let limits = hub.shared.limits();
    let mut assigned = None;
    if connect.client_id.is_empty() {
        connect.client_id = format!("{ASSIGNED_ID_PREFIX}{}", hub.shared.random.id()).into();
        assigned = Some(connect.client_id.clone());
    }
    let mut keep_alive = connect.keep_alive;
    let above = limits.keep_alive > 0 && (keep_alive == 0 || keep_alive > limits.keep_alive);
    // MQTT 3.1.1 cannot announce another keep-alive, so the client's own stays in effect.
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
    (transport, address, number): (Transport, SocketAddr, u64),
    (connect, principal): (Connect, Arc<Principal>),
    (ack, keep_alive): (ConnAck, u16),
    rest: BytesMut,
) -> Result<Connection, (Transport, Denial)> {
    let mut scratch = Scratch::at(hub.shared.clock.now_ms());
    let peer = Peer {
        address,
        reach: Reach::of(&transport, address),
        connected_at: scratch.now,
        protocol: connect.protocol,
        number,
        version: connect.version,
        packet_maximum: connect.packet_maximum,
        receive_maximum: connect.receive_maximum,
        alias_maximum: connect.alias_maximum.min(hub.shared.limits().send_topic_aliases),
        problem_information: connect.problem_information,
        bridge: connect.bridge,
    };
    let session_expiry = connect.session_expiry;
    let agreed = AgreedLimits {
        packet_bytes: ack.packet_maximum,
        receive_maximum: ack.receive_maximum,
        topic_aliases: ack.alias_maximum,
    };
    let (client_id, protocol) = (connect.client_id.clone(), connect.protocol);
    let connected = hub.connect(connect, principal.clone(), peer, transport, ack, &mut scratch)?;
    if hub.shared.may_log(&hub.shared.log_lines.connected) {
        tracing::info!(
            client = %ClientText(&client_id),
            peer = %address,
            version = protocol.name(),
            bridge = peer.bridge,
            user = %ClientText(principal.name()),
            "connected"
        );
    }
    flush_all(&mut scratch.dirty);
    // An empty buffer would still keep the memory of CONNECT.
    let rest = if rest.is_empty() { BytesMut::new() } else { rest };
    hub.shared.counters.add_connected();
    Ok(Connection::new(hub.clone(), connected, session_expiry, (keep_alive, agreed), rest))
}
