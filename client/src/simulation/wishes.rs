//! Which filters the application has asked for, and so which ones the session is to subscribe again.

use std::collections::BTreeMap;

use crate::session::{Filter, QoS};

/// What is known about one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Not to be subscribed again.
    Off,
    /// To be subscribed again, with these Subscription Options.
    On(u8),
    /// Asked for, without a result so far or for ever.
    Unsure,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    wish: Wish,
    /// When it was subscribed to last, counted in requests.
    asked: u64,
    /// When it was refused last after a reconnect.
    refused: u64,
    /// An unsubscribe has ended well, and there was no subscribe since.
    is_ended: bool,
    /// It is granted for this connection only.
    is_ephemeral: bool,
}

/// Filters as they were when a connection began.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    wishes: BTreeMap<String, Wish>,
    at: u64,
}

impl Snapshot {
    /// Whether it may be subscribed again.
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

/// A SUBSCRIBE of the application that has no result so far.
#[derive(Debug)]
pub(super) struct Asking {
    filters: Vec<Filter>,
    before: Vec<Wish>,
    at: u64,
}

/// The filters of one session.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    entries: BTreeMap<String, Entry>,
    count: u64,
}

/// The Subscription Options of a filter (MQTT 5, 3.8.3.1).
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

    /// The application subscribes.
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

    /// The connection was lost first: everything is as it was.
    pub(super) fn lost(&mut self, asking: &Asking) {
        for (filter, before) in asking.filters.iter().zip(&asking.before) {
            let entry = self.entry(&filter.topic);
            entry.wish = if entry.refused > asking.at { Wish::Unsure } else { *before };
        }
    }

    /// The application wants them no more.
    pub(super) fn forget(&mut self, topics: &[String]) {
        for topic in topics {
            self.entry(topic).wish = Wish::Off;
        }
    }

    /// The connection is over, and with it the filters that were for this one only.
    pub(super) fn disconnected(&mut self) {
        for entry in self.entries.values_mut() {
            entry.is_ended |= std::mem::take(&mut entry.is_ephemeral);
        }
    }

    /// An unsubscribe has ended well.
    pub(super) fn unsubscribed(&mut self, topics: &[String]) {
        for topic in topics {
            self.entry(topic).is_ended = true;
        }
    }

    /// The broker refuses after a reconnect what it granted before.
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

    /// Whether the session may subscribe to it.
    pub(super) fn check_subscribe(&self, topic: &str, snapshot: &Snapshot) -> Result<(), String> {
        if snapshot.has(topic) || self.is_asked_since(topic, snapshot) {
            return Ok(());
        }
        Err(format!("{topic} is subscribed again, and nobody wants it: {:?}", self.entries.get(topic)))
    }

    /// The filters that the broker is to have no more.
    pub(super) fn ended(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|(_, entry)| entry.is_ended).map(|(topic, _)| &**topic)
    }

    /// The filters that are to be subscribed, with their options.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&str, u8)> {
        self.entries.iter().filter_map(|(topic, entry)| match entry.wish {
            Wish::On(options) => Some((&**topic, options)),
            Wish::Off | Wish::Unsure => None,
        })
    }
}
