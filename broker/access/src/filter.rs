//! Topic filters of rules.

use std::fmt;

use rantai_topics::is_filter;

use crate::level::Level;

/// Syntax of a rule's filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Plain MQTT filter, as in a `topic` line of mosquitto.
    Topic,
    /// MQTT filter with the placeholders `%u` and `%c`, as in a `pattern` line of mosquitto.
    Pattern,
    /// MQTT filter with `%u`, `%c`, and levels that end in `*`: `example.*` matches each level that begins with
    /// `example.`, and `*` is the same as `+`.
    Extended,
}

/// Topic filter of a rule: an MQTT filter that may contain placeholders and prefixes, and may be limited to the members
/// of a shared group (`$share/GROUP/FILTER`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFilter {
    text: Box<str>,
    pub(crate) group: Option<Level>,
    pub(crate) levels: Box<[Level]>,
    /// Whether the filter ends in `#`.
    pub(crate) rest: bool,
}

/// Error of parsing a rule's filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// Wildcards at places where MQTT does not allow them, or an empty filter.
    #[error("{0:?} is no topic filter: + and # stand for whole levels, and # comes last")]
    NoFilter(String),
    /// `$share/` without a group or a filter.
    #[error("{0:?} is no shared subscription: write $share/GROUP/FILTER")]
    NoShare(String),
    /// A `*` that does not end a level, or in a level with placeholders.
    #[error("{0:?} has a * in the middle of a level: write it at the end, and without %u and %c before it")]
    Star(String),
}

impl RuleFilter {
    /// Parses a filter.
    ///
    /// # Errors
    ///
    /// The text is not a filter in this syntax.
    pub fn parse(text: &str, syntax: Syntax) -> Result<Self, FilterError> {
        let (group, filter) = match text.strip_prefix("$share/") {
            None => (None, text),
            Some(rest) => {
                let no_share = || FilterError::NoShare(text.to_owned());
                let (group, filter) = rest.split_once('/').ok_or_else(no_share)?;
                if group.is_empty() || filter.is_empty() || group == "#" || !is_filter(group) {
                    return Err(no_share());
                }
                (Some(read_level(group, syntax, text)?), filter)
            }
        };
        if !is_filter(filter) {
            return Err(FilterError::NoFilter(text.to_owned()));
        }
        let (filter, rest) = match filter.strip_suffix("#") {
            // Also strips the slash before `#`, if there is one.
            Some(before) => (before.strip_suffix('/'), true),
            None => (Some(filter), false),
        };
        let levels = filter.iter().flat_map(|filter| filter.split('/'));
        let levels = levels.map(|level| read_level(level, syntax, text)).collect::<Result<_, _>>()?;
        Ok(Self { text: text.into(), group, levels, rest })
    }

    /// Returns the text that was parsed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether the rule applies to the members of a shared group.
    pub fn is_shared(&self) -> bool {
        self.group.is_some()
    }

    /// Returns the filter without `$share/GROUP/`.
    pub(crate) fn unshared(&self) -> &str {
        match self.group {
            None => &self.text,
            Some(_) => self.text.splitn(3, '/').nth(2).expect("a shared filter has three parts"),
        }
    }

    /// Returns whether a level matches by prefix (`example.*`), which other brokers cannot express.
    pub(crate) fn has_prefix(&self) -> bool {
        self.all_levels().any(|level| matches!(level, Level::Prefix(_)))
    }

    pub(crate) fn all_levels(&self) -> impl Iterator<Item = &Level> {
        self.group.iter().chain(&self.levels)
    }

    /// Returns the filter with each placeholder replaced by what it can match for any client.
    pub(crate) fn for_anybody(&self) -> Self {
        Self {
            text: self.text.clone(),
            group: self.group.as_ref().map(Level::for_anybody),
            levels: self.levels.iter().map(Level::for_anybody).collect(),
            rest: self.rest,
        }
    }
}

impl fmt::Display for RuleFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn read_level(level: &str, syntax: Syntax, whole: &str) -> Result<Level, FilterError> {
    match (level, syntax) {
        ("+", _) | ("*", Syntax::Extended) => Ok(Level::Any),
        (level, Syntax::Topic) => Ok(Level::Literal(level.into())),
        (level, Syntax::Extended) if level.contains('*') => {
            let before = level.strip_suffix('*').filter(|before| !before.contains('*'));
            match before.map(Level::template) {
                Some(Level::Literal(text)) => Ok(Level::Prefix(text)),
                _ => Err(FilterError::Star(whole.to_owned())),
            }
        }
        (level, _) => Ok(Level::template(level)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parsed_by_their_syntax() {
        let level = |text, syntax| RuleFilter::parse(text, syntax).expect("a filter").levels[0].clone();
        assert_eq!(level("a*", Syntax::Topic), Level::Literal("a*".into()));
        assert_eq!(level("a*", Syntax::Pattern), Level::Literal("a*".into()));
        assert_eq!(level("a*", Syntax::Extended), Level::Prefix("a".into()));
        assert_eq!(level("*", Syntax::Extended), Level::Any);
        assert_eq!(level("%c", Syntax::Topic), Level::Literal("%c".into()));
        assert!(matches!(level("%c", Syntax::Pattern), Level::Template(_)));
    }

    #[test]
    fn shared_filters_are_unwrapped() {
        let shared = RuleFilter::parse("$share/g/a/#", Syntax::Extended).expect("a filter");
        assert!(shared.is_shared() && shared.rest && shared.levels.len() == 1);
        assert_eq!(shared.unshared(), "a/#");
        let all = RuleFilter::parse("$share/+/#", Syntax::Extended).expect("a filter");
        assert!(all.group == Some(Level::Any) && all.rest && all.levels.is_empty());
        let empty = RuleFilter::parse("/#", Syntax::Topic).expect("a filter");
        assert!(empty.rest && empty.levels.len() == 1);
    }

    #[test]
    fn invalid_filters_are_refused() {
        for bad in [
            "",
            "a/#/b",
            "a+",
            "$share/g",
            "$share//a",
            "$share/g/",
            "$share/#/a",
            "a*b",
            "%u*",
            "$share/a*b/c",
        ] {
            assert!(RuleFilter::parse(bad, Syntax::Extended).is_err(), "{bad}");
        }
    }
}
