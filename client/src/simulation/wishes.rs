//! Filters that the application has subscribed to, and thus those that the session must subscribe again.

use std::collections::BTreeMap;

use crate::session::{Filter, QoS};

/// State of one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Must not be subscribed again.
    Off,
    /// Must be subscribed again, with these Subscription Options.
    On(u8),
    /// Subscribed without a result, so either is allowed.
    Unsure,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    wish: Wish,
    /// Number of the request that subscribed to it last.
    asked: u64,
    /// Number of the request at which it was last refused after a reconnect.
    refused: u64,
    /// Whether an unsubscribe has succeeded since the last subscribe.
    is_ended: bool,
    /// Whether it is granted for this connection only.
    is_ephemeral: bool,
}

/// Filters at the start of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    wishes: BTreeMap<String, Wish>,
    at: u64,
}

impl Snapshot {
    /// Returns whether the filter may be subscribed again.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.wishes.get(topic).is_some_and(|wish| *wish != Wish::Off)
    }

    /// Compares with the filters that were subscribed again.
    pub(super) fn check(&self, found: &BTreeMap<String, u8>) -> Result<(), String> {
        for (topic, wish) in &self.wishes {
            if let Wish::On(options) = wish
                && found.get(topic) != Some(options)
            {
                let options = found.get(topic);
                return Err(format!("{topic} is {wish:?} and was subscribed again with {options:?}"));
            }
        }
        Ok(())
    }
}

/// SUBSCRIBE of the application without a result so far.
#[derive(Debug)]
pub(super) struct Asking {
    filters: Vec<Filter>,
    before: Vec<Wish>,
    at: u64,
}

/// Filters of one session.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    entries: BTreeMap<String, Entry>,
    count: u64,
}

/// Returns the Subscription Options of a filter (MQTT 5, 3.8.3.1).
pub(super) fn options(filter: &Filter) -> u8 {
    let qos = u8::from(filter.qos != QoS::AtMostOnce);
    qos | if filter.retained { 0 } else { 2 << 4 }
}

impl Wishes {
    fn entry(&mut self, topic: &str) -> &mut Entry {
        let entry = Entry { wish: Wish::Off, asked: 0, refused: 0, is_ended: false, is_ephemeral: false };
        self.entries.entry(topic.to_owned()).or_insert(entry)
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        self.count += 1;
        let wishes = self.entries.iter().map(|(topic, entry)| (topic.clone(), entry.wish)).collect();
        Snapshot { wishes, at: self.count }
    }

    /// Records a subscribe of the application.
    pub(super) fn ask(&mut self, filters: &[Filter]) -> Asking {
        self.count += 1;
        let at = self.count;
        let before = filters.iter().map(|filter| {
            let entry = self.entry(&filter.topic);
            (entry.asked, entry.is_ended, entry.is_ephemeral) = (at, false, false);
            std::mem::replace(&mut entry.wish, Wish::Unsure)
        });
        let before = before.collect();
        Asking { filters: filters.to_vec(), before, at }
    }

    pub(super) fn granted(&mut self, asking: &Asking) {
        for filter in &asking.filters {
            let wish = if filter.lasting { Wish::On(options(filter)) } else { Wish::Off };
            let entry = self.entry(&filter.topic);
            (entry.wish, entry.is_ephemeral) = (wish, !filter.lasting && entry.asked == asking.at);
        }
    }

    pub(super) fn refused(&mut self, asking: &Asking) {
        for filter in &asking.filters {
            self.entry(&filter.topic).wish = Wish::Off;
        }
    }

    /// Records that the connection was lost before the result: the state is unchanged.
    pub(super) fn lost(&mut self, asking: &Asking) {
        for (filter, before) in asking.filters.iter().zip(&asking.before) {
            let entry = self.entry(&filter.topic);
            entry.wish = if entry.refused > asking.at { Wish::Unsure } else { *before };
        }
    }

    /// Records that the application does not need the filters any more.
    pub(super) fn forget(&mut self, topics: &[String]) {
        for topic in topics {
            self.entry(topic).wish = Wish::Off;
        }
    }

    /// Records the end of the connection, and of the filters that were for it only.
    pub(super) fn disconnected(&mut self) {
        for entry in self.entries.values_mut() {
            entry.is_ended |= std::mem::take(&mut entry.is_ephemeral);
        }
    }

    /// Records a successful unsubscribe.
    pub(super) fn unsubscribed(&mut self, topics: &[String]) {
        for topic in topics {
            self.entry(topic).is_ended = true;
        }
    }

    /// Records that the broker refuses a filter after a reconnect that it granted before.
    pub(super) fn refuse_again(&mut self, topic: &str) {
        self.count += 1;
        let count = self.count;
        let entry = self.entry(topic);
        entry.refused = count;
        if entry.wish != Wish::Off {
            entry.wish = Wish::Unsure;
        }
    }

    pub(super) fn is_asked_since(&self, topic: &str, snapshot: &Snapshot) -> bool {
        self.entries.get(topic).is_some_and(|entry| entry.asked > snapshot.at)
    }

    /// Checks that the session may subscribe to the filter.
    pub(super) fn check_subscribe(&self, topic: &str, snapshot: &Snapshot) -> Result<(), String> {
        if snapshot.has(topic) || self.is_asked_since(topic, snapshot) {
            return Ok(());
        }
        Err(format!("{topic} is subscribed again, and nobody wants it: {:?}", self.entries.get(topic)))
    }

    /// Returns the filters that the broker must not have any more.
    pub(super) fn ended(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|(_, entry)| entry.is_ended).map(|(topic, _)| &**topic)
    }

    /// Returns the filters that must be subscribed, with their options.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&str, u8)> {
        self.entries.iter().filter_map(|(topic, entry)| match entry.wish {
            Wish::On(options) => Some((&**topic, options)),
            Wish::Off | Wish::Unsure => None,
        })
    }
}
