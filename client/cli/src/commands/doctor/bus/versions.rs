//! Versions of MQTT that the broker supports.

use bytes::BytesMut;
use rmqtt_codec::types::{MQTT_LEVEL_31, MQTT_LEVEL_311, Protocol};
use rmqtt_codec::v3::{Codec, Connect, ConnectAckReason, Packet};
use tokio_util::codec::Encoder as _;

use super::super::trouble::Trouble;
use super::super::wire::Wire;
use super::{Finding, Probe, item};

/// Maximum size of a packet that is read, in bytes: only a CONNACK is expected.
const MAX_PACKET: u32 = 64 << 10;

/// Whether the broker supports a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Yes,
    No,
    /// The answer of the broker is unclear.
    Unclear,
}

pub(in super::super) async fn versions(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let (earlier, later) = (spoken(probe, MQTT_LEVEL_31).await, spoken(probe, MQTT_LEVEL_311).await);
    let identity = probe.examination.client();
    let five = is_spoken(&probe.link(&identity).await.map(drop));
    let versions = [("3.1", earlier), ("3.1.1", later), ("5", five)];
    let listed = |wanted: Spoken| {
        let versions = versions.iter().filter(|(_, spoken)| *spoken == wanted).map(|(name, _)| *name);
        versions.collect::<Vec<_>>().join(", ")
    };
    let unclear = listed(Spoken::Unclear);
    if five == Spoken::No {
        return Ok(item::VERSIONS.bad(format!("MQTT 5 is not spoken; spoken is: {}", listed(Spoken::Yes))));
    }
    if later == Spoken::No {
        let text = format!("spoken is {}: devices of MQTT 3.1.1 cannot connect", listed(Spoken::Yes));
        return Ok(item::VERSIONS.warning(text));
    }
    if five == Spoken::Unclear || later == Spoken::Unclear {
        let spoken = match &*listed(Spoken::Yes) {
            "" => String::new(),
            spoken => format!("; spoken is {spoken}"),
        };
        return Ok(item::VERSIONS.unknown(format!("no answer to a CONNECT of MQTT {unclear}{spoken}")));
    }
    Ok(item::VERSIONS.ok(match earlier {
        Spoken::Yes => "MQTT 3.1, 3.1.1, 5",
        Spoken::No => "MQTT 3.1.1 and 5; not 3.1, which only devices from before 2014 need",
        Spoken::Unclear => "MQTT 3.1.1 and 5; no answer in 3.1, which only devices from before 2014 need",
    }))
}

/// Tries an earlier version. A broker that does not support it may close the connection without an answer (3.1.1, 3.1.2.2);
/// one that closes it for another reason is unlikely to do so twice.
async fn spoken(probe: Probe<'_>, level: u8) -> Spoken {
    let mut connected = connect(probe, level).await;
    if matches!(connected, Err(Trouble::Closed { .. })) {
        connected = connect(probe, level).await;
        if matches!(connected, Err(Trouble::Closed { .. })) {
            return Spoken::No;
        }
    }
    is_spoken(&connected)
}

/// Judges the result of connecting. The version is supported if the client is refused because of its identity.
fn is_spoken(connected: &Result<(), Trouble>) -> Spoken {
    match connected {
        Err(Trouble::Refused { code: 1 | 0x84, .. } | Trouble::Malformed(_)) => Spoken::No,
        Ok(()) | Err(Trouble::Refused { .. }) => Spoken::Yes,
        Err(_) => Spoken::Unclear,
    }
}

/// Connects with an earlier version, and disconnects.
async fn connect(probe: Probe<'_>, level: u8) -> Result<(), Trouble> {
    let examination = probe.examination;
    let identity = if level == MQTT_LEVEL_31 { examination.short_client() } else { examination.client() };
    let login = identity.login.as_deref();
    let connect = Connect {
        protocol: Protocol(level),
        clean_session: true,
        keep_alive: 60,
        last_will: None,
        client_id: identity.id.as_str().into(),
        username: login.map(|login| login.user.as_str().into()),
        password: login.map(|login| login.password.clone().into_bytes().into()),
        cert: None,
    };
    let mut wire = Wire::open(&identity.address, Codec::new(MAX_PACKET), probe.deadline).await?;
    wire.send_bytes(&encode(connect, level)?).await?;
    let expected = "a CONNACK";
    match wire.next(probe.deadline, expected).await? {
        Some(Packet::ConnectAck(answer)) if answer.return_code == ConnectAckReason::ConnectionAccepted => {
            // The CONNACK is the result, even if the DISCONNECT cannot be sent.
            let _ = wire.send(Packet::Disconnect).await;
            Ok(())
        }
        Some(Packet::ConnectAck(answer)) => {
            Err(Trouble::Refused { code: answer.return_code.into(), why: String::new() })
        }
        Some(_) => Err(Trouble::Malformed("the first packet is no CONNACK".to_owned())),
        None => Err(Trouble::Silent(expected)),
    }
}

/// Encodes a CONNECT. The codec writes the protocol name of each version, but always the level of 3.1.1 after it.
fn encode(connect: Connect, level: u8) -> Result<BytesMut, Trouble> {
    let name = connect.protocol.name().as_bytes();
    let mut bytes = BytesMut::new();
    Codec::new(MAX_PACKET).encode(Packet::Connect(Box::new(connect)), &mut bytes)?;
    let at = bytes.windows(name.len()).position(|window| window == name).expect("it begins with the name");
    bytes[at + name.len()] = level;
    Ok(bytes)
}
