//! Retained messages, found by filter.
//!
//! One ordered map instead of a trie: a topic costs one string and one pointer, and a wildcard read can stop
//! after any message and go on from there, so that a client that asks for a million of them holds up nobody
//! and needs no list of them in memory. Keys are topics with NUL, which no topic may hold, in place of `/`:
//! it sorts below everything, so that all below one level stands together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytestring::ByteString;

use crate::message::Message;
use crate::topic::is_own_value;

/// The retained messages.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: BTreeMap<Box<str>, Arc<Message>>,
    /// When which of them expires.
    deadlines: BTreeSet<(u64, Box<str>)>,
    bytes: usize,
    /// How many are the broker's own, under `$SYS`.
    own: usize,
}

/// What all of them together may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetainedLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// About how many bytes a retained message takes: its own, those of its key, and those of its place among the others.
fn held(message: &Message) -> usize {
    const ENTRY: usize = size_of::<Message>() + 96;
    message.size() + message.topic.len() + ENTRY
}

/// Where a read of a filter goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor(Option<Box<str>>);

/// What a [`read`](Retained::read) has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The filter has been read to its end.
    pub(crate) done: bool,
    /// How many topics were looked at.
    pub(crate) steps: usize,
}

impl Cursor {
    /// Where a read stood that [`into_key`](Self::into_key) was asked for.
    pub(crate) fn at(key: &str) -> Self {
        Self((!key.is_empty()).then(|| key.into()))
    }

    /// What [`at`](Self::at) takes; empty at the beginning of a filter.
    pub(crate) fn into_key(self) -> ByteString {
        ByteString::from(self.0.map_or_else(String::new, String::from))
    }
}

fn key(topic: &str) -> Box<str> {
    topic.replace('/', "\0").into_boxed_str()
}

impl Retained {
    /// How many there are, without the broker's own.
    pub(crate) fn count(&self) -> usize {
        self.messages.len() - self.own
    }

    /// About how many bytes those hold.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether `message` would be one too many, or its bytes too many: what does not grow may always change.
    pub(crate) fn is_full_for(&self, message: &Message, limits: RetainedLimits) -> bool {
        let size = held(message);
        if self.count() < limits.messages && self.bytes + size <= limits.bytes {
            return false;
        }
        match self.messages.get(&*key(&message.topic)) {
            None => true,
            Some(old) => size > held(old) && self.bytes - held(old) + size > limits.bytes,
        }
    }

    /// Sets the message of its topic.
    pub(crate) fn insert(&mut self, message: Arc<Message>) {
        let key = key(&message.topic);
        if let Some(at) = message.expires {
            self.deadlines.insert((at, key.clone()));
        }
        let own = is_own_value(&message.topic);
        self.bytes += if own { 0 } else { held(&message) };
        let (expires, topic) = (message.expires, key.clone());
        match self.messages.insert(key, message) {
            Some(old) => self.forget(&old, topic, expires),
            None => self.own += usize::from(own),
        }
    }

    /// Takes the message of a topic away.
    pub(crate) fn remove(&mut self, topic: &str) -> bool {
        let key = key(topic);
        let Some(old) = self.messages.remove(&key) else { return false };
        self.own -= usize::from(is_own_value(&old.topic));
        self.forget(&old, key, None);
        true
    }

    fn forget(&mut self, old: &Message, key: Box<str>, still: Option<u64>) {
        self.bytes -= if is_own_value(&old.topic) { 0 } else { held(old) };
        if let Some(at) = old.expires
            && still != Some(at)
        {
            self.deadlines.remove(&(at, key));
        }
    }

    /// Takes away at most `limit` messages that have expired at `now`; their topics, to be forgotten on disk too.
    pub(crate) fn expire(&mut self, limit: usize, now: u64) -> Vec<Arc<Message>> {
        let mut gone = Vec::new();
        while gone.len() < limit
            && let Some((at, _)) = self.deadlines.first()
            && *at <= now
        {
            let (_, key) = self.deadlines.pop_first().expect("looked at just before");
            if let Some(old) = self.messages.remove(&key) {
                self.forget(&old, key, old.expires);
                gone.push(old);
            }
        }
        gone
    }

    /// Appends at most `limit` messages that match `filter` to `found`, from `cursor` on, and moves it.
    /// `steps` bounds how many topics are looked at; what has expired at `now` is left out.
    pub(crate) fn read(
        &self,
        filter: &str,
        cursor: &mut Cursor,
        limit: usize,
        steps: usize,
        now: u64,
        found: &mut Vec<Arc<Message>>,
    ) -> Progress {
        if !filter.contains(['+', '#']) {
            found.extend(self.messages.get(&*key(filter)).filter(|m| !m.expired(now)).cloned());
            return Progress { done: true, steps: 1 };
        }
        let levels: Vec<&str> = filter.split('/').collect();
        let from = cursor.0.take().unwrap_or_else(|| {
            let fixed: Vec<&str> = levels.iter().copied().take_while(|l| !matches!(*l, "+" | "#")).collect();
            fixed.join("\0").into_boxed_str()
        });
        let mut range = self.messages.range::<str, _>((Bound::Included(&*from), Bound::Unbounded));
        let mut next = range.next();
        let mut taken = 0;
        while let Some((topic, message)) = next {
            if taken == steps {
                *cursor = Cursor(Some(topic.clone()));
                return Progress { done: false, steps: taken };
            }
            taken += 1;
            match step(&levels, topic) {
                Step::Match => {
                    if found.len() >= limit {
                        *cursor = Cursor(Some(topic.clone()));
                        return Progress { done: false, steps: taken };
                    }
                    if !message.expired(now) {
                        found.push(message.clone());
                    }
                    next = range.next();
                }
                Step::Seek(key) => {
                    // It is often the very next one, which costs no search.
                    next = range.next();
                    if next.is_some_and(|(topic, _)| **topic < *key) {
                        range = self.messages.range::<str, _>((Bound::Included(&*key), Bound::Unbounded));
                        next = range.next();
                    }
                }
                Step::End => break,
            }
        }
        Progress { done: true, steps: taken.max(1) }
    }
}

