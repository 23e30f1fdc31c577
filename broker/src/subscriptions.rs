//! Who gets what: filters in a trie, one level of a topic a step.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytestring::ByteString;
use hashbrown::HashMap;
use indexmap::IndexMap;

use crate::codec::Options;
use crate::message::QoS;
use crate::topic;

type Members<S> = IndexMap<u64, Subscription<S>, hashbrown::DefaultHashBuilder>;

/// Who subscribes: cheap to clone.
pub(crate) trait Subscriber: Clone {
    /// Tells subscribers apart; never used twice.
    fn key(&self) -> u64;

    /// What it has to know of the broker to say how ready it is.
    type Ground;

    /// Whether a message at `qos` could be taken now.
    fn readiness(&self, qos: QoS, ground: &Self::Ground) -> Readiness;
}

/// What a session may say of itself when a message is to be shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It would be sent at once.
    Ready,
    /// It would wait in the queue.
    Waiting,
    /// It would wait in the queue until its client comes back.
    Away,
    /// The queue is full.
    Full,
    /// Nothing can be delivered to it.
    Gone,
}

/// One session's subscription to one filter.
#[derive(Clone, Debug)]
pub(crate) struct Subscription<S> {
    pub(crate) subscriber: S,
    pub(crate) options: Options,
    /// Subscription Identifier.
    pub(crate) identifier: Option<u32>,
}

/// One delivery that a publish asks for.
#[derive(Clone, Debug)]
pub(crate) struct Target<S> {
    pub(crate) subscriber: S,
    /// The highest of the matching subscriptions.
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) identifiers: Vec<u32>,
    /// The filter with its `$share/…/`, where it came by one.
    pub(crate) shared: Option<ByteString>,
    /// How many levels of the topic its filter names, without those that wildcards stand for: who looks on with `#` names
    /// none. The most of the matching subscriptions.
    pub(crate) named_levels: usize,
}

/// All subscriptions of all sessions.
///
/// A publish costs one step a level, however many filters there are; empty branches are cut off at once.
#[derive(Debug)]
pub(crate) struct Subscriptions<S> {
    root: Node<S>,
    count: usize,
}

#[derive(Debug)]
struct Node<S> {
    children: HashMap<Box<str>, Node<S>>,
    plus: Option<Box<Node<S>>>,
    /// Subscriptions that end in `#` behind this level.
    all_below: Option<Box<Leaf<S>>>,
    /// Subscriptions that end here.
    here: Option<Box<Leaf<S>>>,
}

#[derive(Debug)]
struct Leaf<S> {
    members: Members<S>,
    groups: Vec<Group<S>>,
}

/// The members of one `$share/{name}/{filter}`.
#[derive(Debug)]
struct Group<S> {
    /// As it was subscribed to, `$share/{name}/{filter}`.
    filter: ByteString,
    members: Members<S>,
    /// Where the next choice begins.
    next: AtomicUsize,
}

impl<S> Default for Subscriptions<S> {
    fn default() -> Self {
        Self { root: Node::default(), count: 0 }
    }
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self { children: HashMap::new(), plus: None, all_below: None, here: None }
    }
}

impl<S> Default for Leaf<S> {
    fn default() -> Self {
        Self { members: Members::default(), groups: Vec::new() }
    }
}

