//! What was published and delivered, and what must hold of it.

use std::collections::BTreeMap;

use super::client::Profile;
use super::wire::{Property, Publish};
use crate::topic;

/// A message goes out at most this much after its expiry, in milliseconds: at QoS 2 it waits for the commit of its packet
/// id once it is on its way. Time is passed in steps that are far longer, and only after a commit.
const COMMIT_MS: u64 = 100;

/// Publisher and number of a message.
type MessageId = (String, u64);

#[derive(Debug)]
struct Published {
    topic: String,
    qos: u8,
    expires: Option<u64>,
    /// Its publisher has forgotten it before it was acknowledged.
    given_up: bool,
}

/// The protocol of one run.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Every packet that a client got and everything that was done, in order.
    pub(super) trace: Vec<String>,
    published: BTreeMap<MessageId, Published>,
    /// How often a client got a message.
    delivered: BTreeMap<(&'static str, MessageId), u32>,
    /// The last new number by client, publisher, topic and QoS.
    last: BTreeMap<(&'static str, String, String, u8), u64>,
    /// When the messages of a topic came to anyone.
    pub(super) times: BTreeMap<String, Vec<u64>>,
}

fn message_id(publish: &Publish) -> MessageId {
    let (publisher, number) = publish.text().split_once(':').expect("name and number");
    (publisher.to_owned(), number.parse().expect("a number"))
}

fn expiry(publish: &Publish) -> Option<u64> {
    publish.properties.iter().find_map(|property| match property {
        Property::MessageExpiry(seconds) => Some(u64::from(*seconds) * 1000),
        _ => None,
    })
}

impl Record {
    pub(super) fn note(&mut self, now: u64, who: &str, what: &str) {
        self.trace.push(format!("{now} {who}: {what}"));
    }

    pub(super) fn published(&mut self, client: &str, number: u64, publish: &Publish, now: u64) {
        self.note(now, client, &format!("publishes {publish:?}"));
        let published = Published {
            topic: publish.topic.clone(),
            qos: publish.qos,
            expires: expiry(publish).map(|after| now + after),
            given_up: false,
        };
        self.published.insert((client.to_owned(), number), published);
    }

    pub(super) fn sent_again(&mut self, publish: &Publish, now: u64) {
        let published = self.published.get_mut(&message_id(publish)).expect("published before");
        published.expires = expiry(publish).map(|after| now + after);
    }

    pub(super) fn given_up(&mut self, publish: &Publish) {
        self.published.get_mut(&message_id(publish)).expect("published before").given_up = true;
    }

    /// Checks what has to hold of each delivery.
    pub(super) fn delivered(&mut self, to: &Profile, publish: &Publish, now: u64) {
        let client = to.name;
        self.times.entry(publish.topic.clone()).or_default().push(now);
        let id = message_id(publish);
        let Some(published) = self.published.get(&id) else { return };
        assert!(
            publish.dup
                || expiry(publish).is_none_or(|left| left > 0)
                || publish.qos == 2 && published.expires.is_some_and(|at| now < at + COMMIT_MS),
            "{client} got {id:?} at {now}, which expired at {:?}",
            published.expires
        );
        let count = self.delivered.entry((client, id.clone())).or_default();
        *count += 1;
        // What a publisher sends again comes behind later messages where the first copy has expired, or has gone to
        // another member of a group.
        let in_group = to.filters.iter().any(|(filter, _)| filter.starts_with("$share/"));
        if *count == 1 && !in_group && published.expires.is_none() {
            let (from, number) = id;
            let key = (client, from, publish.topic.clone(), publish.qos);
            let last = self.last.insert(key, number);
            assert!(
                last.is_none_or(|last| last < number),
                "{client} got {:?} after number {last:?} of the same topic and QoS",
                publish.text()
            );
        }
    }

    /// Checks, at the end, that everyone with a persistent session has got everything at QoS 1 and 2 that does not
    /// expire, and at QoS 2 once. `groups` are members of shared groups, which count together.
    pub(super) fn check(&self, plain: &[Profile], groups: &[Vec<Profile>]) {
        let alone = plain.iter().map(|profile| vec![profile.clone()]);
        for members in alone.chain(groups.iter().cloned()) {
            let &(filter, granted) = members[0].filters.first().expect("subscribes");
            let filter = topic::shared(filter).map_or(filter, |shared| shared.expect("valid").filter);
            for (id, published) in &self.published {
                let qos = published.qos.min(granted);
                if qos == 0 || published.given_up || !rantai_topics::matches(filter, &published.topic) {
                    continue;
                }
                let count: u32 =
                    members.iter().filter_map(|member| self.delivered.get(&(member.name, id.clone()))).sum();
                let whom = || members.iter().map(|member| member.name).collect::<Vec<_>>();
                assert!(count > 0 || published.expires.is_some(), "{:?} never got {id:?}", whom());
                assert!(qos < 2 || count <= 1, "{:?} got {id:?} of QoS 2 {count} times", whom());
            }
        }
    }

    /// How many messages were delivered, by all clients together.
    pub(super) fn deliveries(&self) -> usize {
        self.delivered.len()
    }
}
