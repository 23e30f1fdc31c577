//! Trie of filters: finds those that match a topic, cover a filter or overlap with it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::filter::RuleFilter;
use crate::level::Level;
use crate::who::Who;

/// Values keyed by the filters of rules.
///
/// A search visits only the levels that match, so filters with a different beginning cost nothing, even thousands of
/// them. Only a filter with wildcards before its last level may have to visit many nodes.
#[derive(Clone, Debug)]
pub struct Index<T> {
    root: TrieNode<T>,
}

#[derive(Clone, Debug)]
struct TrieNode<T> {
    literals: HashMap<Box<str>, TrieNode<T>>,
    /// Children for levels with a wildcard, a prefix or placeholders.
    others: Vec<(Level, TrieNode<T>)>,
    /// Values of filters that end here.
    here: Vec<T>,
    /// Values of filters that end in `#` after this level.
    rest: Vec<T>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { root: TrieNode::default() }
    }
}

impl<T> Default for TrieNode<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), others: Vec::new(), here: Vec::new(), rest: Vec::new() }
    }
}

/// Kind of match that a search looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Filters that match every topic that the given filter, or topic, matches.
    Covering,
    /// Filters that match at least one topic that the given filter matches.
    Overlapping,
}

/// Parameters of a search: the kind of match, the client, and a callback for each value that is found.
struct Search<'s, T> {
    question: Question,
    who: &'s Who<'s>,
    found: &'s mut dyn FnMut(T) -> ControlFlow<()>,
}

impl<T: Copy + Ord> Index<T> {
    /// Inserts a value under a filter, without the filter's `$share/GROUP/`.
    pub fn insert(&mut self, filter: &RuleFilter, value: T) {
        self.root.insert(&filter.levels, filter.rest, value);
    }

    /// Inserts a value under the group and the filter of a shared subscription; does nothing for a filter without a group.
    pub fn insert_shared(&mut self, filter: &RuleFilter, value: T) {
        if let Some(group) = &filter.group {
            self.root.child(group).insert(&filter.levels, filter.rest, value);
        }
    }

    /// Returns the least value whose filter matches a topic.
    pub fn matching(&self, topic: &str, who: &Who<'_>) -> Option<T> {
        // A topic is a filter without wildcards.
        self.covering(topic, who)
    }

    /// Returns the least value whose filter matches every topic that `filter` matches.
    pub fn covering(&self, filter: &str, who: &Who<'_>) -> Option<T> {
        least(Question::Covering, who, |search| self.root.enter(filter, search))
    }

    /// Returns any value whose filter matches at least one topic that `filter` matches.
    pub fn overlapping(&self, filter: &str, who: &Who<'_>) -> Option<T> {
        any(who, |search| self.root.enter(filter, search))
    }

    /// Same as [`covering`](Self::covering), for values inserted by [`insert_shared`](Self::insert_shared).
    pub fn covering_shared(&self, group: &str, filter: &str, who: &Who<'_>) -> Option<T> {
        least(Question::Covering, who, |search| self.root.enter_group(group, filter, search))
    }

    /// Same as [`overlapping`](Self::overlapping), for values inserted by [`insert_shared`](Self::insert_shared).
    pub fn overlapping_shared(&self, group: &str, filter: &str, who: &Who<'_>) -> Option<T> {
        any(who, |search| self.root.enter_group(group, filter, search))
    }
}

/// Returns the least of the values that are found.
fn least<T: Copy + Ord>(
    question: Question,
    who: &Who<'_>,
    walk: impl FnOnce(&mut Search<'_, T>) -> ControlFlow<()>,
) -> Option<T> {
    let mut least: Option<T> = None;
    let mut found = |value: T| {
        least = Some(least.map_or(value, |other| other.min(value)));
        ControlFlow::Continue(())
    };
    let _ = walk(&mut Search { question, who, found: &mut found });
    least
}

/// Returns the first overlapping value that is found, and ends the search there.
fn any<T: Copy>(who: &Who<'_>, walk: impl FnOnce(&mut Search<'_, T>) -> ControlFlow<()>) -> Option<T> {
    let mut first = None;
    let mut found = |value: T| {
        first = Some(value);
        ControlFlow::Break(())
    };
    let _ = walk(&mut Search { question: Question::Overlapping, who, found: &mut found });
    first
}