impl<S> Node<S> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.all_below.is_none() && self.here.is_none()
    }

    fn leaf(&mut self, filter: &str) -> &mut Option<Box<Leaf<S>>> {
        let mut node = self;
        for level in filter.split('/') {
            node = match level {
                "#" => return &mut node.all_below,
                "+" => node.plus.get_or_insert_default(),
                _ => node.children.entry_ref(level).or_default(),
            };
        }
        &mut node.here
    }

    /// Changes the leaf of a filter where there is one, and cuts off what that left empty.
    fn edit(&mut self, filter: Option<&str>, change: &mut impl FnMut(&mut Leaf<S>)) {
        let leaf =
            match filter.map(|f| f.split_once('/').map_or((f, None), |(level, rest)| (level, Some(rest)))) {
                None => &mut self.here,
                Some(("#", _)) => &mut self.all_below,
                Some(("+", rest)) => {
                    if let Some(node) = &mut self.plus {
                        node.edit(rest, change);
                        if node.is_empty() {
                            self.plus = None;
                        }
                    }
                    return;
                }
                Some((level, rest)) => {
                    if let Some(node) = self.children.get_mut(level) {
                        node.edit(rest, change);
                        if node.is_empty() {
                            self.children.remove(level);
                            if self.children.is_empty() {
                                self.children = HashMap::new();
                            }
                        }
                    }
                    return;
                }
            };
        if let Some(found) = leaf {
            change(found);
            if found.members.is_empty() && found.groups.is_empty() {
                *leaf = None;
            }
        }
    }

    /// Calls `each` with every leaf whose filters match a topic of these levels, and with how many levels they name, of
    /// which `named` stand above.
    fn for_each_match<'a>(
        &'a self,
        rest: Option<&str>,
        (wildcards, named): (bool, usize),
        each: &mut impl FnMut(&'a Leaf<S>, usize),
    ) {
        if wildcards && let Some(leaf) = &self.all_below {
            each(leaf, named);
        }
        let Some(rest) = rest else {
            if let Some(leaf) = &self.here {
                each(leaf, named);
            }
            return;
        };
        let (level, rest) = rest.split_once('/').map_or((rest, None), |(level, rest)| (level, Some(rest)));
        if let Some(node) = self.children.get(level) {
            node.for_each_match(rest, (true, named + 1), each);
        }
        if wildcards && let Some(node) = &self.plus {
            node.for_each_match(rest, (true, named), each);
        }
    }
}

impl<S: Subscriber> Subscriptions<S> {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Adds or replaces a session's subscription. `filter` may be a shared one and must be valid.
    pub(crate) fn insert(&mut self, filter: &ByteString, subscription: Subscription<S>) {
        let key = subscription.subscriber.key();
        let members = match topic::shared(filter) {
            None => &mut self.root.leaf(filter).get_or_insert_default().members,
            Some(None) => return,
            Some(Some(shared)) => {
                let groups = &mut self.root.leaf(shared.filter).get_or_insert_default().groups;
                let index = groups.iter().position(|g| g.filter == *filter).unwrap_or_else(|| {
                    let filter = filter.clone();
                    groups.push(Group { filter, members: Members::default(), next: AtomicUsize::new(0) });
                    groups.len() - 1
                });
                &mut groups[index].members
            }
        };
        if members.insert(key, subscription).is_none() {
            self.count += 1;
        }
    }

    /// Takes a session's subscription to a filter away.
    pub(crate) fn remove(&mut self, filter: &str, key: u64) {
        let mut removed = 0;
        match topic::shared(filter) {
            None => self.root.edit(Some(filter), &mut |leaf| {
                removed += usize::from(leaf.members.swap_remove(&key).is_some());
            }),
            Some(None) => {}
            Some(Some(shared)) => self.root.edit(Some(shared.filter), &mut |leaf| {
                for group in leaf.groups.iter_mut().filter(|g| g.filter == filter) {
                    removed += usize::from(group.members.swap_remove(&key).is_some());
                }
                leaf.groups.retain(|g| !g.members.is_empty());
            }),
        }
        self.count -= removed;
    }

    /// Everyone a message on `topic` from the session `publisher` goes to: each session once, at the highest
    /// QoS of its filters and with all their identifiers (MQTT 5, 3.3.4), and one member of each shared group.
    pub(crate) fn targets(
        &self,
        topic: &str,
        publisher: u64,
        qos: QoS,
        ground: &S::Ground,
        targets: &mut Vec<Target<S>>,
    ) {
        let start = targets.len();
        let (mut leaves, mut has_groups) = (0, false);
        self.for_each_match(topic, |leaf, named| {
            leaves += 1;
            has_groups |= !leaf.groups.is_empty();
            for subscription in leaf.members.values() {
                if subscription.options.no_local && subscription.subscriber.key() == publisher {
                    continue;
                }
                targets.push(Target::of(subscription, None, named));
            }
        });
        if leaves > 1 {
            merge(targets, start);
        }
        // Behind the merge, for each group gets a delivery of its own. Found once more instead of being remembered: most
        // messages go to no group, and a list of leaves would cost each of them an allocation.
        if has_groups {
            self.for_each_match(topic, |leaf, named| {
                for group in &leaf.groups {
                    if let Some(member) = group.choose(qos, ground) {
                        targets.push(Target::of(member, Some(group.filter.clone()), named));
                    }
                }
            });
        }
    }

