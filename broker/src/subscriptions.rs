//! Subscription matching: filters in a trie with one node per level.

mod groups;

use bytestring::ByteString;
use indexmap::IndexMap;
use rantai_topics::split_level;

use crate::codec::Options;
use crate::holdings::Amount;
use crate::message::QoS;
use crate::parted::PartedMap;
use crate::topic;
use groups::Groups;
pub(crate) use groups::{GroupLimits, TooManyGroups};

type Members<S> = IndexMap<u64, Subscription<S>, hashbrown::DefaultHashBuilder>;

/// Number of sessions that cost as much routing as one step (one node, or one further filter of a session). Several,
/// because a batch for a hundred subscribers should be written to each of them at once, which is cheaper overall.
const SESSIONS_PER_STEP: usize = 16;

/// Maximum number of filter levels removed per lock of the subscriptions, which bounds how long a publisher waits.
const LEVELS_PER_LOCK: usize = 64;

/// Returns the approximate number of bytes of a subscription to `filter`, if no other filter shares a level with it.
pub(crate) fn subscription_bytes(filter: &str) -> usize {
    // Node of the trie with the smallest table of children.
    const LEVEL: usize = 400;
    const SUBSCRIPTION: usize = 256;
    SUBSCRIPTION + 2 * filter.len() + LEVEL * topic::levels(filter)
}

/// A subscriber; cheap to clone.
pub(crate) trait Subscriber: Clone {
    /// Returns the unique key of the subscriber, which is never reused.
    fn key(&self) -> u64;

    /// State of the broker that [`readiness`](Self::readiness) depends on.
    type Ground;

    /// Returns the readiness for a message at `qos` at the time `now`, in milliseconds since 1970.
    fn readiness(&self, qos: QoS, now: u64, ground: &Self::Ground) -> Readiness;
}

/// Readiness of a session for a message of a shared group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The message would be sent at once.
    Ready,
    /// The message would be queued.
    Waiting,
    /// The client is connected, but has not acknowledged anything for a while: it may have been stopped.
    Stalled,
    /// The message would be queued until the client returns.
    Away,
    /// The queue is full.
    Full,
    /// Nothing can be delivered to the session.
    Gone,
}

/// Subscription of one session to one filter.
#[derive(Clone, Debug)]
pub(crate) struct Subscription<S> {
    pub(crate) subscriber: S,
    pub(crate) options: Options,
    /// Subscription Identifier.
    pub(crate) identifier: Option<u32>,
}

/// One delivery that a publish requires.
#[derive(Clone, Debug)]
pub(crate) struct Target<S> {
    pub(crate) subscriber: S,
    /// Highest QoS of the matching subscriptions.
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) identifiers: Vec<u32>,
    /// Shared filter including `$share/…/`, if the message matched by one.
    pub(crate) shared: Option<ByteString>,
    /// Highest specificity of the matching filters.
    pub(crate) named: Specificity,
}

/// Number of topic levels that a filter contains literally: none for `#`, and no leading ones for `+/call/#`. Ordered
/// by the number of leading levels, then of all levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Specificity {
    /// Number of levels before the first wildcard.
    pub(crate) leading: usize,
    /// Number of all levels that are not wildcards.
    all: usize,
}

impl Specificity {
    /// Returns the specificity with one more literal level, which comes after `behind` levels.
    fn and_level(self, behind: usize) -> Self {
        Self { leading: self.leading + usize::from(self.leading == behind), all: self.all + 1 }
    }
}

/// Position of a match within a topic.
#[derive(Clone, Copy)]
struct MatchPosition {
    /// Whether wildcards match at this level.
    wildcards: bool,
    levels: usize,
    named: Specificity,
}

/// All subscriptions of all sessions.
///
/// Matching a publish takes one step per topic level, however many filters there are. Empty branches are removed at
/// once.
#[derive(Debug)]
pub(crate) struct Subscriptions<S> {
    root: FilterNode<S>,
    count: usize,
    /// Number of subscriptions made or replaced so far.
    added: u64,
}

#[derive(Debug)]
struct FilterNode<S> {
    children: PartedMap<Box<str>, FilterNode<S>>,
    plus: Option<Box<FilterNode<S>>>,
    /// Subscriptions that end in `#` after this level.
    all_below: Option<Box<FilterLeaf<S>>>,
    /// Subscriptions that end at this level.
    here: Option<Box<FilterLeaf<S>>>,
}

#[derive(Debug)]
struct FilterLeaf<S> {
    members: Members<S>,
    /// Boxed, as few filters are shared.
    groups: Option<Box<Groups<S>>>,
}

