//! Insults, texts without them, and whoever wants to be insulted.
//!
//! | Room | What |
//! |---|---|
//! | [`store`] | Both lists, kept by one object |
//! | [`service`] | Registers insults; any number of replicas |
//! | [`filter`] | Takes them out of texts; any number of replicas |
//! | [`notifier`] | Calls its subscribers back with one of them |
//! | `censor` | What a word is |
//!
//! Replicas know nothing that the store does not: whichever of them is asked, the answer is the same.

mod censor;
pub mod filter;
pub mod notifier;
pub mod service;
pub mod store;

use rantai_client::wire::fault::{Code, Fault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Texts of one call.
const MOST: usize = 1_000;
/// The largest of them, in bytes.
const LONGEST: usize = 4 << 10;
/// All of them together: as JSON they may have six times as many, which still fits into a packet.
const LARGEST: usize = 128 << 10;
/// A list that is answered, in bytes of JSON; what follows is asked for with `after`.
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

/// Refuses what is too much, or too large.
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
