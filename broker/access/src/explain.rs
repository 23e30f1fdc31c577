//! Descriptions of decisions, as sentences for people.

use std::fmt::Write as _;

use crate::decide::{Action, Decision, Outcome, Refusal};
use crate::rule::Rule;
use crate::table::Table;
use crate::who::Who;

impl Table {
    /// Describes in one sentence the decision about an action, and the rule that decides.
    ///
    /// The sentence contains the topic and the names as the client sent them: escape it for a terminal or a log.
    pub fn explain(&self, who: &Who<'_>, action: Action<'_>) -> String {
        let Decision { outcome, by } = self.decide(who, action);
        let (doing, topic) = match action {
            Action::Publish(topic) => ("writing", topic),
            Action::Subscribe(filter) => ("subscribing to", filter),
            Action::Deliver(topic) => ("reading", topic),
        };
        let rule = by.map(describe).unwrap_or_default();
        match outcome {
            Outcome::Allowed => format!("allowed: {rule} allows {} {doing} {topic}", name(who)),
            Outcome::AtDelivery => format!(
                "allowed, and looked at for each message: {topic} is wider than what {} may read, among it by {rule}",
                name(who)
            ),
            Outcome::WithReplyGrant => format!(
                "allowed for one reply to each request that was delivered to {}, and refused otherwise: {rule}",
                name(who)
            ),
            Outcome::Refused(Refusal::NoRule) => {
                let mut text = format!("refused: no rule of {} allows {doing} {topic}", name(who));
                let roles: Vec<_> = self.roles_of(who).collect();
                let roles = if roles.is_empty() { "none".to_owned() } else { roles.join(", ") };
                let _ = write!(text, "; roles: {roles}");
                text
            }
            Outcome::Refused(Refusal::Denied) => {
                format!("refused: {rule} denies {} {doing} {topic}", name(who))
            }
            Outcome::Refused(Refusal::ReservedGroup) => format!(
                "refused: the group of {topic} is reserved by {rule}, and no rule of {} names it",
                name(who)
            ),
            Outcome::Refused(Refusal::TooWideForGroup) => format!(
                "refused: {topic} is wider than what {} may read by {rule}; a shared subscription may not be wider, \
                 because the group would lose the messages that this member may not have",
                name(who)
            ),
        }
    }
}

fn name(who: &Who<'_>) -> String {
    match who.user {
        Some(user) => format!("user {user}"),
        None => format!("client {}, which did not log in,", who.client_id),
    }
}

fn describe(rule: &Rule) -> String {
    format!("`{rule}` ({})", rule.source())
}