impl<S> Default for Subscriptions<S> {
    fn default() -> Self {
        Self { root: FilterNode::default(), count: 0, added: 0 }
    }
}

impl<S> Default for FilterNode<S> {
    fn default() -> Self {
        Self { children: PartedMap::default(), plus: None, all_below: None, here: None }
    }
}

impl<S> Default for FilterLeaf<S> {
    fn default() -> Self {
        Self { members: Members::default(), groups: None }
    }
}

impl<S> FilterNode<S> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.all_below.is_none() && self.here.is_none()
    }

    fn leaf(&mut self, filter: &str) -> &mut Option<Box<FilterLeaf<S>>> {
        let mut node = self;
        for level in filter.split('/') {
            node = match level {
                "#" => return &mut node.all_below,
                "+" => node.plus.get_or_insert_default(),
                _ => node.children.get_or_default(level),
            };
        }
        &mut node.here
    }

    /// Changes the leaf of a filter, if it exists, and removes branches that become empty.
    fn edit(&mut self, filter: Option<&str>, change: &mut impl FnMut(&mut FilterLeaf<S>)) {
        let leaf = match filter.map(split_level) {
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
                    }
                }
                return;
            }
        };
        if let Some(found) = leaf {
            change(found);
            if found.members.is_empty() && found.groups.is_none() {
                *leaf = None;
            }
        }
    }

    /// Calls `each` with every leaf that matches the rest of a topic, and with the specificity of its filters. Returns
    /// the number of nodes visited.
    fn for_each_match<'a>(
        &'a self,
        rest: Option<&str>,
        MatchPosition { wildcards, levels, named }: MatchPosition,
        each: &mut impl FnMut(&'a FilterLeaf<S>, Specificity),
    ) -> usize {
        if wildcards && let Some(leaf) = &self.all_below {
            each(leaf, named);
        }
        let Some(rest) = rest else {
            if let Some(leaf) = &self.here {
                each(leaf, named);
            }
            return 1;
        };
        let mut steps = 1;
        let (level, rest) = split_level(rest);
        if let Some(node) = self.children.get(level) {
            let walk = MatchPosition { wildcards: true, levels: levels + 1, named: named.and_level(levels) };
            steps += node.for_each_match(rest, walk, each);
        }
        if wildcards && let Some(node) = &self.plus {
            steps +=
                node.for_each_match(rest, MatchPosition { wildcards: true, levels: levels + 1, named }, each);
        }
        steps
    }
}

impl<S: Subscriber> Subscriptions<S> {
    /// Returns the number of subscriptions.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Adds or replaces a session's subscription. `filter` may be a shared one and must be valid.
    ///
    /// # Errors
    ///
    /// A new group, or another group membership of the session, would exceed `limits`.
    pub(crate) fn insert(
        &mut self,
        filter: &ByteString,
        subscription: Subscription<S>,
        limits: GroupLimits,
    ) -> Result<(), TooManyGroups> {
        let new = match topic::shared(filter) {
            None => {
                let members = &mut self.root.leaf(filter).get_or_insert_default().members;
                members.insert(subscription.subscriber.key(), subscription).is_none()
            }
            Some(None) => false,
            Some(Some(shared)) => {
                let leaf = self.root.leaf(shared.filter).get_or_insert_default();
                // An error leaves no empty group, because a group is refused only if there are others.
                leaf.groups.get_or_insert_default().insert(filter, subscription, limits)?
            }
        };
        self.count += usize::from(new);
        self.added += 1;
        Ok(())
    }

    /// Returns the number of subscriptions made or replaced since the start. If it is the same later, no session has
    /// subscribed in between.
    pub(crate) fn added(&self) -> u64 {
        self.added
    }

    /// Removes a session's subscription to a filter.
    pub(crate) fn remove(&mut self, filter: &str, key: u64) {
        let mut removed = false;
        match topic::shared(filter) {
            None => self.root.edit(Some(filter), &mut |leaf| {
                removed = leaf.members.swap_remove(&key).is_some();
            }),
            Some(None) => {}
            Some(Some(shared)) => self.root.edit(Some(shared.filter), &mut |leaf| {
                let Some(groups) = &mut leaf.groups else { return };
                removed = groups.remove(filter, key);
                if groups.is_empty() {
                    leaf.groups = None;
                }
            }),
        }
        self.count -= usize::from(removed);
    }

