//! Retained messages: each topic has one publisher, so that its last value is known.

use std::collections::BTreeMap;

use super::super::seeds::States;
use super::messages::{Fate, MessageRecord, Published};

impl MessageRecord {
    /// Checks that the retained value of each topic read by `reader` is the last one acknowledged, or a later one.
    pub(super) fn check_retained(&self, reader: &'static str, now: u64, states: &mut States) {
        let mut topics: BTreeMap<&str, Vec<(u64, &Published)>> = BTreeMap::new();
        for ((_, number), published) in self.published.iter().filter(|(_, published)| published.retain) {
            topics.entry(&published.topic).or_default().push((*number, published));
        }
        for (topic, all) in topics {
            let is_accepted = |published: &Published| matches!(published.fate, Fate::Accepted(_));
            let last = all.iter().rev().find(|(_, published)| is_accepted(published));
            let from = last.map_or(0, |(number, _)| *number);
            // Messages that may be the retained value: any of the later ones, and none before them.
            let possible = |published: &Published| published.fate != Fate::Refused || published.is_sent_again;
            // A message whose refusal did not reach its publisher is sent again after later messages.
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
