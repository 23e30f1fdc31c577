//! What stands of calls in nodes.toml: limits that all objects have alike.

use std::num::NonZeroU64;
use std::time::Duration;

use rantai_nodes::dispatch::Limits;
use serde::Deserialize;

/// Limits of calls to the objects of a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallLimits {
    /// Whether the broker stamps the user property `caller` (`caller_topics` of broker.toml): shares are then counted
    /// by user instead of by client.
    pub trust_caller: bool,
    /// Calls of one caller that wait at the same time at one object; its fair share of `concurrent` without it.
    pub per_caller: Option<usize>,
    /// The longest time a call may wait in milliseconds, whatever deadline its caller sets; 3,600,000 without it.
    pub max_deadline_ms: Option<NonZeroU64>,
}

impl CallLimits {
    /// An object's limits with these.
    pub fn apply(&self, limits: Limits) -> Limits {
        let max_deadline = self.max_deadline_ms.map(|ms| Duration::from_millis(ms.get()));
        Limits {
            trust_caller: self.trust_caller || limits.trust_caller,
            per_caller: self.per_caller.or(limits.per_caller),
            max_deadline: max_deadline.unwrap_or(limits.max_deadline),
            ..limits
        }
    }
}
