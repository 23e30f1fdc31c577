//! Single level of a rule's filter.

use crate::who::Who;

/// Pattern for one level of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Exact text.
    Literal(Box<str>),
    /// Prefix of the level, such as `example.*`.
    Prefix(Box<str>),
    /// Any text, written as `+`.
    Any,
    /// Text that contains `%u` or `%c`.
    Template(Box<[Piece]>),
}

/// Part of a level with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(Box<str>),
    /// User name, written as `%u`.
    User,
    /// Client id, written as `%c`.
    ClientId,
}

impl Level {
    /// Parses a level with placeholders; returns a literal if it has none.
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

    /// Returns whether the level of a topic matches. `level` must not be a wildcard.
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

    /// Returns whether any text can match: false if the client has no value for a placeholder.
    pub(crate) fn can_match(&self, who: &Who<'_>) -> bool {
        match self {
            Self::Template(pieces) => pieces.iter().all(|piece| piece.text(who).is_some()),
            _ => true,
        }
    }

    /// Returns whether the level may match a first level of a topic that begins with `$` (MQTT 5, 4.7.2).
    pub(crate) fn begins_with_dollar(&self) -> bool {
        match self {
            Self::Literal(text) | Self::Prefix(text) => text.starts_with('$'),
            Self::Any => false,
            Self::Template(pieces) => {
                matches!(pieces.first(), Some(Piece::Text(text)) if text.starts_with('$'))
            }
        }
    }

    /// Returns a level that matches the values of all clients: any text with the level's prefix before its first placeholder.
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
    /// Returns the text for a client. `None` if the client has no value, or one that is not valid within a level.
    fn text<'a>(&'a self, who: &Who<'a>) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::User => who.user.filter(|value| is_level_text(value)),
            Self::ClientId => Some(who.client_id).filter(|value| is_level_text(value)),
        }
    }
}

/// Returns whether a user name or client id can be part of a level: with `/`, `+` or `#` it would match topics of others.
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
