//! The versions of MQTT that are tested.

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V3,
    /// MQTT 5, protocol level 5.
    V5,
}

impl Version {
    /// Both, for tests of what the standards have in common.
    pub const BOTH: [Self; 2] = [Self::V3, Self::V5];

    /// The byte that names it in CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Self::V3 => 4,
            Self::V5 => 5,
        }
    }
}
