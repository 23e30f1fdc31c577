//! Decisions of the rules about single actions.

use crate::rule::Rule;
use crate::rule_set::RuleSet;
use crate::table::Table;
use crate::who::Who;

/// Action that a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Publish to a topic, directly or by its will.
    Publish(&'a str),
    /// Subscribe to a filter, which may begin with `$share/GROUP/`.
    Subscribe(&'a str),
    /// Receive a message on this topic. Checked for each message after an [`Outcome::AtDelivery`], and for a Response
    /// Topic: a client may request replies on topics that it may read.
    Deliver(&'a str),
}

/// Outcome of the rules, and the rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'t> {
    /// Outcome for the action.
    pub outcome: Outcome,
    /// Rule that decides; `None` if no rule applies to the action.
    pub by: Option<&'t Rule>,
}

/// Outcome of the rules for an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Allowed.
    Allowed,
    /// Granted subscription that is wider than what the client may read: each message is checked with [`Action::Deliver`]
    /// before it is sent.
    AtDelivery,
    /// Allowed if the client holds a reply grant for exactly this topic, otherwise refused.
    WithReplyGrant,
    /// Refused.
    Refused(Refusal),
}

/// Reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No rule allows the action.
    NoRule,
    /// A rule denies the action.
    Denied,
    /// A rule reserves this shared group by its name, and none of the client's own rules names the group.
    ReservedGroup,
    /// The shared subscription is wider than what the client may read. Messages that the group assigns to this client and
    /// that it may not receive would be lost for the other members.
    TooWideForGroup,
}

impl Decision<'_> {
    /// Returns whether the action is allowed, at once or subject to a check of each message. A reply that needs a grant is not.
    pub fn is_allowed(&self) -> bool {
        matches!(self.outcome, Outcome::Allowed | Outcome::AtDelivery)
    }
}

/// Returns a decision made by a rule.
pub(crate) fn by(outcome: Outcome, rule: &Rule) -> Decision<'_> {
    Decision { outcome, by: Some(rule) }
}

/// Decision for an action that no rule applies to.
pub(crate) const NO_RULE: Decision<'static> =
    Decision { outcome: Outcome::Refused(Refusal::NoRule), by: None };

/// Returns the first rule that `rule` finds in one of the sets.
pub(crate) fn first<'t>(
    sets: &[&'t RuleSet],
    rule: impl Fn(&'t RuleSet) -> Option<&'t Rule>,
) -> Option<&'t Rule> {
    sets.iter().find_map(|set| rule(set))
}

impl Table {
    /// Decides about an action of a client. The topic or filter must be valid in MQTT.
    ///
    /// The rules of the client itself and of its roles come first, then the rules for everyone. In each of the two ranks,
    /// rules that deny come before rules that allow. An action that no rule allows is refused.
    pub fn decide(&self, who: &Who<'_>, action: Action<'_>) -> Decision<'_> {
        match action {
            Action::Publish(topic) => self.decide_publish(who, topic),
            Action::Subscribe(filter) => self.decide_subscribe(who, filter),
            Action::Deliver(topic) => self.decide_delivery(who, topic),
        }
    }

    fn decide_publish(&self, who: &Who<'_>, topic: &str) -> Decision<'_> {
        for sets in self.ranks(who) {
            if let Some(rule) = first(&sets, |set| set.denies_write(topic, who)) {
                return by(Outcome::Refused(Refusal::Denied), rule);
            }
            if let Some(rule) = first(&sets, |set| set.allows_write(topic, who)) {
                return by(Outcome::Allowed, rule);
            }
            if let Some(rule) = first(&sets, |set| set.allows_reply(topic, who)) {
                return by(Outcome::WithReplyGrant, rule);
            }
        }
        NO_RULE
    }

    fn decide_delivery(&self, who: &Who<'_>, topic: &str) -> Decision<'_> {
        for sets in self.ranks(who) {
            if let Some(rule) = first(&sets, |set| set.denies_all_read(topic, who)) {
                return by(Outcome::Refused(Refusal::Denied), rule);
            }
            if let Some(rule) = first(&sets, |set| set.allows_delivery(topic, who)) {
                return by(Outcome::Allowed, rule);
            }
        }
        NO_RULE
    }
}
