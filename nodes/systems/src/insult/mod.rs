//! Insults, texts without them, and subscribers who want to be insulted.
//!
//! | Module | Content |
//! |---|---|
//! | [`store`] | Both lists, kept by one object |
//! | [`service`] | Registers insults; any number of replicas |
//! | [`filter`] | Replaces insults in texts; any number of replicas |
//! | [`notifier`] | Calls its subscribers back with an insult |
//! | `censor` | Word boundaries and matching |
//!
//! Replicas keep no state that the store does not have: each of them gives the same answer.

mod censor;
pub mod filter;
pub mod notifier;
pub mod service;
pub mod store;

use rantai_client::wire::fault::{Code, Fault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of texts in one call.
const MOST: usize = 1_000;
/// Maximum size of a text, in bytes.
const LONGEST: usize = 4 << 10;
/// Maximum size of all texts of a call, in bytes: as JSON they may be six times as large, which still fits into a packet.
const LARGEST: usize = 128 << 10;
/// Maximum size of a list in a reply, in bytes of JSON; the rest is requested with `after`.
const PAGE: usize = 512 << 10;

/// A text, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text or an array of texts")]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Self {
        match texts {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

/// Checks the number and the sizes of texts.
fn check(texts: &[String]) -> Result<(), Fault> {
    if texts.len() > MOST {
        let text = format!("{} texts; a call may have {MOST}", texts.len());
        return Err(Fault::new(Code::TOO_LARGE, text).with("limit", MOST));
    }
    if let Some(long) = texts.iter().find(|text| text.len() > LONGEST) {
        let text = format!("a text of {} bytes; it may have {LONGEST}", long.len());
        return Err(Fault::new(Code::TOO_LARGE, text).with("limit", LONGEST));
    }
    let all: usize = texts.iter().map(String::len).sum();
    if all > LARGEST {
        let text = format!("texts of {all} bytes; together they may have {LARGEST}");
        return Err(Fault::new(Code::TOO_LARGE, text).with("limit", LARGEST));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_its_limits() {
        assert!(check(&vec![String::new(); MOST]).is_ok());
        assert!(check(&vec![String::new(); MOST + 1]).is_err());
        assert!(check(&["x".repeat(LONGEST)]).is_ok());
        assert!(check(&["x".repeat(LONGEST + 1)]).is_err());
        assert!(check(&vec!["x".repeat(LONGEST); LARGEST / LONGEST]).is_ok());
        assert!(check(&vec!["x".repeat(LONGEST); LARGEST / LONGEST + 1]).is_err());
    }
}
