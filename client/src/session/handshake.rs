//! Handshake: opens a stream to an address, sends CONNECT, and waits for CONNACK.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::{self, v5 as packets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::address::{Endpoint, Place};
use super::decode::reason_string;
use super::error::{ConnectError, ConnectRefusal};
use super::frame::{self, Incoming};
use super::mismatch::{Spoken, mismatch};
use super::options::Options;
use super::reach::reach;
use super::stream::Stream;
use super::tickets::Tickets;
use crate::error::error_chain;
use crate::wire::features::{BrokerFeatures, FEATURES_PROPERTY};

/// Time limit for the broker to answer CONNECT, and to read what is written before a DISCONNECT.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for each of several places in the first round, so that a dead one does not delay the others for long.
const FIRST_ROUND_TIMEOUT: Duration = Duration::from_secs(3);
/// Receive Maximum of a broker that sends none (MQTT 5, 3.2.2.3.3).
const DEFAULT_RECEIVE_MAXIMUM: u16 = u16::MAX;
/// Maximum packet size that MQTT can express, in bytes (MQTT 5, 2.1.4).
const MAX_MQTT_PACKET_BYTES: u32 = 268_435_460;
/// Buffer capacity for the first read, in bytes.
const FIRST_READ_CAPACITY: usize = 4 << 10;

/// Connection that the broker has accepted.
pub(super) struct Connection {
    /// Address of the broker, for logs.
    pub(super) place: String,
    pub(super) stream: Stream,
    /// Bytes read after the CONNACK.
    pub(super) reading: BytesMut,
    pub(super) resumed: bool,
    pub(super) window: u16,
    pub(super) max_packet: u32,
    pub(super) keep_alive: Duration,
    pub(super) features: BrokerFeatures,
}

/// Tries each place of the address once, in order, until one accepts.
pub(super) async fn connect(options: &Options, tickets: &Tickets) -> Result<Connection, ConnectError> {
    let endpoints = &options.address.endpoints;
    if let [endpoint] = &endpoints[..] {
        return attempt(options, endpoint, tickets, HANDSHAKE_TIMEOUT).await;
    }
    let mut errors = Vec::new();
    for endpoint in endpoints {
        match attempt(options, endpoint, tickets, FIRST_ROUND_TIMEOUT).await {
            Ok(connection) => return Ok(instead_of(&errors, connection)),
            Err(error) => errors.push(error),
        }
    }
    // Second round with the full time limit: a slow broker is better than none.
    for number in 0..errors.len() {
        if matches!(errors[number], ConnectError::Silent { .. }) {
            match attempt(options, &endpoints[number], tickets, HANDSHAKE_TIMEOUT).await {
                Ok(connection) => return Ok(instead_of(&errors[..number], connection)),
                Err(error) => errors[number] = error,
            }
        }
    }
    Err(ConnectError::All { errors })
}

/// Logs why other places were not used.
fn instead_of(errors: &[ConnectError], connection: Connection) -> Connection {
    for error in errors {
        tracing::warn!("{}; connected to {} instead", error_chain(error), connection.place);
    }
    connection
}

/// Tries one place, from resolving the host name to CONNACK, for at most `patience`.
async fn attempt(
    options: &Options,
    endpoint: &Endpoint,
    tickets: &Tickets,
    patience: Duration,
) -> Result<Connection, ConnectError> {
    let mut is_reached = false;
    if let Ok(result) = timeout(patience, handshake(options, endpoint, tickets, &mut is_reached)).await {
        return result;
    }
    let address = endpoint.place.to_string();
    if is_reached {
        return Err(ConnectError::Silent { address, within: patience });
    }
    let text = format!("no answer within {} s", patience.as_secs());
    Err(ConnectError::Unreachable { address, source: io::Error::new(io::ErrorKind::TimedOut, text) })
}

