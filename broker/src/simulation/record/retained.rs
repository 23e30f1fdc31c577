//! Retained messages: each topic has one publisher, so that its last value is known.

use std::collections::BTreeMap;

use super::super::seeds::States;
use super::messages::{Fate, Messages, Published};

impl Messages {
    /// Checks that what `reader` was read of each topic is the last value that was acknowledged, or a later one.
    pub(super) fn check_retained(&self, reader: &'static str, now: u64, states: &mut States) {
        let mut topics: BTreeMap<&str, Vec<(u64, &Published)>> = BTreeMap::new();
        for ((_, number), published) in self.published.iter().filter(|(_, published)| published.retain) {
            topics.entry(&published.topic).or_default().push((*number, published));
        }
        for (topic, all) in topics {
            let is_accepted = |published: &Published| matches!(published.fate, Fate::Accepted(_));
            let last = all.iter().rev().find(|(_, published)| is_accepted(published));
            let from = last.map_or(0, |(number, _)| *number);
            // Some of them may have come, and none before.
            let possible = |published: &Published| published.fate != Fate::Refused || published.is_sent_again;
            // One that was refused, of which its publisher has not heard, is sent again behind later ones.
            let may_be_late = |published: &Published| published.is_sent_again && self.may_refuse;
            let later = || {
                all.iter().filter(|(number, published)| {
                    (*number >= from || may_be_late(published)) && possible(published)
                })
            };
            let read = self.read.get(&(reader, topic.to_owned()));
            let told = || format!("{topic} of {from} is read as {read:?}: {all:#?}");
            if let Some(read) = read {
                states.reach("retained value at the end");
                assert!(later().any(|(number, published)| number == read && !published.clears), "{}", told());
                continue;
            }
            let is_expired = |published: &Published| {
                published.expiry.is_some_and(|after| published.sent_ms + after <= now)
            };
            let may_be_none =
                from == 0 || later().any(|(_, published)| published.clears || is_expired(published));
            assert!(may_be_none, "{}", told());
            states.reach("no retained value at the end");
        }
    }
}
