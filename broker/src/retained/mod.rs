//! Store of retained messages with lookup by filters.
//!
//! An ordered map instead of a trie: a topic costs one string and one pointer, and a read with wildcards can stop
//! after any message and continue from there. A client that asks for a million messages thus delays no other client,
//! and needs no list of them in memory. Keys are topics with NUL in place of `/`: no topic may contain NUL, and it
//! sorts below every other character, so that all topics below one level are adjacent.

mod filters;
mod growth;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::holdings::{Amount, Excess, Holdings};
use crate::message::{ALLOCATION, Message};
use crate::owner::Owner;
use crate::topic::is_own_value;
pub(crate) use filters::FilterSet;
use filters::Matches;
pub(crate) use growth::Growth;

/// Number of nodes of a [`FilterSet`] that take as long as visiting one topic.
const NODES_PER_STEP: usize = 16;

/// Retained messages by topic.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: BTreeMap<Box<str>, RetainedEntry>,
    /// Expiry times, in milliseconds since 1970, with the keys of their messages.
    deadlines: BTreeSet<(u64, Box<str>)>,
    /// Amounts held by owners, without the broker's own messages under `$SYS`.
    holdings: Holdings,
}

#[derive(Debug)]
struct RetainedEntry {
    message: Arc<Message>,
    /// Owner of the publisher, whose limits the message counts against; `None` for messages published by the broker's
    /// own process or restored from disk.
    owner: Option<Arc<Owner>>,
}

/// Returns the approximate size of a retained message in bytes: the message, its key, and its entries in the map and
/// among the expiry times.
fn held(message: &Message) -> Amount {
    // Nodes of a B-tree are about two thirds full.
    const PLACE: usize = (size_of::<(Box<str>, RetainedEntry)>() + 8) * 3 / 2;
    const DEADLINE: usize = (size_of::<(u64, Box<str>)>() + 8) * 3 / 2;
    let key = message.topic.len() + ALLOCATION;
    let deadline = message.expires.map_or(0, |_| DEADLINE + key);
    Amount { count: 1, bytes: message.size() + PLACE + key + deadline }
}

/// Position at which a read of filters continues.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    key: Box<str>,
    /// Highest number of a filter that has already received the message at that key.
    behind: Option<u32>,
}

/// Limits of one [`read`](Retained::read).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLimits {
    /// Maximum number of messages found; a message counts once for each filter that matches it.
    pub(crate) messages: usize,
    /// Maximum number of topics visited.
    pub(crate) steps: usize,
}

/// Result of a [`read`](Retained::read).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Whether the read is complete.
    pub(crate) done: bool,
    /// Number of topics visited. Counts additional steps if matching their filters took long.
    pub(crate) steps: usize,
}

impl Cursor {
    /// Creates a cursor at a key; the empty key is the beginning.
    pub(crate) fn at(key: &str) -> Self {
        Self { key: key.into(), behind: None }
    }

    /// Creates a cursor after the message on `topic`, for a read of one filter.
    pub(crate) fn behind(topic: &str) -> Self {
        Self { key: key(topic), behind: Some(0) }
    }

    /// Moves the cursor back to `key`, unless it is already before it.
    pub(crate) fn back_to(&mut self, key: &str) {
        if *key < *self.key {
            *self = Self::at(key);
        }
    }
}

/// Returns the key at which a read continues after the message on `topic`.
pub(crate) fn key_behind(topic: &str) -> ByteString {
    // First possible key below the topic.
    ByteString::from(topic.replace('/', "\0") + "\0")
}

/// Returns whether the key of `topic` comes before `key`.
pub(crate) fn is_before(topic: &str, key: &str) -> bool {
    topic.bytes().map(|byte| if byte == b'/' { 0 } else { byte }).lt(key.bytes())
}

fn key(topic: &str) -> Box<str> {
    topic.replace('/', "\0").into_boxed_str()
}

impl Retained {
    /// Returns the amount held, without the broker's own messages.
    pub(crate) fn held(&self) -> Amount {
        self.holdings.all()
    }

    /// Returns the number of bytes that count against `owner`.
    pub(crate) fn bytes_of(&self, owner: &Arc<Owner>) -> usize {
        self.holdings.of(owner).bytes
    }

