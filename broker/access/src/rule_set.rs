//! Rules of one user, of one role or for everyone, indexed for searching.

use crate::index::Index;
use crate::rule::{Effect, Rule, RuleAccess};
use crate::who::Who;

/// Rules in their order, with one index per kind of search.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleSet {
    rules: Vec<Rule>,
    /// Filters that may be subscribed to without a group.
    read: Index<u32>,
    /// Filters whose messages may be delivered, including to members of a shared group.
    delivered: Index<u32>,
    write: Index<u32>,
    reply: Index<u32>,
    /// Filters that may be subscribed to, by shared group.
    groups: Index<u32>,
    no_read: Index<u32>,
    no_write: Index<u32>,
    no_groups: Index<u32>,
}

impl RuleSet {
    pub(crate) fn push(&mut self, rule: Rule) {
        let number = u32::try_from(self.rules.len()).expect("fewer than 2^32 rules");
        let filter = rule.filter();
        match (rule.effect(), filter.is_shared()) {
            (Effect::Allow, true) => {
                self.groups.insert_shared(filter, number);
                self.delivered.insert(filter, number);
            }
            (Effect::Deny, true) => self.no_groups.insert_shared(filter, number),
            (Effect::Allow, false) => {
                if rule.is_about_reading() {
                    self.read.insert(filter, number);
                    self.delivered.insert(filter, number);
                }
                if rule.access() == RuleAccess::Reply {
                    self.reply.insert(filter, number);
                } else if rule.is_about_writing() {
                    self.write.insert(filter, number);
                }
            }
            (Effect::Deny, false) => {
                if rule.is_about_reading() {
                    self.no_read.insert(filter, number);
                }
                if rule.is_about_writing() {
                    self.no_write.insert(filter, number);
                }
            }
        }
        self.rules.push(rule);
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn allows_write(&self, topic: &str, who: &Who<'_>) -> Option<&Rule> {
        self.rule(self.write.matching(topic, who))
    }

    pub(crate) fn allows_reply(&self, topic: &str, who: &Who<'_>) -> Option<&Rule> {
        self.rule(self.reply.matching(topic, who))
    }

    pub(crate) fn denies_write(&self, topic: &str, who: &Who<'_>) -> Option<&Rule> {
        self.rule(self.no_write.matching(topic, who))
    }

    pub(crate) fn allows_delivery(&self, topic: &str, who: &Who<'_>) -> Option<&Rule> {
        self.rule(self.delivered.matching(topic, who))
    }

    /// Returns the rule that denies reading every topic that the filter, or topic, matches.
    pub(crate) fn denies_all_read(&self, filter: &str, who: &Who<'_>) -> Option<&Rule> {
        self.rule(self.no_read.covering(filter, who))
    }

    /// Returns a rule that denies reading at least one topic that the filter matches.
    pub(crate) fn denies_some_read(&self, filter: &str, who: &Who<'_>) -> Option<&Rule> {
        self.rule(self.no_read.overlapping(filter, who))
    }

    pub(crate) fn allows_all_read(&self, filter: &str, who: &Who<'_>) -> Option<&Rule> {
        self.rule(self.read.covering(filter, who))
    }

    pub(crate) fn allows_some_read(&self, filter: &str, who: &Who<'_>) -> Option<&Rule> {
        // Searches `delivered`, not `read`: a member of a group may read everything that its group receives.
        self.rule(self.delivered.overlapping(filter, who))
    }

    pub(crate) fn allows_group(&self, group: &str, filter: &str, who: &Who<'_>) -> Option<&Rule> {
        self.rule(self.groups.covering_shared(group, filter, who))
    }

    pub(crate) fn denies_group(&self, group: &str, filter: &str, who: &Who<'_>) -> Option<&Rule> {
        self.rule(self.no_groups.overlapping_shared(group, filter, who))
    }

    fn rule(&self, number: Option<u32>) -> Option<&Rule> {
        number.map(|number| &self.rules[number as usize])
    }
}
