//! Filters in a trie: which of them match a topic, cover a filter or overlap with it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::filter::RuleFilter;
use crate::level::Level;
use crate::who::Who;

/// Values by the filters of rules.
///
/// A search visits the levels that fit, so that thousands of filters that begin otherwise cost nothing. Only a filter with
/// wildcards before its last level may have to look at many.
#[derive(Clone, Debug)]
pub struct Index<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    literals: HashMap<Box<str>, Node<T>>,
    /// Levels that are not known word for word.
    others: Vec<(Level, Node<T>)>,
    /// Values of filters that end here.
    here: Vec<T>,
    /// Values of filters that end in `#` behind this level.
    rest: Vec<T>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), others: Vec::new(), here: Vec::new(), rest: Vec::new() }
    }
}

/// What is asked of the filters in a trie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Those that match everything that this filter, or topic, matches.
    Covering,
    /// Those that match anything that this filter matches.
    Overlapping,
}

/// A search: what is asked, for whom, and what is done with each value that is found.
struct Search<'s, T> {
    question: Question,
    who: &'s Who<'s>,
    found: &'s mut dyn FnMut(T) -> ControlFlow<()>,
}

impl<T: Copy + Ord> Index<T> {
    /// Adds a value under a filter, its `$share/GROUP/` left out.
    pub fn insert(&mut self, filter: &RuleFilter, value: T) {
        self.root.insert(&filter.levels, filter.rest, value);
    }

    /// Adds a value under the group and the filter of a shared subscription; does nothing for a filter without a group.
    pub fn insert_shared(&mut self, filter: &RuleFilter, value: T) {
        if let Some(group) = &filter.group {
            self.root.child(group).insert(&filter.levels, filter.rest, value);
        }
    }

    /// The least value whose filter matches a topic.
    pub fn matching(&self, topic: &str, who: &Who<'_>) -> Option<T> {
        // A topic is a filter without wildcards.
        self.covering(topic, who)
    }

    /// The least value whose filter matches every topic that `filter` matches.
    pub fn covering(&self, filter: &str, who: &Who<'_>) -> Option<T> {
        least(Question::Covering, who, |search| self.root.enter(filter, search))
    }

    /// A value whose filter matches any topic that `filter` matches.
    pub fn overlapping(&self, filter: &str, who: &Who<'_>) -> Option<T> {
        any(who, |search| self.root.enter(filter, search))
    }

    /// As [`covering`](Self::covering), of what was added by [`insert_shared`](Self::insert_shared).
    pub fn covering_shared(&self, group: &str, filter: &str, who: &Who<'_>) -> Option<T> {
        least(Question::Covering, who, |search| self.root.enter_group(group, filter, search))
    }

    /// As [`overlapping`](Self::overlapping), of what was added by [`insert_shared`](Self::insert_shared).
    pub fn overlapping_shared(&self, group: &str, filter: &str, who: &Who<'_>) -> Option<T> {
        any(who, |search| self.root.enter_group(group, filter, search))
    }
}

/// The least of the values that are found.
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

/// The first overlapping value that is found; the search ends there.
fn any<T: Copy>(who: &Who<'_>, walk: impl FnOnce(&mut Search<'_, T>) -> ControlFlow<()>) -> Option<T> {
    let mut first = None;
    let mut found = |value: T| {
        first = Some(value);
        ControlFlow::Break(())
    };
    let _ = walk(&mut Search { question: Question::Overlapping, who, found: &mut found });
    first
}

impl<T: Copy> Node<T> {
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

    /// Searches for a filter from its first level on.
    fn enter(&self, filter: &str, search: &mut Search<'_, T>) -> ControlFlow<()> {
        let levels: Vec<&str> = filter.split('/').collect();
        // A wildcard at the beginning is not meant for `$SYS` and its like [MQTT-4.7.2-1].
        if !filter.starts_with('$') {
            search.report(&self.rest)?;
        }
        // As every topic has a first level, `#` means the same as `+/#`.
        let (first, behind) = match levels[..] {
            ["#"] => ("+", &levels[..]),
            _ => (levels[0], &levels[1..]),
        };
        self.children(first, true, behind, search)
    }

    /// Searches for the filter of a shared subscription; the levels of this node are groups.
    fn enter_group(&self, group: &str, filter: &str, search: &mut Search<'_, T>) -> ControlFlow<()> {
        if let Some(node) = self.literals.get(group) {
            node.enter(filter, search)?;
        }
        let who = search.who;
        let mut others = self.others.iter().filter(|(level, _)| level.matches(group, who));
        others.try_for_each(|(_, node)| node.enter(filter, search))
    }

    /// Searches behind the first level.
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

    /// Goes on behind each child that a level of the filter leads to. Of first levels, a wildcard does not mean what
    /// begins with `$`.
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
