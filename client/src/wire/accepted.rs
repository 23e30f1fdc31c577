//! The event by which a node tells a caller that it carries its call out.

use serde::{Deserialize, Serialize};

use super::name::ClientId;

/// The event's name, in `{root}/event/{object}/accepted/{client}`.
pub const ACCEPTED: &str = "accepted";
/// The largest payload that is read, in bytes.
const LARGEST: usize = 512;

/// Who carries a call out. Sent with the correlation of the request, which must have at least 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The node.
    pub node: ClientId,
    /// Of which start, as its state in the registry says it.
    pub epoch: String,
}

#[derive(Serialize, Deserialize)]
struct Written {
    node: String,
    epoch: String,
}

impl Accepted {
    /// Reads it; `None` for what is none.
    pub fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() > LARGEST {
            return None;
        }
        let Written { node, epoch } = serde_json::from_slice(payload).ok()?;
        Some(Self { node: ClientId::new(&node).ok()?, epoch })
    }

    /// Writes it.
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
