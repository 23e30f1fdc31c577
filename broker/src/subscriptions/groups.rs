//! Shared groups of one filter.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytestring::ByteString;
use hashbrown::HashMap;
use indexmap::IndexMap;

use super::{Members, Readiness, Subscriber, Subscription};
use crate::message::QoS;

/// Limits on the shared groups of one filter. Each group gets a copy of every matching message, which multiplies the
/// work of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupLimits {
    /// Maximum number of groups on the filter.
    pub(crate) filter: usize,
    /// Maximum number of groups on the filter that one session is a member of.
    pub(crate) session: usize,
}

impl GroupLimits {
    /// No limits, for restored subscriptions.
    pub(crate) const NONE: Self = Self { filter: usize::MAX, session: usize::MAX };
}

/// Error: another shared group on a filter would exceed [`GroupLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyGroups;

/// Maximum number of members asked for one that can send a message at once, after a member was found that may queue
/// it. Bounds the cost of a publish to a group of ten thousand members that acknowledge nothing.
const MAX_ASKED: usize = 64;

/// Member of a group that was chosen for a message.
#[derive(Debug)]
pub(super) struct Choice<'a, S> {
    pub(super) member: Option<&'a Subscription<S>>,
    /// Whether no member has room.
    pub(super) full: bool,
    /// Number of members asked.
    pub(super) asked: usize,
}

/// Groups of one filter, by the full shared filter `$share/{name}/{filter}`. Their number affects only the cost of
/// publishing.
#[derive(Debug)]
pub(super) struct Groups<S> {
    by_filter: IndexMap<ByteString, Group<S>, hashbrown::DefaultHashBuilder>,
    /// Number of groups that each session is a member of.
    memberships: HashMap<u64, usize>,
}

/// Members of one `$share/{name}/{filter}`.
#[derive(Debug)]
pub(super) struct Group<S> {
    /// The full shared filter, `$share/{name}/{filter}`.
    pub(super) filter: ByteString,
    members: Members<S>,
    /// Index at which the next choice begins.
    next: AtomicUsize,
}

impl<S> Default for Groups<S> {
    fn default() -> Self {
        Self { by_filter: IndexMap::default(), memberships: HashMap::new() }
    }
}

impl<S> Groups<S> {
    pub(super) fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Group<S>> {
        self.by_filter.values()
    }

    pub(super) fn get(&self, filter: &ByteString) -> Option<&Group<S>> {
        self.by_filter.get(filter)
    }

    /// Removes a session from a group. Returns false if it is not a member.
    pub(super) fn remove(&mut self, filter: &str, key: u64) -> bool {
        let Some(index) = self.by_filter.get_index_of(filter) else { return false };
        let group = &mut self.by_filter[index];
        if group.members.swap_remove(&key).is_none() {
            return false;
        }
        if group.members.is_empty() {
            self.by_filter.swap_remove_index(index);
        }
        if let Some(count) = self.memberships.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.memberships.remove(&key);
            }
        }
        true
    }
}

impl<S: Subscriber> Groups<S> {
    /// Adds or replaces a member. Returns whether it is new.
    pub(super) fn insert(
        &mut self,
        filter: &ByteString,
        subscription: Subscription<S>,
        limits: GroupLimits,
    ) -> Result<bool, TooManyGroups> {
        let key = subscription.subscriber.key();
        let known = self.by_filter.get_mut(filter);
        let is_new = known.is_none();
        if let Some(member) = known.and_then(|group| group.members.get_mut(&key)) {
            *member = subscription;
            return Ok(false);
        }
        let memberships = self.memberships.get(&key).copied().unwrap_or(0);
        if memberships >= limits.session || is_new && self.by_filter.len() >= limits.filter {
            return Err(TooManyGroups);
        }
        let group = self.by_filter.entry(filter.clone()).or_insert_with(|| Group {
            filter: filter.clone(),
            members: Members::default(),
            next: AtomicUsize::new(0),
        });
        group.members.insert(key, subscription);
        self.memberships.insert(key, memberships + 1);
        Ok(true)
    }
}

impl<S: Subscriber> Group<S> {
    /// Chooses a member round robin: one that can send the message at once, otherwise one that may queue it. Connected
    /// members come first, and among them those that acknowledge their messages.
    pub(super) fn choose(&self, qos: QoS, now: u64, ground: &S::Ground) -> Choice<'_, S> {
        let start = self.next.load(Ordering::Relaxed);
        let count = self.members.len();
        let (mut waiting, mut stalled, mut away, mut full) = (None, None, None, None);
        let mut ready = None;
        let mut asked = 0;
        while asked < count && (asked < MAX_ASKED || waiting.or(stalled).or(away).is_none()) {
            let index = start.wrapping_add(asked) % count;
            asked += 1;
            let member = &self.members[index];
            let found = Some((index, member));
            match member.subscriber.readiness(qos.min(member.options.qos), now, ground) {
                Readiness::Ready => {
                    ready = found;
                    break;
                }
                Readiness::Waiting => waiting = waiting.or(found),
                Readiness::Stalled => stalled = stalled.or(found),
                Readiness::Away => away = away.or(found),
                Readiness::Full => full = full.or(found),
                Readiness::Gone => {}
            }
        }
        let room = ready.or(waiting).or(stalled).or(away);
        let chosen = room.or(full);
        if let Some((index, _)) = chosen {
            // Continues after the chosen member, not after the first one asked: otherwise the member after absent ones
            // would get their shares.
            self.next.store(index + 1, Ordering::Relaxed);
        }
        Choice { member: chosen.map(|(_, member)| member), full: room.is_none(), asked }
    }
}