async fn handshake(
    options: &Options,
    endpoint: &Endpoint,
    tickets: &Tickets,
    is_reached: &mut bool,
) -> Result<Connection, ConnectError> {
    let address = endpoint.place.to_string();
    let protocol = |reason: String| ConnectError::Protocol { address: address.clone(), reason };
    let (mut stream, errors) =
        reach(&endpoint.place, &options.address.tls, tickets, || *is_reached = true).await?;
    let mut greeting = BytesMut::new();
    greet(options, endpoint).write(&mut greeting, None).map_err(|error| protocol(error.to_string()))?;
    let sent = async {
        stream.write_all(&greeting).await?;
        stream.flush().await
    };
    // A broker that closes the connection may have sent the reason before.
    let mut unsent = sent.await.err();
    let mut reading = BytesMut::with_capacity(FIRST_READ_CAPACITY);
    let answer = loop {
        // MQTT is the expected protocol here.
        let other = Spoken::of(&reading).filter(|spoken| *spoken != Spoken::Mqtt);
        if let Some(error) = other.and_then(|spoken| mismatch(&endpoint.place, spoken)) {
            return Err(error);
        }
        match frame::next(&mut reading, options.max_packet as usize) {
            Ok(Some(Incoming::Other(packets::Packet::ConnAck(answer)))) => break answer,
            Ok(Some(Incoming::Other(packets::Packet::Disconnect(farewell)))) => {
                let reason = format!("{:?}", farewell.reason_code);
                return Err(ConnectError::Refused { address, reason, refusal: ConnectRefusal::Other });
            }
            Ok(Some(_)) => return Err(protocol("its first packet is no CONNACK".to_owned())),
            Ok(None) => {}
            Err(error) => return Err(protocol(error.to_string())),
        }
        let read = stream.read_buf(&mut reading).await;
        match (read, unsent.take()) {
            (Ok(1..), error) => unsent = error,
            (Ok(0) | Err(_), Some(error)) | (Err(error), None) => return Err(errors.explain(error)),
            (Ok(0), None) => {
                let hint = match &endpoint.place {
                    Place::Network { host, port, tls, path: None } => {
                        let at = |tls, path| Place::Network { host: host.clone(), port: *port, tls, path };
                        let web = at(*tls, Some("/mqtt".to_owned()));
                        if *tls {
                            format!("; where it is a port for WebSocket, try {web}")
                        } else {
                            format!(
                                "; where it is a port for TLS or WebSocket, try {} or {web}",
                                at(true, None)
                            )
                        }
                    }
                    _ => String::new(),
                };
                return Err(ConnectError::Closed { address, hint });
            }
        }
    };
    if answer.code != packets::ConnectReturnCode::Success {
        let (reason, refusal) = refusal(&answer, endpoint.user.as_ref().map(|(user, _)| &**user));
        return Err(ConnectError::Refused { address, reason, refusal });
    }
    let properties = answer.properties.as_ref();
    if properties.and_then(|p| p.max_qos) == Some(0) {
        return Err(protocol("it takes nothing at QoS 1".to_owned()));
    }
    let user = || properties.into_iter().flat_map(|p| &p.user_properties);
    let features = user().find(|(name, _)| name == FEATURES_PROPERTY);
    // Rantai's broker reports how many messages its full session queue has dropped.
    for (_, count) in user().filter(|(name, _)| name == "messages-dropped") {
        tracing::warn!(%address, count = %count.escape_default(), "messages for this session were dropped while it was away");
    }
    let keep_alive = properties.and_then(|p| p.server_keep_alive).unwrap_or(options.keep_alive);
    Ok(Connection {
        place: address.clone(),
        stream,
        reading,
        resumed: answer.session_present,
        window: properties.and_then(|p| p.receive_max).unwrap_or(DEFAULT_RECEIVE_MAXIMUM).max(1),
        max_packet: properties.and_then(|p| p.max_packet_size).unwrap_or(MAX_MQTT_PACKET_BYTES),
        // With a keep-alive of 0 no PINGREQ is required; the client sends them anyway, to detect a dead broker.
        features: features.map_or_else(BrokerFeatures::default, |(_, names)| BrokerFeatures::read(names)),
        keep_alive: Duration::from_secs(if keep_alive == 0 { 60 } else { keep_alive.into() }),
    })
}

fn greet(options: &Options, endpoint: &Endpoint) -> packets::Packet {
    let connect = packets::Connect {
        keep_alive: options.keep_alive.max(1),
        client_id: options.client_id.to_string(),
        clean_start: options.session_expiry == 0,
        properties: Some(packets::ConnectProperties {
            session_expiry_interval: (options.session_expiry > 0).then_some(options.session_expiry),
            receive_maximum: None,
            max_packet_size: Some(options.max_packet),
            topic_alias_max: None,
            request_response_info: None,
            request_problem_info: None,
            user_properties: Vec::new(),
            authentication_method: None,
            authentication_data: None,
        }),
    };
    let will = options.will.as_ref().map(|will| packets::LastWill {
        topic: will.topic.clone().into_bytes().into(),
        message: will.payload.clone(),
        qos: mqttbytes::QoS::AtLeastOnce,
        retain: true,
        properties: will.expiry.map(|expiry| packets::LastWillProperties {
            delay_interval: None,
            payload_format_indicator: None,
            message_expiry_interval: Some(expiry),
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        }),
    });
    let user = endpoint.user.clone();
    let login = user.map(|(username, password)| packets::Login { username, password });
    packets::Packet::Connect(connect, will, login)
}

/// Returns the reason and the category of a CONNACK that refuses the connection.
fn refusal(answer: &packets::ConnAck, user: Option<&str>) -> (String, ConnectRefusal) {
    use packets::ConnectReturnCode as Code;
    let (text, refusal) = match answer.code {
        Code::BadUserNamePassword => {
            ("user name or password is wrong".to_owned(), ConnectRefusal::WrongPassword)
        }
        Code::NotAuthorized if user.is_none() => {
            ("not authorized without a user name".to_owned(), ConnectRefusal::NoUser)
        }
        Code::NotAuthorized => ("not authorized".to_owned(), ConnectRefusal::NotAllowed),
        Code::BadClientId | Code::ClientIdentifierNotValid => {
            ("it does not take the client id".to_owned(), ConnectRefusal::ClientId)
        }
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
            ("it does not speak MQTT 5".to_owned(), ConnectRefusal::Other)
        }
        Code::ServiceUnavailable
        | Code::ServerUnavailable
        | Code::ServerBusy
        | Code::QuotaExceeded
        | Code::ConnectionRateExceeded => ("it is busy".to_owned(), ConnectRefusal::Busy),
        other => (format!("{other:?}"), ConnectRefusal::Other),
    };
    let why = reason_string(answer.properties.as_ref().and_then(|told| told.reason_string.as_deref()));
    if why.is_empty() || refusal == ConnectRefusal::WrongPassword {
        return (text, refusal);
    }
    (format!("{text} ({why})"), refusal)
}