    /// Calls `each` with every leaf whose filters match a topic (MQTT 5, 4.7).
    fn for_each_match<'a>(&'a self, topic: &str, mut each: impl FnMut(&'a Leaf<S>, usize)) {
        // A wildcard at the first level does not match topics that begin with $ [MQTT-4.7.2-1].
        self.root.for_each_match(Some(topic), (!topic.starts_with('$'), 0), &mut each);
    }

    /// A member of a shared group, for a message that another member left behind.
    pub(crate) fn another(
        &self,
        filter: &ByteString,
        topic: &str,
        qos: QoS,
        ground: &S::Ground,
    ) -> Option<Target<S>> {
        let mut found = None;
        self.for_each_match(topic, |leaf, named| {
            found = found.or_else(|| {
                leaf.groups.iter().find(|group| group.filter == *filter).map(|group| (group, named))
            });
        });
        let (group, named) = found?;
        group.choose(qos, ground).map(|member| Target::of(member, Some(filter.clone()), named))
    }
}

impl<S: Subscriber> Target<S> {
    fn of(subscription: &Subscription<S>, shared: Option<ByteString>, named_levels: usize) -> Self {
        Self {
            subscriber: subscription.subscriber.clone(),
            qos: subscription.options.qos,
            retain_as_published: subscription.options.retain_as_published,
            identifiers: subscription.identifier.into_iter().collect(),
            shared,
            named_levels,
        }
    }
}

/// One target a session, from `start` on.
fn merge<S: Subscriber>(targets: &mut Vec<Target<S>>, start: usize) {
    targets[start..].sort_by_key(|t| t.subscriber.key());
    let mut kept = start;
    for index in start + 1..targets.len() {
        if targets[kept].subscriber.key() == targets[index].subscriber.key() {
            let Target { qos, retain_as_published: retain, named_levels, .. } = targets[index];
            let identifiers = std::mem::take(&mut targets[index].identifiers);
            let target = &mut targets[kept];
            target.qos = target.qos.max(qos);
            target.retain_as_published |= retain;
            target.named_levels = target.named_levels.max(named_levels);
            target.identifiers.extend(identifiers);
        } else {
            kept += 1;
            targets.swap(kept, index);
        }
    }
    targets.truncate((kept + 1).min(targets.len()));
}

