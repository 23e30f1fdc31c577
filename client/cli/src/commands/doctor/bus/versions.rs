//! Which versions of MQTT the broker speaks.

use bytes::BytesMut;
use rmqtt_codec::types::{MQTT_LEVEL_31, MQTT_LEVEL_311, Protocol};
use rmqtt_codec::v3::{Codec, Connect, ConnectAckReason, Packet};
use tokio_util::codec::Encoder as _;

use super::super::trouble::Trouble;
use super::super::wire::Wire;
use super::{Finding, Probe, item};

/// The longest packet that is read: nothing but a CONNACK is expected.
const MAX_PACKET: u32 = 64 << 10;

pub(in super::super) async fn versions(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let identity = probe.examination.client();
    let (five, later, earlier) = (
        is_spoken(&probe.link(&identity).await.map(drop)),
        is_spoken(&connect(probe, MQTT_LEVEL_311).await),
        is_spoken(&connect(probe, MQTT_LEVEL_31).await),
    );
    let versions = [("3.1", earlier), ("3.1.1", later), ("5", five)];
    let listed = |wanted: bool| {
        let versions = versions.iter().filter(|(_, spoken)| *spoken == wanted).map(|(name, _)| *name);
        versions.collect::<Vec<_>>().join(", ")
    };
    if !five {
        return Ok(item::VERSIONS.bad(format!("MQTT 5 is not spoken; spoken is: {}", listed(true))));
    }
    if !later {
        let text = format!("spoken is {}: devices of MQTT 3.1.1 cannot connect", listed(true));
        return Ok(item::VERSIONS.warning(text));
    }
    if !earlier {
        return Ok(item::VERSIONS.ok("MQTT 3.1.1 and 5; not 3.1, which only devices from before 2014 need"));
    }
    Ok(item::VERSIONS.ok(format!("MQTT {}", listed(true))))
}

/// A client that is refused for who it is speaks a version that the broker knows.
fn is_spoken(connected: &Result<(), Trouble>) -> bool {
    match connected {
        Ok(()) => true,
        Err(Trouble::Refused { code, .. }) => !matches!(code, 1 | 0x84),
        Err(_) => false,
    }
}

/// Connects in an earlier version, and ends the connection.
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
    let mut wire = Wire::open(&examination.address, Codec::new(MAX_PACKET), probe.deadline).await?;
    wire.send_bytes(&encode(connect, level)?).await?;
    match wire.next("a CONNACK").await? {
        Packet::ConnectAck(answer) if answer.return_code == ConnectAckReason::ConnectionAccepted => {
            wire.send(Packet::Disconnect).await
        }
        Packet::ConnectAck(answer) => {
            Err(Trouble::Refused { code: answer.return_code.into(), why: String::new() })
        }
        _ => Err(Trouble::Malformed("the first packet is no CONNACK".to_owned())),
    }
}

/// The bytes of a CONNECT. The codec writes the name of each version, but always the level of 3.1.1 behind it.
fn encode(connect: Connect, level: u8) -> Result<BytesMut, Trouble> {
    let name = connect.protocol.name().as_bytes();
    let mut bytes = BytesMut::new();
    Codec::new(MAX_PACKET).encode(Packet::Connect(Box::new(connect)), &mut bytes)?;
    let at = bytes.windows(name.len()).position(|window| window == name).expect("it begins with the name");
    bytes[at + name.len()] = level;
    Ok(bytes)
}
