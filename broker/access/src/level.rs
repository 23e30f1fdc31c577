//! One level of a rule's filter.

use crate::who::Who;

/// What a rule asks of one level of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Exactly this text.
    Literal(Box<str>),
    /// Any text that begins so: `example.*`.
    Prefix(Box<str>),
    /// Any text: `+`.
    Any,
    /// Text with `%u` and `%c` in it.
    Template(Box<[Piece]>),
}

/// A part of a level with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(Box<str>),
    /// `%u`.
    User,
    /// `%c`.
    ClientId,
}

impl Level {
    /// A level with its placeholders, or a literal where it has none.
    pub(crate) fn template(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut begin = 0;
        while let Some(at) = rest[begin..].find('%').map(|at| begin + at) {
            let piece = match rest.as_bytes().get(at + 1) {
                Some(b'u') => Piece::User,
                Some(b'c') => Piece::ClientId,
                _ => {
                    begin = at + 1;
                    continue;
                }
            };
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].into()));
            }
            pieces.push(piece);
            (rest, begin) = (&rest[at + 2..], 0);
        }
        if pieces.is_empty() {
            return Self::Literal(text.into());
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Self::Template(pieces.into())
    }

    /// Whether a level of a topic, which is no wildcard, is one that the rule means.
    pub(crate) fn matches(&self, level: &str, who: &Who<'_>) -> bool {
        match self {
            Self::Literal(text) => **text == *level,
            Self::Prefix(text) => level.starts_with(&**text),
            Self::Any => true,
            Self::Template(pieces) => {
                let left = pieces.iter().try_fold(level, |left, piece| left.strip_prefix(piece.text(who)?));
                left == Some("")
            }
        }
    }

    /// Whether any text matches: not where the client has no value for a placeholder.
    pub(crate) fn can_match(&self, who: &Who<'_>) -> bool {
        match self {
            Self::Template(pieces) => pieces.iter().all(|piece| piece.text(who).is_some()),
            _ => true,
        }
    }

    /// Whether it may match a level that begins with `$` as the first of a topic (MQTT 5, 4.7.2).
    pub(crate) fn begins_with_dollar(&self) -> bool {
        match self {
            Self::Literal(text) | Self::Prefix(text) => text.starts_with('$'),
            Self::Any => false,
            Self::Template(pieces) => {
                matches!(pieces.first(), Some(Piece::Text(text)) if text.starts_with('$'))
            }
        }
    }

    /// What it may mean for anybody: any text that begins as the level does before its first placeholder.
    pub(crate) fn for_anybody(&self) -> Self {
        match self {
            Self::Template(pieces) => match pieces.first() {
                Some(Piece::Text(before)) => Self::Prefix(before.clone()),
                _ => Self::Any,
            },
            other => other.clone(),
        }
    }
}

impl Piece {
    /// What stands here for a client. `None` where it has no value, or one that would be more than a part of a level.
    fn text<'a>(&'a self, who: &Who<'a>) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::User => who.user.filter(|value| is_level_text(value)),
            Self::ClientId => Some(who.client_id).filter(|value| is_level_text(value)),
        }
    }
}

/// Whether a user name or client id may stand in a topic: a `/`, `+` or `#` would let it reach what is not its own.
fn is_level_text(value: &str) -> bool {
    !value.contains(['/', '+', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_stand_for_the_client_and_never_for_more_than_a_level() {
        let ada = Who { user: Some("ada"), client_id: "ada--1" };
        let nobody = Who { user: None, client_id: "x" };
        for (level, text, who, expected) in [
            ("%c", "ada--1", ada, true),
            ("%c", "ada--2", ada, false),
            ("%u", "ada", ada, true),
            ("%u", "", nobody, false),
            ("a%u-%cz", "aada-ada--1z", ada, true),
            ("%u%u", "adaada", ada, true),
            ("100%", "100%", ada, true),
            ("%%c", "%ada--1", ada, true),
            ("%é%u", "%éada", ada, true),
            ("%c", "a/b", Who { user: None, client_id: "a/b" }, false),
            ("%c", "+", Who { user: None, client_id: "+" }, false),
        ] {
            assert_eq!(Level::template(level).matches(text, &who), expected, "{level} {text}");
        }
        assert_eq!(Level::template("a.%u").for_anybody(), Level::Prefix("a.".into()));
        assert_eq!(Level::template("%u.a").for_anybody(), Level::Any);
        assert!(!Level::template("%u").can_match(&nobody) && Level::template("%c").can_match(&nobody));
    }
}
