//! Protocol of a CONNECT: MQTT 5, 3.1.1, or 3.1, and whether it comes from a bridge.

use super::error::DecodeError;
use super::reason::Reason;
use super::version::Version;

/// Bit of the protocol level that bridges set, such as those of mosquitto.
const BRIDGE: u8 = 0x80;

/// Protocol of a client, by the name and level in its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// MQTT 3.1 (`MQIsdp`, level 3): on the wire like 3.1.1, except for its CONNECT.
    Mqtt31,
    /// MQTT 3.1.1.
    Mqtt311,
    /// MQTT 5.
    Mqtt5,
}

impl Protocol {
    pub(crate) fn version(self) -> Version {
        match self {
            Self::Mqtt31 | Self::Mqtt311 => Version::V3,
            Self::Mqtt5 => Version::V5,
        }
    }

    /// Returns the usual name of the version.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mqtt31 => "3.1",
            Self::Mqtt311 => "3.1.1",
            Self::Mqtt5 => "5",
        }
    }
}

/// Reads name and level from the body of a CONNECT. The returned flag tells whether the client is a bridge.
///
/// # Errors
///
/// [`Reason::UNSUPPORTED_VERSION`] for any other protocol.
pub(super) fn read(body: &[u8]) -> Result<(Protocol, bool), DecodeError> {
    let unsupported = |text| Err(DecodeError { reason: Reason::UNSUPPORTED_VERSION, text });
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] => match *level {
            4 => Ok((Protocol::Mqtt311, false)),
            5 => Ok((Protocol::Mqtt5, false)),
            level if level == BRIDGE | 4 => Ok((Protocol::Mqtt311, true)),
            _ => unsupported("neither MQTT 3.1, 3.1.1 nor 5"),
        },
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => match *level {
            3 => Ok((Protocol::Mqtt31, false)),
            level if level == BRIDGE | 3 => Ok((Protocol::Mqtt31, true)),
            _ => unsupported("neither MQTT 3.1, 3.1.1 nor 5"),
        },
        [high, low, rest @ ..] if rest.len() <= usize::from(u16::from_be_bytes([*high, *low])) => {
            Err(DecodeError::malformed("the packet ends too soon"))
        }
        [] | [_] => Err(DecodeError::malformed("the packet ends too soon")),
        _ => unsupported("the protocol name is not MQTT"),
    }
}

/// Returns the version in which a CONNECT of this level is refused: that of MQTT 5 for any later version.
pub(super) fn version_of_level(level: u8) -> Version {
    if (5..BRIDGE).contains(&level) { Version::V5 } else { Version::V3 }
}
