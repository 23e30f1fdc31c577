//! The `accepted` event, by which a node notifies a caller that it executes its call.

use serde::{Deserialize, Serialize};

use super::name::ClientId;

/// Name of the event, used in `{root}/event/{object}/accepted/{client}`.
pub const ACCEPTED: &str = "accepted";
/// Maximum payload size, in bytes.
const LARGEST: usize = 512;

/// Payload of the event. Its correlation is that of the request, of at least 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Node that executes the call.
    pub node: ClientId,
    /// Epoch of that node, as in its registry state.
    pub epoch: String,
}

#[derive(Serialize, Deserialize)]
struct Written {
    node: String,
    epoch: String,
}

impl Accepted {
    /// Parses a payload; `None` if it is not valid.
    pub fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() > LARGEST {
            return None;
        }
        let Written { node, epoch } = serde_json::from_slice(payload).ok()?;
        Some(Self { node: ClientId::new(&node).ok()?, epoch })
    }

    /// Serializes the payload.
    pub fn write(&self) -> Vec<u8> {
        let written = Written { node: self.node.to_string(), epoch: self.epoch.clone() };
        serde_json::to_vec(&written).expect("two texts are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let accepted =
            Accepted { node: ClientId::new("pi-east").expect("an id"), epoch: "0192f7c4".to_owned() };
        let written = accepted.write();
        assert_eq!(written, br#"{"node":"pi-east","epoch":"0192f7c4"}"#);
        assert_eq!(Accepted::read(&written), Some(accepted));
        let long = format!(r#"{{"node":"pi","epoch":"{}"}}"#, "0".repeat(LARGEST));
        let more = r#"{"node":"pi","epoch":"1","since":3}"#;
        for (text, is_one) in [
            ("", false),
            ("{}", false),
            (r#"{"node":"a b","epoch":"1"}"#, false),
            (&long, false),
            (more, true),
        ] {
            assert_eq!(Accepted::read(text.as_bytes()).is_some(), is_one, "{text}");
        }
    }
}
