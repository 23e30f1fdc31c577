//! What the rules say about one action.

use crate::rule::Rule;
use crate::rule_set::RuleSet;
use crate::table::Table;
use crate::who::Who;

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Publish to a topic, now or by its will.
    Publish(&'a str),
    /// Subscribe to a filter, which may begin with `$share/GROUP/`.
    Subscribe(&'a str),
    /// Be sent a message on this topic. Asked again for each topic where [`Outcome::AtDelivery`] says so, and of a
    /// Response Topic: a client may ask for replies where it may read.
    Deliver(&'a str),
}

/// What the rules say, and which one said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'t> {
    /// What they say.
    pub outcome: Outcome,
    /// The rule that decides; `None` where no rule is about this action.
    pub by: Option<&'t Rule>,
}

/// What the rules say about an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Allowed.
    Allowed,
    /// A subscription that is wider than what the client may read: granted, and each topic is asked about with
    /// [`Action::Deliver`] before it is sent.
    AtDelivery,
    /// Allowed where the client holds a reply grant for exactly this topic, and refused otherwise.
    WithReplyGrant,
    /// Refused.
    Refused(Refusal),
}

/// Why an action is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No rule allows it.
    NoRule,
    /// A rule denies it.
    Denied,
    /// A rule that the client does not hold names this shared group.
    ReservedGroup,
    /// A shared subscription that is wider than what the client may read. Messages that were given to it and not
    /// delivered would be lost to the others of the group.
    TooWideForGroup,
}

impl Decision<'_> {
    /// Whether the action is allowed as it is, or will be looked at for each message. A reply that needs a grant is not.
    pub fn is_allowed(&self) -> bool {
        matches!(self.outcome, Outcome::Allowed | Outcome::AtDelivery)
    }
}

/// A decision by a rule.
pub(crate) fn by(outcome: Outcome, rule: &Rule) -> Decision<'_> {
    Decision { outcome, by: Some(rule) }
}

/// A decision that no rule made.
pub(crate) const NO_RULE: Decision<'static> =
    Decision { outcome: Outcome::Refused(Refusal::NoRule), by: None };

/// The first rule that one of the sets has.
pub(crate) fn first<'t>(
    sets: &[&'t RuleSet],
    rule: impl Fn(&'t RuleSet) -> Option<&'t Rule>,
) -> Option<&'t Rule> {
    sets.iter().find_map(|set| rule(set))
}

impl Table {
    /// What the rules say about an action of a client. The topic or filter is one that MQTT allows.
    ///
    /// The rules of the client itself and of its roles come first, then those for everyone. In each of the two ranks, a
    /// rule that denies comes before all that allow. What no rule allows is refused.
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