impl<T: Copy> TrieNode<T> {
    fn insert(&mut self, levels: &[Level], rest: bool, value: T) {
        let last = levels.iter().fold(self, |node, level| node.child(level));
        if rest { last.rest.push(value) } else { last.here.push(value) }
    }

    fn child(&mut self, level: &Level) -> &mut Self {
        if let Level::Literal(text) = level {
            return self.literals.entry(text.clone()).or_default();
        }
        let at = self.others.iter().position(|(other, _)| other == level).unwrap_or_else(|| {
            self.others.push((level.clone(), Self::default()));
            self.others.len() - 1
        });
        &mut self.others[at].1
    }

    /// Searches for a filter, starting at its first level.
    fn enter(&self, filter: &str, search: &mut Search<'_, T>) -> ControlFlow<()> {
        let levels: Vec<&str> = filter.split('/').collect();
        // A wildcard in the first level does not match topics that begin with `$`, such as `$SYS` [MQTT-4.7.2-1].
        if !filter.starts_with('$') {
            search.report(&self.rest)?;
        }
        // As every topic has a first level, `#` is equivalent to `+/#`.
        let (first, behind) = match levels[..] {
            ["#"] => ("+", &levels[..]),
            _ => (levels[0], &levels[1..]),
        };
        self.children(first, true, behind, search)
    }

    /// Searches for the filter of a shared subscription; the children of this node are groups.
    fn enter_group(&self, group: &str, filter: &str, search: &mut Search<'_, T>) -> ControlFlow<()> {
        if let Some(node) = self.literals.get(group) {
            node.enter(filter, search)?;
        }
        let who = search.who;
        let mut others = self.others.iter().filter(|(level, _)| level.matches(group, who));
        others.try_for_each(|(_, node)| node.enter(filter, search))
    }

    /// Searches the levels after the first one.
    fn walk(&self, levels: &[&str], search: &mut Search<'_, T>) -> ControlFlow<()> {
        search.report(&self.rest)?;
        match levels {
            [] => search.report(&self.here),
            ["#"] if search.question == Question::Covering => ControlFlow::Continue(()),
            ["#"] => {
                search.report(&self.here)?;
                self.children("+", false, levels, search)
            }
            [level, behind @ ..] => self.children(level, false, behind, search),
        }
    }

    /// Continues the search in each child that matches a level of the filter. In the first level, a wildcard does not
    /// match levels that begin with `$`.
    fn children(
        &self,
        level: &str,
        is_first: bool,
        behind: &[&str],
        search: &mut Search<'_, T>,
    ) -> ControlFlow<()> {
        let who = search.who;
        if level != "+" {
            if let Some(node) = self.literals.get(level) {
                node.walk(behind, search)?;
            }
            let only_dollar = is_first && level.starts_with('$');
            let mut others = self.others.iter();
            return others.try_for_each(|(other, node)| {
                let may = !only_dollar || other.begins_with_dollar();
                if may && other.matches(level, who) {
                    node.walk(behind, search)
                } else {
                    ControlFlow::Continue(())
                }
            });
        }
        if search.question == Question::Overlapping {
            let mut literals = self.literals.iter().filter(|(text, _)| !(is_first && text.starts_with('$')));
            literals.try_for_each(|(_, node)| node.walk(behind, search))?;
        }
        let question = search.question;
        let mut others = self.others.iter().filter(|(other, _)| match question {
            Question::Covering => *other == Level::Any,
            Question::Overlapping => !(is_first && other.begins_with_dollar()) && other.can_match(who),
        });
        others.try_for_each(|(_, node)| node.walk(behind, search))
    }
}

impl<T: Copy> Search<'_, T> {
    fn report(&mut self, values: &[T]) -> ControlFlow<()> {
        values.iter().try_for_each(|value| (self.found)(*value))
    }
}
