//! Sets of filters matched together: each topic is matched once, however many filters there are.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Filters in a trie, each with a number. The keys to match are topics with NUL in place of `/`.
#[derive(Debug, Default)]
pub(crate) struct FilterSet {
    root: FilterNode,
    nodes: usize,
}

#[derive(Debug, Default)]
struct FilterNode {
    /// Ordered, because matching searches for the next level that may match.
    children: BTreeMap<Box<str>, FilterNode>,
    plus: Option<Box<FilterNode>>,
    /// Filter that ends in `#` after this level.
    all_below: Option<u32>,
    /// Filter that ends at this level.
    here: Option<u32>,
}

/// First key after a given one that may match: the first `kept` bytes of the given key, a separator and a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seek<'a> {
    kept: usize,
    separator: &'static str,
    level: &'a str,
}

/// Separator that sorts above [`NEXT_LEVEL`], and so after everything below a topic, but below every character of a
/// level.
const BEHIND: &str = "\u{1}";
/// Separator of two levels of a key.
const NEXT_LEVEL: &str = "\0";
/// Prefix that sorts after every topic that begins with `$`, which no leading wildcard matches \[MQTT-4.7.2-1].
const BEHIND_DOLLAR: &str = "%";

impl Seek<'_> {
    /// Returns the bytes of the key after its first `from`.
    fn behind(&self, from: usize, topic: &str) -> impl Iterator<Item = u8> {
        topic[from..self.kept].bytes().chain(self.separator.bytes()).chain(self.level.bytes())
    }

    /// Writes the key to `to`, replacing its contents.
    pub(super) fn write(&self, topic: &str, to: &mut String) {
        to.clear();
        for part in [&topic[..self.kept], self.separator, self.level] {
            to.push_str(part);
        }
    }

    /// Compares two keys after `topic`.
    fn compare(&self, other: &Self, topic: &str) -> Ordering {
        let common = self.kept.min(other.kept);
        self.behind(common, topic).cmp(other.behind(common, topic))
    }
}

/// Result of matching one topic.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// Numbers of the matching filters, in no particular order.
    pub(super) filters: Vec<u32>,
    /// Number of trie nodes visited.
    pub(super) nodes: usize,
}

impl FilterSet {
    /// Returns the number of levels of all filters; levels that filters have in common count once.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    /// Adds a filter that is not in the set.
    pub(crate) fn insert(&mut self, filter: &str, number: u32) {
        let nodes = &mut self.nodes;
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => {
                    node.all_below = Some(number);
                    return;
                }
                "+" => node.plus.get_or_insert_with(|| {
                    *nodes += 1;
                    Box::default()
                }),
                _ => node.children.entry(level.into()).or_insert_with(|| {
                    *nodes += 1;
                    FilterNode::default()
                }),
            };
        }
        node.here = Some(number);
    }

    /// Removes a filter. Returns its number if it was in the set.
    pub(crate) fn remove(&mut self, filter: &str) -> Option<u32> {
        self.root.remove(Some(filter), &mut self.nodes)
    }

    /// Returns the number of a filter in the set.
    pub(crate) fn number(&self, filter: &str) -> Option<u32> {
        let mut node = &self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => return node.all_below,
                "+" => node.plus.as_deref()?,
                _ => node.children.get(level)?,
            };
        }
        node.here
    }

    /// Finds the filters that match the topic of `key`. Returns the first key after it that may match, or `None` if
    /// none can. The returned key is meaningful only if no filter matches.
    pub(super) fn look<'a>(&'a self, key: &str, matches: &mut Matches) -> Option<Seek<'a>> {
        matches.filters.clear();
        matches.nodes = 0;
        self.root.look(key, 0, matches)
    }
}

impl FilterNode {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.all_below.is_none() && self.here.is_none()
    }

    fn remove(&mut self, filter: Option<&str>, nodes: &mut usize) -> Option<u32> {
        let Some(filter) = filter else { return self.here.take() };
        let (level, rest) =
            filter.split_once('/').map_or((filter, None), |(level, rest)| (level, Some(rest)));
        match level {
            "#" => self.all_below.take(),
            "+" => {
                let node = self.plus.as_mut()?;
                let removed = node.remove(rest, nodes);
                if node.is_empty() {
                    self.plus = None;
                    *nodes -= 1;
                }
                removed
            }
            _ => {
                let node = self.children.get_mut(level)?;
                let removed = node.remove(rest, nodes);
                if node.is_empty() {
                    self.children.remove(level);
                    *nodes -= 1;
                }
                removed
            }
        }
    }

    /// Same as [`FilterSet::look`], for the levels of `key` from `start` on; `start` is past the key's end if no level
    /// is left.
    fn look<'a>(&'a self, key: &str, start: usize, matches: &mut Matches) -> Option<Seek<'a>> {
        matches.nodes += 1;
        // Wildcards at the first level do not match the broker's own topics, which begin with `$`.
        let hidden = start == 0 && key.starts_with('$');
        if !hidden {
            matches.filters.extend(self.all_below);
        }
        if start > key.len() {
            matches.filters.extend(self.here);
            // Matching keys can only be below this topic.
            let level = match &self.plus {
                Some(_) => "",
                None => self.children.keys().next()?,
            };
            return Some(Seek { kept: key.len(), separator: NEXT_LEVEL, level });
        }
        let end = key[start..].find('\0').map_or(key.len(), |at| start + at);
        let level = &key[start..end];
        let exact = self.children.get(level).and_then(|node| node.look(key, end + 1, matches));
        let plus = self.plus.as_ref().filter(|_| !hidden);
        let any = plus.and_then(|node| node.look(key, end + 1, matches));
        match (exact, any) {
            (Some(one), Some(other)) => {
                return Some(if one.compare(&other, key).is_le() { one } else { other });
            }
            (None, None) => {}
            (one, other) => return one.or(other),
        }
        if plus.is_some() {
            return Some(Seek { kept: end, separator: BEHIND, level: "" });
        }
        let above = (Bound::Excluded(level), Bound::Unbounded);
        let next = self.children.range::<str, _>(above).next();
        let next = next.map(|(level, _)| Seek { kept: start, separator: "", level });
        if hidden && (self.plus.is_some() || self.all_below.is_some()) {
            let wildcards = Seek { kept: 0, separator: BEHIND_DOLLAR, level: "" };
            return Some(next.filter(|next| next.level < BEHIND_DOLLAR).unwrap_or(wildcards));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_filters_leave_no_nodes() {
        let mut set = FilterSet::default();
        let filters = ["a/b", "a/#", "+/b", "#", "+/+/c", "", "a//b", "a"];
        for (number, filter) in (0..).zip(filters) {
            set.insert(filter, number);
        }
        assert_eq!(set.nodes(), 9);
        assert_eq!((set.number("a/c"), set.remove("a/c")), (None, None));
        for (number, filter) in (0..).zip(filters) {
            assert_eq!((set.number(filter), set.remove(filter)), (Some(number), Some(number)), "{filter:?}");
            assert_eq!(set.remove(filter), None, "{filter:?}");
        }
        assert!(set.root.is_empty());
        assert_eq!(set.nodes(), 0);
    }
}
