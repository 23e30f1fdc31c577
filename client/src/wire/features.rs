//! Features of a broker beyond MQTT, announced by the user property `rantai` of CONNACK.

/// User property of CONNACK that lists the features.
pub const FEATURES_PROPERTY: &str = "rantai";

const NAMES: [&str; 5] = ["caller", "grants", "unrouted", "sticky", "acts_for"];
const CALLER: u8 = 1;
const GRANTS: u8 = 1 << 1;
const UNROUTED: u8 = 1 << 2;
const STICKY: u8 = 1 << 3;
const ACTS_FOR: u8 = 1 << 4;

/// Features of a broker; empty if it announces none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerFeatures(u8);

impl BrokerFeatures {
    /// Parses the value of the property: names separated by commas. Unknown names are ignored.
    pub fn read(text: &str) -> Self {
        let known = text.split(',').filter_map(|name| NAMES.iter().position(|known| *known == name.trim()));
        Self(known.fold(0, |bits, position| bits | 1 << position))
    }

    /// Returns whether the broker sets or removes the user properties `caller` and `via` of every message, so that they can be
    /// trusted.
    pub fn caller(self) -> bool {
        self.0 & CALLER != 0
    }

    /// Returns whether replies need a grant, and requests of logged-in clients always have a Response Topic.
    pub fn grants(self) -> bool {
        self.0 & GRANTS != 0
    }

    /// Returns whether the broker answers requests for objects that no node serves.
    pub fn unrouted(self) -> bool {
        self.0 & UNROUTED != 0
    }

    /// Returns whether requests that belong together go to the same member of a shared group.
    pub fn sticky(self) -> bool {
        self.0 & STICKY != 0
    }

    /// Returns whether this connection may call on behalf of all users.
    pub fn acts_for(self) -> bool {
        self.0 & ACTS_FOR != 0
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_features_are_read_and_unknown_ones_ignored() {
        let all = |f: BrokerFeatures| [f.caller(), f.grants(), f.unrouted(), f.sticky(), f.acts_for()];
        for (text, expected) in [
            ("", [false; 5]),
            ("caller", [true, false, false, false, false]),
            ("grants, caller", [true, true, false, false, false]),
            ("unrouted,teleport,sticky", [false, false, true, true, false]),
            ("caller,grants,acts_for", [true, true, false, false, true]),
            ("callers,Caller", [false; 5]),
        ] {
            let features = BrokerFeatures::read(text);
            assert_eq!(all(features), expected, "{text:?}");
            assert_eq!(BrokerFeatures::from_bits(features.bits()), features);
        }
    }
}