    /// Removes some of a session's subscriptions; the rest stays in `filters`. Returns the number and bytes of the
    /// removed ones.
    pub(crate) fn remove_some(&mut self, filters: &mut impl Iterator<Item = ByteString>, key: u64) -> Amount {
        let (mut levels, mut removed) = (0, Amount::default());
        while levels < LEVELS_PER_LOCK
            && let Some(filter) = filters.next()
        {
            levels += topic::levels(&filter);
            self.remove(&filter, key);
            removed.count += 1;
            removed.bytes += subscription_bytes(&filter);
        }
        removed
    }

    /// Collects all deliveries of a message on `topic` from the session `publisher`: each subscriber once, at the
    /// highest QoS of its filters and with all their identifiers (MQTT 5, 3.3.4), and one member of each shared group.
    /// Returns the work done, in steps of about equal cost.
    pub(crate) fn targets(
        &self,
        topic: &str,
        publisher: u64,
        qos: QoS,
        now: u64,
        ground: &S::Ground,
        targets: &mut Vec<Target<S>>,
    ) -> usize {
        let start = targets.len();
        let (mut leaves, mut has_groups) = (0, false);
        let mut steps = self.for_each_match(topic, |leaf, named| {
            leaves += 1;
            has_groups |= leaf.groups.is_some();
            for subscription in leaf.members.values() {
                if subscription.options.no_local && subscription.subscriber.key() == publisher {
                    continue;
                }
                targets.push(Target::of(subscription, None, named));
            }
        });
        let found = targets.len() - start;
        if leaves > 1 {
            merge(targets, start);
        }
        let sessions = targets.len() - start;
        steps += found - sessions + sessions / SESSIONS_PER_STEP;
        // Done after the merge, as each group gets a delivery of its own. The trie is walked again instead of
        // collecting the leaves in a list, because most messages match no group and would pay for the allocation.
        if has_groups {
            let mut asked = 0;
            steps += self.for_each_match(topic, |leaf, named| {
                for group in leaf.groups.iter().flat_map(|groups| groups.iter()) {
                    let choice = group.choose(qos, now, ground);
                    asked += choice.asked;
                    if let Some(member) = choice.member {
                        targets.push(Target::of(member, Some(group.filter.clone()), named));
                    }
                }
            });
            steps += asked;
        }
        steps
    }

    /// Calls `each` with every leaf whose filters match a topic (MQTT 5, 4.7). Returns the number of nodes visited.
    fn for_each_match<'a>(
        &'a self,
        topic: &str,
        mut each: impl FnMut(&'a FilterLeaf<S>, Specificity),
    ) -> usize {
        // A wildcard at the first level does not match topics that begin with $ [MQTT-4.7.2-1].
        let walk =
            MatchPosition { wildcards: !topic.starts_with('$'), levels: 0, named: Specificity::default() };
        self.root.for_each_match(Some(topic), walk, &mut each)
    }

    /// Returns a member of a shared group for a message that a former member has left, and whether no member has room.
    pub(crate) fn another(
        &self,
        filter: &ByteString,
        topic: &str,
        qos: QoS,
        now: u64,
        ground: &S::Ground,
    ) -> Option<(Target<S>, bool)> {
        let mut found = None;
        self.for_each_match(topic, |leaf, named| {
            found = found.or_else(|| leaf.groups.as_ref()?.get(filter).map(|group| (group, named)));
        });
        let (group, named) = found?;
        let choice = group.choose(qos, now, ground);
        choice.member.map(|member| (Target::of(member, Some(filter.clone()), named), choice.full))
    }
}

impl<S: Subscriber> Target<S> {
    fn of(subscription: &Subscription<S>, shared: Option<ByteString>, named: Specificity) -> Self {
        Self {
            subscriber: subscription.subscriber.clone(),
            qos: subscription.options.qos,
            retain_as_published: subscription.options.retain_as_published,
            identifiers: subscription.identifier.into_iter().collect(),
            shared,
            named,
        }
    }
}

/// Merges the targets from `start` on, so that there is one per session.
fn merge<S: Subscriber>(targets: &mut Vec<Target<S>>, start: usize) {
    targets[start..].sort_by_key(|t| t.subscriber.key());
    let mut kept = start;
    for index in start + 1..targets.len() {
        if targets[kept].subscriber.key() == targets[index].subscriber.key() {
            let Target { qos, retain_as_published: retain, named, .. } = targets[index];
            let identifiers = std::mem::take(&mut targets[index].identifiers);
            let target = &mut targets[kept];
            target.qos = target.qos.max(qos);
            target.retain_as_published |= retain;
            target.named = target.named.max(named);
            target.identifiers.extend(identifiers);
        } else {
            kept += 1;
            targets.swap(kept, index);
        }
    }
    targets.truncate((kept + 1).min(targets.len()));
}

#[cfg(test)]
mod tests;
