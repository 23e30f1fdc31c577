//! Insult services: registering insults, removing them from texts, and sending them to subscribers.
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
const MAX_TEXTS: usize = 1_000;
/// Maximum size of a text, in bytes.
const MAX_TEXT_BYTES: usize = 4 << 10;
/// Maximum size of all texts of a call, in bytes: as JSON they may be six times as large, which still fits into a packet.
const MAX_ALL_BYTES: usize = 128 << 10;
/// Maximum size of a list in a reply, in bytes of JSON; the rest is requested with `after`.
const MAX_PAGE_BYTES: usize = 512 << 10;

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text or an array of texts")]
pub enum Texts {
    /// One text.
    One(String),
    /// Several texts.
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
    if texts.len() > MAX_TEXTS {
        let text = format!("{} texts; a call may have {MAX_TEXTS}", texts.len());
        return Err(Fault::new(Code::TOO_LARGE, text).with("limit", MAX_TEXTS));
    }
    if let Some(long) = texts.iter().find(|text| text.len() > MAX_TEXT_BYTES) {
        let text = format!("a text of {} bytes; it may have {MAX_TEXT_BYTES}", long.len());
        return Err(Fault::new(Code::TOO_LARGE, text).with("limit", MAX_TEXT_BYTES));
    }
    let all: usize = texts.iter().map(String::len).sum();
    if all > MAX_ALL_BYTES {
        let text = format!("texts of {all} bytes; together they may have {MAX_ALL_BYTES}");
        return Err(Fault::new(Code::TOO_LARGE, text).with("limit", MAX_ALL_BYTES));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_size_of_texts_are_limited() {
        assert!(check(&vec![String::new(); MAX_TEXTS]).is_ok());
        assert!(check(&vec![String::new(); MAX_TEXTS + 1]).is_err());
        assert!(check(&["x".repeat(MAX_TEXT_BYTES)]).is_ok());
        assert!(check(&["x".repeat(MAX_TEXT_BYTES + 1)]).is_err());
        assert!(check(&vec!["x".repeat(MAX_TEXT_BYTES); MAX_ALL_BYTES / MAX_TEXT_BYTES]).is_ok());
        assert!(check(&vec!["x".repeat(MAX_TEXT_BYTES); MAX_ALL_BYTES / MAX_TEXT_BYTES + 1]).is_err());
    }
}
