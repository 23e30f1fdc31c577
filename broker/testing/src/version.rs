//! Versions of MQTT under test.

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V3,
    /// MQTT 5, protocol level 5.
    V5,
}

impl Version {
    /// Both versions, for tests of what the standards have in common.
    pub const BOTH: [Self; 2] = [Self::V3, Self::V5];

    /// Returns the protocol level in CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Self::V3 => 4,
            Self::V5 => 5,
        }
    }
}
