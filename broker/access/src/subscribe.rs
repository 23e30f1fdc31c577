//! Decisions of the rules about subscriptions.

use crate::decide::{Decision, NO_RULE, Outcome, Refusal, by, first};
use crate::table::Table;
use crate::who::Who;

impl Table {
    /// Decides about a subscription. It is allowed if one rule covers the filter and none denies any part of it. If rules
    /// allow only a part of it, it is granted, and each message is checked at delivery.
    pub(crate) fn decide_subscribe(&self, who: &Who<'_>, filter: &str) -> Decision<'_> {
        if let Some((group, filter)) = shared(filter) {
            return self.decide_group(who, group, filter);
        }
        let mut some_denied = false;
        let mut allows_some = None;
        for sets in self.ranks(who) {
            if let Some(rule) = first(&sets, |set| set.denies_all_read(filter, who)) {
                // A part that the first rank allows stays allowed.
                return allows_some.map_or(by(Outcome::Refused(Refusal::Denied), rule), |some| {
                    by(Outcome::AtDelivery, some)
                });
            }
            some_denied |= first(&sets, |set| set.denies_some_read(filter, who)).is_some();
            match first(&sets, |set| set.allows_all_read(filter, who)) {
                Some(rule) if some_denied => return by(Outcome::AtDelivery, rule),
                Some(rule) => return by(Outcome::Allowed, rule),
                None => {}
            }
            allows_some = allows_some.or_else(|| first(&sets, |set| set.allows_some_read(filter, who)));
        }
        allows_some.map_or(NO_RULE, |rule| by(Outcome::AtDelivery, rule))
    }

    /// Decides about a shared subscription. It is allowed or refused, without checks at delivery: a message that is
    /// assigned to a member that may not receive it would be lost for the other members.
    fn decide_group(&self, who: &Who<'_>, group: &str, filter: &str) -> Decision<'_> {
        let reserved = self.reserved_groups.index.overlapping_shared(group, filter, who);
        let mut allows_some = None;
        for sets in self.ranks(who) {
            let denied = first(&sets, |set| {
                set.denies_group(group, filter, who).or_else(|| set.denies_some_read(filter, who))
            });
            if let Some(rule) = denied {
                return by(Outcome::Refused(Refusal::Denied), rule);
            }
            if let Some(rule) = first(&sets, |set| set.allows_group(group, filter, who)) {
                return by(Outcome::Allowed, rule);
            }
            if reserved.is_none()
                && let Some(rule) = first(&sets, |set| set.allows_all_read(filter, who))
            {
                return by(Outcome::Allowed, rule);
            }
            allows_some = allows_some.or_else(|| first(&sets, |set| set.allows_some_read(filter, who)));
        }
        match (reserved, allows_some) {
            (Some(rule), _) => {
                by(Outcome::Refused(Refusal::ReservedGroup), &self.reserved_groups.rules[rule as usize])
            }
            (None, Some(rule)) => by(Outcome::Refused(Refusal::TooWideForGroup), rule),
            (None, None) => NO_RULE,
        }
    }
}

/// Splits a shared subscription into its group and its filter (MQTT 5, 4.8.2).
fn shared(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}