    /// Returns whether a retained message may match `filter`: false if there is none at or below the levels before its
    /// first wildcard. Takes one search; most subscriptions match no retained message.
    pub(crate) fn may_match(&self, filter: &str) -> bool {
        let end = filter.find(['+', '#']);
        let named = key(filter[..end.unwrap_or(filter.len())].trim_end_matches('/'));
        if end.is_none() {
            return self.messages.contains_key(&*key(filter));
        }
        let from = (Bound::Included(&*named), Bound::Unbounded);
        let first = self.messages.range::<str, _>(from).next();
        first.is_some_and(|(first, _)| first.starts_with(&*named))
    }

    /// Returns by how much `message` would increase the amount held.
    pub(crate) fn growth(&self, message: &Message) -> Amount {
        let bytes = held(message).bytes;
        match self.messages.get(&*key(&message.topic)) {
            None => Amount { count: 1, bytes },
            Some(old) => Amount { count: 0, bytes: bytes.saturating_sub(held(&old.message).bytes) },
        }
    }

    /// Checks whether `owner` may retain `message`. A replacement that is not larger is always allowed.
    pub(crate) fn admit(
        &self,
        owner: Option<&Arc<Owner>>,
        growth: Amount,
        limit: Amount,
    ) -> Result<(), Excess> {
        if growth == Amount::default() { Ok(()) } else { self.holdings.admit(owner, growth, limit) }
    }

    /// Sets the message of its topic. It counts against `owner`, whoever published the message that it replaces.
    pub(crate) fn insert(&mut self, message: Arc<Message>, owner: Option<&Arc<Owner>>) {
        let key = key(&message.topic);
        if let Some(at) = message.expires {
            self.deadlines.insert((at, key.clone()));
        }
        if !is_own_value(&message.topic) {
            self.holdings.add(owner, held(&message));
        }
        let (expires, topic) = (message.expires, key.clone());
        if let Some(old) = self.messages.insert(key, RetainedEntry { message, owner: owner.cloned() }) {
            self.forget(&old, topic, expires);
        }
    }

    /// Returns topics and payloads of the messages on `topic` and below it that have not expired at `now`. Visits at
    /// most `most` messages.
    pub(crate) fn below(&self, topic: &str, most: usize, now: u64) -> Vec<(ByteString, Bytes)> {
        let named = key(topic);
        let from = (Bound::Included(&*named), Bound::Unbounded);
        let below = self.messages.range::<str, _>(from).take(most);
        let below = below.take_while(|(key, _)| {
            key.strip_prefix(&*named).is_some_and(|rest| rest.is_empty() || rest.starts_with('\0'))
        });
        let messages = below.map(|(_, kept)| &kept.message).filter(|message| !message.expired(now));
        messages.map(|message| (message.topic.clone(), message.payload.clone())).collect()
    }

    /// Removes the message of a topic. Returns false if there was none.
    pub(crate) fn remove(&mut self, topic: &str) -> bool {
        let key = key(topic);
        let Some(old) = self.messages.remove(&key) else { return false };
        self.forget(&old, key, None);
        true
    }

    fn forget(&mut self, old: &RetainedEntry, key: Box<str>, still: Option<u64>) {
        if !is_own_value(&old.message.topic) {
            self.holdings.remove(old.owner.as_ref(), held(&old.message));
        }
        if let Some(at) = old.message.expires
            && still != Some(at)
        {
            self.deadlines.remove(&(at, key));
        }
    }

    /// Removes and returns at most `limit` messages that have expired at `now`. The caller removes them from disk.
    pub(crate) fn expire(&mut self, limit: usize, now: u64) -> Vec<Arc<Message>> {
        let mut gone = Vec::new();
        while gone.len() < limit
            && let Some((at, _)) = self.deadlines.first()
            && *at <= now
        {
            let (_, key) = self.deadlines.pop_first().expect("looked at just before");
            if let Some(old) = self.messages.remove(&key) {
                let expires = old.message.expires;
                self.forget(&old, key, expires);
                gone.push(old.message);
            }
        }
        gone
    }