enum Step {
    Match,
    /// No match before this key.
    Seek(String),
    End,
}

/// What a topic says about where a filter's next match may stand.
fn step(levels: &[&str], topic: &str) -> Step {
    // The end of all topics that share this one's first `length` bytes as whole levels.
    let behind = |length: usize| Step::Seek(format!("{}\u{1}", &topic[..length]));
    let mut start = 0;
    for (index, &level) in levels.iter().enumerate() {
        if level == "#" {
            return if index == 0 && topic.starts_with('$') { behind_dollar() } else { Step::Match };
        }
        if start > topic.len() {
            // The topic ends before the filter does; `a/#` matches `a`, anything else stands below it.
            return Step::Seek(format!("{topic}\0{}", if level == "+" { "" } else { level }));
        }
        let end = topic[start..].find('\0').map_or(topic.len(), |at| start + at);
        let found = &topic[start..end];
        match level {
            "+" if index == 0 && found.starts_with('$') => return behind_dollar(),
            "+" => {}
            _ if found == level => {}
            _ if found < level => return Step::Seek(format!("{}{level}", &topic[..start])),
            // This level is past: up to the last `+` before it, and on to that one's next value.
            _ => return next_value(&levels[..index], topic, &behind),
        }
        start = end + 1;
    }
    if start > topic.len() {
        return Step::Match;
    }
    // The topic goes on where the filter ends.
    match levels.last() {
        Some(&"+") => behind(start - 1),
        _ => next_value(levels, topic, &behind),
    }
}

/// Behind every topic that begins with `$`, which no leading wildcard matches \[MQTT-4.7.2-1].
fn behind_dollar() -> Step {
    Step::Seek("%".to_owned())
}

fn next_value(levels: &[&str], topic: &str, behind: &impl Fn(usize) -> Step) -> Step {
    let Some(last) = levels.iter().rposition(|&l| l == "+") else { return Step::End };
    let end = topic.match_indices('\0').nth(last).map_or(topic.len(), |(at, _)| at);
    behind(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic;

    /// When everything in these tests happens, in milliseconds since 1970.
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

    fn read(retained: &Retained, filter: &str, limit: usize, steps: usize) -> Vec<String> {
        let mut cursor = Cursor::default();
        let mut all = Vec::new();
        for _ in 0..10_000 {
            let mut found = Vec::new();
            let done = retained.read(filter, &mut cursor, limit, steps, NOW, &mut found).done;
            all.extend(found.iter().map(|m| m.topic.to_string()));
            if done {
                return all;
            }
        }
        panic!("{filter} never ends");
    }

    #[test]
    fn every_filter_finds_what_matching_one_by_one_finds_however_it_is_cut() {
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
            retained.insert(message(topic, None));
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
        for filter in &filters {
            let mut expected: Vec<&String> =
                topics.iter().filter(|t| rantai_topics::matches(filter, t)).collect();
            expected.sort();
            for (limit, steps) in [(1_000, 1_000), (1, 3), (2, 1)] {
                let mut got = read(&retained, filter, limit, steps);
                got.sort();
                assert_eq!(got.iter().collect::<Vec<_>>(), expected, "{filter:?} by {limit}, {steps}");
            }
        }
    }

    #[test]
    fn replacing_and_removing_leaves_nothing_behind() {
        let mut retained = Retained::default();
        let far = NOW + 1_000_000;
        for round in 0..3 {
            retained.insert(message("a/b", Some(far + round)));
        }
        retained.insert(message("a/b", Some(far + 2)));
        assert_eq!((retained.count(), retained.deadlines.len()), (1, 1));
        assert!(retained.remove("a/b") && !retained.remove("a/b"));
        assert_eq!((retained.deadlines.len(), retained.bytes()), (0, 0));
    }

    #[test]
    fn expired_messages_are_neither_read_nor_kept() {
        let mut retained = Retained::default();
        retained.insert(message("a", Some(NOW)));
        retained.insert(message("b", Some(NOW + 1_000_000)));
        assert_eq!(read(&retained, "#", 10, 10), ["b"]);
        assert_eq!(retained.expire(10, NOW).len(), 1);
        assert_eq!((retained.count(), retained.bytes()), (1, held(&message("b", None))));
    }
}
