//! Versions of MQTT.

/// Protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1 (level 4), and 3.1.
    V3,
    /// MQTT 5.
    V5,
}