    /// Finds messages that match `filters`, beginning at `cursor`, and advances the cursor. Calls `take` once for each
    /// message and matching filter, with the number of the filter. Messages that have expired at `now` are skipped.
    pub(crate) fn read(
        &self,
        filters: &FilterSet,
        cursor: &mut Cursor,
        limits: ReadLimits,
        now: u64,
        mut take: impl FnMut(u32, &Arc<Message>),
    ) -> Progress {
        let Cursor { key: from, mut behind } = std::mem::take(cursor);
        let mut range = self.messages.range::<str, _>((Bound::Included(&*from), Bound::Unbounded));
        let mut next = range.next();
        if behind.is_some() && next.is_none_or(|(topic, _)| *topic != from) {
            behind = None;
        }
        let (mut matches, mut sought) = (Matches::default(), String::new());
        let (mut found, mut steps) = (0, 0);
        while let Some((topic, kept)) = next {
            if steps >= limits.steps {
                *cursor = Cursor { key: topic.clone(), behind };
                return Progress { done: false, steps };
            }
            let seek = filters.look(topic, &mut matches);
            steps += 1 + matches.nodes / NODES_PER_STEP;
            next = range.next();
            if matches.filters.is_empty() {
                let Some(seek) = seek else { break };
                // Often this is the next key, which needs no search.
                seek.write(topic, &mut sought);
                if next.is_some_and(|(topic, _)| **topic < *sought) {
                    range = self.messages.range::<str, _>((Bound::Included(&*sought), Bound::Unbounded));
                    next = range.next();
                }
            } else if !kept.message.expired(now) {
                matches.filters.sort_unstable();
                for &number in
                    matches.filters.iter().filter(|&&number| behind.is_none_or(|last| number > last))
                {
                    if found >= limits.messages {
                        let last = matches.filters.iter().rev().find(|&&taken| taken < number).copied();
                        *cursor = Cursor { key: topic.clone(), behind: last };
                        return Progress { done: false, steps };
                    }
                    found += 1;
                    take(number, &kept.message);
                }
            }
            behind = None;
        }
        Progress { done: true, steps: steps.max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic;

    /// Time of everything in these tests, in milliseconds since 1970.
    const NOW: u64 = 1_700_000_000_000;

    fn message(topic: &str, expires: Option<u64>) -> Arc<Message> {
        Arc::new(Message {
            topic: topic.into(),
            payload: "x".into(),
            retain: true,
            expires,
            ..Message::default()
        })
    }

    /// Returns the topics found for each filter, and the number of steps taken.
    fn read_all<'a>(
        retained: &Retained,
        filters: &[&'a str],
        messages: usize,
        steps: usize,
    ) -> (BTreeMap<&'a str, Vec<String>>, usize) {
        let mut set = FilterSet::default();
        for (number, filter) in (0..).zip(filters) {
            set.insert(filter, number);
        }
        let mut found: BTreeMap<&str, Vec<String>> =
            filters.iter().map(|filter| (*filter, Vec::new())).collect();
        let mut cursor = Cursor::default();
        let mut taken = 0;
        for _ in 0..100_000 {
            let mut count = 0;
            let limits = ReadLimits { messages, steps };
            let progress = retained.read(&set, &mut cursor, limits, NOW, |number, message| {
                count += 1;
                found
                    .get_mut(filters[number as usize])
                    .expect("a filter of the set")
                    .push(message.topic.to_string());
            });
            assert!(count <= messages);
            taken += progress.steps;
            if progress.done {
                return (found, taken);
            }
        }
        panic!("{filters:?} never end");
    }

    fn read(retained: &Retained, filter: &str, limit: usize, steps: usize) -> Vec<String> {
        read_all(retained, &[filter], limit, steps).0.remove(filter).expect("the filter")
    }

    #[test]
    fn reads_in_parts_find_what_matching_one_by_one_finds() {
        let mut retained = Retained::default();
        let levels = ["a", "b", "", "a-", "a0", "$x", "é", "\u{1}"];
        let mut topics = Vec::new();
        for one in levels {
            topics.push(one.to_owned());
            for two in levels {
                topics.push(format!("{one}/{two}"));
                for three in ["a", "", "z"] {
                    topics.push(format!("{one}/{two}/{three}"));
                }
            }
        }
        topics.retain(|t| topic::valid_name(t, 128));
        for topic in &topics {
            retained.insert(message(topic, None), None);
        }
        let mut filters = Vec::new();
        let parts = ["a", "b", "+", "", "$x", "é", "zz", "a-"];
        for one in parts {
            filters.push(one.to_owned());
            filters.push(format!("{one}/#"));
            for two in parts {
                filters.push(format!("{one}/{two}"));
                filters.push(format!("{one}/{two}/#"));
                for three in parts {
                    filters.push(format!("{one}/{two}/{three}"));
                }
            }
        }
        filters.push("#".to_owned());
        filters.retain(|f| topic::valid_filter(f, 128));
        let expected = |filter: &str| {
            let mut expected: Vec<String> =
                topics.iter().filter(|t| rantai_topics::matches(filter, t)).cloned().collect();
            expected.sort();
            expected
        };
        assert!(!retained.may_match("zz/yy/#") && !retained.may_match("b-/+"));
        let mut by_filter = BTreeMap::new();
        for filter in &filters {
            by_filter.insert(&**filter, expected(filter));
            let matched = !by_filter[&**filter].is_empty();
            let may_match = retained.may_match(filter);
            assert!(may_match || !matched, "{filter}");
            assert!(filter.contains(['+', '#']) || may_match == matched, "{filter}");
            for (limit, steps) in [(1_000, 1_000), (1, 3), (2, 1)] {
                let mut got = read(&retained, filter, limit, steps);
                got.sort();
                assert_eq!(got, by_filter[&**filter], "{filter:?} by {limit}, {steps}");
            }
        }
        // All filters together, read in full and in small parts.
        let filters: Vec<&str> = by_filter.keys().copied().collect();
        for size in [filters.len(), 2, 3, 7] {
            for (limit, steps) in [(usize::MAX, 1_000), (1, 3), (3, 1)] {
                for part in filters.chunks(size) {
                    let (found, _) = read_all(&retained, part, limit, steps);
                    for (filter, mut got) in found {
                        got.sort();
                        assert_eq!(got, by_filter[filter], "{filter:?} of {size} by {limit}, {steps}");
                    }
                }
            }
        }
    }

    /// Once, a thousand such filters visited every topic a thousand times.
    #[test]
    fn many_filters_visit_each_topic_once() {
        let mut retained = Retained::default();
        for number in 0..2_000 {
            retained.insert(message(&format!("a/{}/{}/n{number}", number % 7, number % 11), None), None);
        }
        let filters: Vec<String> = (0..1_000).map(|number| format!("+/+/+/n{number}")).collect();
        let filters: Vec<&str> = filters.iter().map(|filter| &**filter).collect();
        let (found, steps) = read_all(&retained, &filters, 10, 64);
        assert!(found.values().all(|topics| topics.len() == 1));
        assert!(steps <= 2_200, "{steps} steps");
    }

    #[test]
    fn replacing_and_removing_leaves_nothing_behind() {
        let mut retained = Retained::default();
        let far = NOW + 1_000_000;
        for round in 0..3 {
            retained.insert(message("a/b", Some(far + round)), None);
        }
        retained.insert(message("a/b", Some(far + 2)), None);
        assert_eq!((retained.held().count, retained.deadlines.len()), (1, 1));
        assert!(retained.remove("a/b") && !retained.remove("a/b"));
        assert_eq!((retained.deadlines.len(), retained.held().bytes), (0, 0));
    }

    #[test]
    fn expired_messages_are_neither_read_nor_kept() {
        let mut retained = Retained::default();
        retained.insert(message("a", Some(NOW)), None);
        retained.insert(message("b", Some(NOW + 1_000_000)), None);
        assert_eq!(read(&retained, "#", 10, 10), ["b"]);
        assert_eq!(retained.expire(10, NOW).len(), 1);
        assert_eq!(
            (retained.held().count, retained.held().bytes),
            (1, held(&message("b", Some(NOW + 1_000_000))).bytes)
        );
    }

    #[test]
    fn a_message_counts_against_its_last_publisher() {
        let mut retained = Retained::default();
        let owners = ["a", "b"].map(|name| Arc::new(Owner::User(name.into())));
        let limit = Amount { count: 9, bytes: usize::MAX };
        let admits = |retained: &Retained, owner: &Arc<Owner>, topic: &str| {
            let growth = retained.growth(&message(topic, None));
            retained.admit(Some(owner), growth, limit)
        };
        for number in 0..6 {
            let topic = number.to_string();
            assert_eq!(admits(&retained, &owners[0], &topic), Ok(()));
            retained.insert(message(&topic, None), Some(&owners[0]));
        }
        assert_eq!(admits(&retained, &owners[0], "new"), Err(Excess::Share));
        assert_eq!(admits(&retained, &owners[0], "5"), Ok(()), "what is there may change");
        for number in 3..6 {
            let topic = number.to_string();
            assert_eq!(admits(&retained, &owners[1], &topic), Ok(()));
            retained.insert(message(&topic, None), Some(&owners[1]));
        }
        assert_eq!(admits(&retained, &owners[0], "new"), Ok(()), "three of its are another's now");
        for number in 0..6 {
            assert!(retained.remove(&number.to_string()));
        }
        assert_eq!((retained.held(), retained.holdings.owners()), (Amount::default(), 0));
    }
}
