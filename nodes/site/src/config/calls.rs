//! Settings of calls in nodes.toml: limits that apply to all objects.

use std::num::NonZeroU64;
use std::time::Duration;

use rantai_nodes::dispatch::Limits;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Limits of calls to the objects of a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallLimits {
    #[serde(rename = "trust_caller")]
    _trust_caller: RemovedKey,
    /// Maximum number of calls of one caller that run at the same time at one object. Default: its fair share of `concurrent`.
    pub per_caller: Option<usize>,
    /// Maximum time that a call may run in milliseconds, whatever deadline its caller sets. Default: 3,600,000.
    pub max_deadline_ms: Option<NonZeroU64>,
    /// Time in milliseconds after which the caller of a running call is notified which node runs it. Default: 250.
    pub accepted_after_ms: Option<NonZeroU64>,
}

impl CallLimits {
    /// Applies these limits to those of an object.
    pub fn apply(&self, limits: Limits) -> Limits {
        let max_deadline = self.max_deadline_ms.map(|ms| Duration::from_millis(ms.get()));
        let accepted_after = self.accepted_after_ms.map(|ms| Duration::from_millis(ms.get()));
        Limits {
            accepted_after: accepted_after.unwrap_or(limits.accepted_after),
            per_caller: self.per_caller.or(limits.per_caller),
            max_deadline: max_deadline.unwrap_or(limits.max_deadline),
            ..limits
        }
    }
}

/// Key of earlier versions, which is an error now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RemovedKey;

impl<'de> Deserialize<'de> for RemovedKey {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        let text = "remove `trust_caller`: nodes count by user where their broker says in CONNACK that it stamps `caller`";
        Err(D::Error::custom(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_caller_is_an_error_that_says_to_remove_it() {
        for value in ["true", "false"] {
            let error =
                toml::from_str::<CallLimits>(&format!("trust_caller = {value}")).expect_err("removed");
            assert!(error.message().starts_with("remove `trust_caller`"), "{error}");
        }
        assert_eq!(toml::from_str("").ok(), Some(CallLimits::default()));
    }
}
