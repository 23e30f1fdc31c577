//! The `accepted` event, by which a node notifies a caller that it executes its call.

use serde::{Deserialize, Serialize};

use super::json;
use super::name::ClientId;

/// Name of the event, used in `{root}/event/{object}/accepted/{client}`.
pub const ACCEPTED: &str = "accepted";
/// Maximum payload size, in bytes.
const MAX_PAYLOAD_BYTES: usize = 512;

/// Payload of the event. Its correlation is that of the request, of at least 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Node that executes the call, or that it was passed on to.
    pub node: ClientId,
    /// Epoch of that node, as in its registry state.
    pub epoch: String,
    /// Number of links of a chain before the node that publishes the event.
    pub trail: u64,
    /// Whether another node publishes the event on behalf of this one, to which it has passed the request on.
    pub passed_on: bool,
}

#[derive(Serialize, Deserialize)]
struct Written {
    node: String,
    epoch: String,
    #[serde(default, skip_serializing_if = "is_default")]
    trail: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    passed_on: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Accepted {
    /// Parses a payload; `None` if it is not valid.
    pub fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return None;
        }
        let written = serde_json::from_slice(payload).ok()?;
        let Written { node, epoch, trail, passed_on } = json::typed(written).ok()?;
        Some(Self { node: ClientId::new(&node).ok()?, epoch, trail, passed_on })
    }

    /// Serializes the payload.
    pub fn write(&self) -> Vec<u8> {
        let (node, epoch) = (self.node.to_string(), self.epoch.clone());
        let written = Written { node, epoch, trail: self.trail, passed_on: self.passed_on };
        serde_json::to_vec(&written).expect("texts and a number are JSON")
    }

    /// Returns whether the event is about a later link of a chain than `earlier`, or the same one. An event without a
    /// trail counts as later, because earlier versions of nodes do not write one.
    pub(crate) fn supersedes(&self, earlier: &Self) -> bool {
        let place = |word: &Self| (word.trail, word.passed_on);
        place(self) == (0, false) || place(self) >= place(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(node: &str, trail: u64, passed_on: bool) -> Accepted {
        let node = ClientId::new(node).expect("an id");
        Accepted { node, epoch: "0192f7c4".to_owned(), trail, passed_on }
    }

    #[test]
    fn accepted_event_of_a_later_link_supersedes_that_of_an_earlier_one() {
        let (own, of_next) = (word("one", 1, false), word("two", 1, true));
        let (next, later) = (word("two", 2, false), word("three", 3, false));
        assert!(of_next.supersedes(&own) && next.supersedes(&of_next) && later.supersedes(&next));
        assert!(!own.supersedes(&of_next) && !of_next.supersedes(&next) && !of_next.supersedes(&later));
        assert!(next.supersedes(&next), "of another start");
        assert!(word("old", 0, false).supersedes(&of_next), "a node from before");
    }

    #[test]
    fn accepted_event_survives_a_round_trip_and_invalid_payloads_are_refused() {
        let accepted = word("pi-east", 0, false);
        let written = accepted.write();
        assert_eq!(written, br#"{"node":"pi-east","epoch":"0192f7c4"}"#);
        assert_eq!(Accepted::read(&written), Some(accepted));
        let passed_on = word("pi-east", 2, true);
        let written = passed_on.write();
        assert_eq!(written, br#"{"node":"pi-east","epoch":"0192f7c4","trail":2,"passed_on":true}"#);
        assert_eq!(Accepted::read(&written), Some(passed_on));
        let long = format!(r#"{{"node":"pi","epoch":"{}"}}"#, "0".repeat(MAX_PAYLOAD_BYTES));
        let more = r#"{"node":"pi","epoch":"1","since":3}"#;
        for (text, is_one) in [
            ("", false),
            ("{}", false),
            (r#"{"node":"a b","epoch":"1"}"#, false),
            (&long, false),
            (more, true),
            (r#"{"node":"pi","epoch":"1","trail":2.0}"#, true),
        ] {
            assert_eq!(Accepted::read(text.as_bytes()).is_some(), is_one, "{text}");
        }
    }
}