impl<S: Subscriber> Group<S> {
    /// Round robin over the members that can take a message now; else over those that may queue it, connected ones first.
    fn choose(&self, qos: QoS, ground: &S::Ground) -> Option<&Subscription<S>> {
        let start = self.next.load(Ordering::Relaxed);
        let count = self.members.len();
        let (mut waiting, mut away, mut full) = (None, None, None);
        let mut ready = None;
        for step in 0..count {
            let index = (start + step) % count;
            let (_, member) = self.members.get_index(index)?;
            let found = Some((index, member));
            match member.subscriber.readiness(qos.min(member.options.qos), ground) {
                Readiness::Ready => {
                    ready = found;
                    break;
                }
                Readiness::Waiting => waiting = waiting.or(found),
                Readiness::Away => away = away.or(found),
                Readiness::Full => full = full.or(found),
                Readiness::Gone => {}
            }
        }
        let (index, member) = ready.or(waiting).or(away).or(full)?;
        // Behind who was chosen and not behind who was asked first: else the one that follows those who are away would
        // get their parts.
        self.next.store(index + 1, Ordering::Relaxed);
        Some(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A subscriber with a key that is as ready as it says.
    #[derive(Clone, Copy, Debug)]
    struct Fixed(u64, Readiness);

    impl Subscriber for Fixed {
        type Ground = ();

        fn key(&self) -> u64 {
            self.0
        }

        fn readiness(&self, _: QoS, (): &()) -> Readiness {
            self.1
        }
    }

    fn ready(key: u64) -> Fixed {
        Fixed(key, Readiness::Ready)
    }

    fn subscribe(
        trie: &mut Subscriptions<Fixed>,
        subscriber: Fixed,
        filter: &str,
        qos: QoS,
        identifier: u32,
    ) {
        let options = Options { qos, ..Options::default() };
        let subscription = Subscription { subscriber, options, identifier: Some(identifier) };
        trie.insert(&filter.into(), subscription);
    }

    fn found(trie: &Subscriptions<Fixed>, topic: &str) -> Vec<(u64, QoS, Vec<u32>)> {
        let mut targets = Vec::new();
        trie.targets(topic, 0, QoS::AtMostOnce, &(), &mut targets);
        let mut found: Vec<_> = targets
            .into_iter()
            .map(|mut t| {
                t.identifiers.sort_unstable();
                (t.subscriber.key(), t.qos, t.identifiers)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn one_target_a_session_with_the_highest_qos_and_every_identifier() {
        let mut trie = Subscriptions::default();
        let (a, b) = (ready(1), ready(2));
        subscribe(&mut trie, a, "x/#", QoS::AtMostOnce, 1);
        subscribe(&mut trie, b, "x/y", QoS::AtLeastOnce, 2);
        subscribe(&mut trie, a, "+/y", QoS::ExactlyOnce, 3);
        subscribe(&mut trie, a, "#", QoS::AtLeastOnce, 4);
        assert_eq!(
            found(&trie, "x/y"),
            [(1, QoS::ExactlyOnce, vec![1, 3, 4]), (2, QoS::AtLeastOnce, vec![2])]
        );
        assert_eq!(found(&trie, "x"), [(1, QoS::AtLeastOnce, vec![1, 4])]);
        assert_eq!(found(&trie, "$SYS/y"), []);
    }

    #[test]
    fn nothing_is_left_of_filters_that_are_gone() {
        let mut trie = Subscriptions::default();
        let session = ready(1);
        let filters = ["a/b/c", "a/+/c", "a/b/#", "#", "+", "$share/g/a/b", "/", "//+"];
        for (number, filter) in filters.into_iter().enumerate() {
            subscribe(&mut trie, session, filter, QoS::AtMostOnce, number as u32 + 1);
        }
        assert_eq!(trie.count(), filters.len());
        for filter in filters {
            trie.remove(filter, 1);
        }
        assert_eq!(trie.count(), 0);
        assert!(trie.root.is_empty());
    }

    #[test]
    fn the_trie_agrees_with_matching_one_by_one() {
        let mut trie = Subscriptions::default();
        let levels = ["a", "b", "+", "", "$x"];
        let mut filters = vec!["#".to_owned()];
        for one in levels {
            filters.push(one.to_owned());
            filters.push(format!("{one}/#"));
            for two in levels {
                filters.push(format!("{one}/{two}"));
            }
        }
        filters.retain(|f| topic::valid_filter(f, 128));
        let sessions: Vec<_> = (1..=filters.len() as u64).map(ready).collect();
        for (session, filter) in sessions.iter().zip(&filters) {
            subscribe(&mut trie, *session, filter, QoS::AtMostOnce, 1);
        }
        for topic in ["a", "a/b", "b/a", "/", "a/", "/a", "$x", "$x/a", "a/b/a", "b"] {
            let expected: Vec<u64> = sessions
                .iter()
                .zip(&filters)
                .filter(|(_, filter)| rantai_topics::matches(filter, topic))
                .map(|(session, _)| session.key())
                .collect();
            let got: Vec<u64> = found(&trie, topic).into_iter().map(|(key, ..)| key).collect();
            assert_eq!(got, expected, "{topic:?}");
        }
    }

    #[test]
    fn a_shared_group_prefers_who_is_ready_and_takes_who_is_full_last() {
        let mut trie = Subscriptions::default();
        let members = [
            Fixed(1, Readiness::Full),
            Fixed(2, Readiness::Gone),
            Fixed(3, Readiness::Waiting),
            Fixed(4, Readiness::Ready),
            Fixed(5, Readiness::Away),
        ];
        for (number, &member) in members.iter().enumerate() {
            subscribe(&mut trie, member, "$share/g/a", QoS::AtLeastOnce, number as u32 + 1);
        }
        for expected in [4, 3, 5, 1] {
            for _ in 0..8 {
                let keys: Vec<u64> = found(&trie, "a").into_iter().map(|(key, ..)| key).collect();
                assert_eq!(keys, [expected]);
            }
            trie.remove("$share/g/a", expected);
        }
        assert!(found(&trie, "a").is_empty(), "nothing can be delivered to who is gone");
    }

    #[test]
    fn members_that_are_away_do_not_add_to_the_part_of_who_follows_them() {
        let mut trie = Subscriptions::default();
        for key in 1..=6 {
            let readiness = if key <= 4 { Readiness::Away } else { Readiness::Ready };
            subscribe(&mut trie, Fixed(key, readiness), "$share/g/a", QoS::AtLeastOnce, 1);
        }
        let mut parts = [0; 7];
        for _ in 0..60 {
            parts[found(&trie, "a")[0].0 as usize] += 1;
        }
        assert_eq!(parts, [0, 0, 0, 0, 0, 30, 30]);
    }
}
