//! Parser of mosquitto's ACL file, in the syntax of mosquitto 2.0.

use std::sync::Arc;

use crate::filter::{FilterError, RuleFilter, Syntax};
use crate::rule::{Effect, Rule, RuleAccess, RuleError, Source};

/// Clients that a rule of an ACL file applies to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A user: a `topic` line after `user NAME`.
    User(String),
    /// Clients that do not log in: a `topic` line before the first `user`.
    Nobody,
    /// Every client, after the client's own rules: a `pattern` line, at any place in the file.
    Everyone,
}

/// Rules of an ACL file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclFile {
    pub(crate) rules: Vec<(Subject, Rule)>,
}

/// Error of parsing an ACL file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: cannot read {text:?}")]
pub struct AclError {
    file: String,
    line: u32,
    text: String,
    #[source]
    problem: AclProblem,
}

/// Problem of one line of an ACL file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AclProblem {
    /// The line does not begin with a keyword of ACL files.
    #[error(
        "a line begins with user, topic or pattern and one space, or with # in its first column for a comment"
    )]
    Keyword,
    /// `user` without a name.
    #[error("the user name is missing; write `user NAME`")]
    UserName,
    /// `topic` or `pattern` without a filter.
    #[error("the topic filter is missing; write `{0} [read|write|readwrite|deny] FILTER`")]
    MissingFilter(&'static str),
    /// The word before the filter is not an access.
    #[error("{0:?} is no access; write read, write, readwrite or deny before a filter with a space in it")]
    Access(String),
    /// The filter is not valid.
    #[error(transparent)]
    Filter(FilterError),
    /// The rule is not valid.
    #[error(transparent)]
    Rule(RuleError),
}

impl AclFile {
    /// Parses the text of a file. `file` is its name in errors and explanations.
    ///
    /// # Errors
    ///
    /// A line is one that mosquitto would not accept either; the error names the first such line. A `$share/GROUP/FILTER`
    /// is a rule about the members of the group; mosquitto accepts it, but never applies it.
    pub fn parse(file: &str, text: &str) -> Result<Self, AclError> {
        let name: Arc<str> = file.into();
        let mut rules = Vec::new();
        let mut subject = Subject::Nobody;
        for (number, line) in (1..).zip(text.lines()) {
            let fail =
                |problem| AclError { file: file.to_owned(), line: number, text: line.to_owned(), problem };
            // A comment begins in the first column; `#` after white space is not a comment.
            if line.starts_with('#') {
                continue;
            }
            let Some((keyword, rest)) = first_word(line.trim_end_matches(is_space)) else { continue };
            let source = || Source::File { file: name.clone(), line: number };
            match keyword {
                "user" => match rest.trim_matches(is_space) {
                    "" => return Err(fail(AclProblem::UserName)),
                    name => subject = Subject::User(name.to_owned()),
                },
                "topic" => {
                    let rule = read_rule("topic", rest, Syntax::Topic, source()).map_err(fail)?;
                    rules.push((subject.clone(), rule));
                }
                "pattern" => {
                    let rule = read_rule("pattern", rest, Syntax::Pattern, source()).map_err(fail)?;
                    rules.push((Subject::Everyone, rule));
                }
                _ => return Err(fail(AclProblem::Keyword)),
            }
        }
        Ok(Self { rules })
    }

    /// Returns the rules in the order of the file, each with the clients that it applies to.
    pub fn rules(&self) -> &[(Subject, Rule)] {
        &self.rules
    }
}

fn read_rule(keyword: &'static str, rest: &str, syntax: Syntax, source: Source) -> Result<Rule, AclProblem> {
    let (first, rest) = first_word(rest).ok_or(AclProblem::MissingFilter(keyword))?;
    let (access, filter) = match rest.trim_matches(is_space) {
        "" => (None, first),
        filter => (Some(first), filter),
    };
    let (effect, access) = match access {
        None | Some("readwrite") => (Effect::Allow, RuleAccess::ReadWrite),
        Some("read") => (Effect::Allow, RuleAccess::Read),
        Some("write") => (Effect::Allow, RuleAccess::Write),
        Some("deny") => (Effect::Deny, RuleAccess::ReadWrite),
        Some(other) => return Err(AclProblem::Access(other.to_owned())),
    };
    let filter = RuleFilter::parse(filter, syntax).map_err(AclProblem::Filter)?;
    Rule::new(effect, access, filter, source).map_err(AclProblem::Rule)
}

/// Splits a text at the first space that follows a word. Other white space does not end a word.
fn first_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(' ');
    let word = text.split_once(' ').unwrap_or((text, ""));
    (!text.is_empty()).then_some(word)
}

/// Returns whether a character is white space in the C locale.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn rules_are_parsed_line_by_line() {
        let text = "# comment\ntopic read a/b\n\nuser ada\ntopic x y\nuser  ada  b \r\n  topic readwrite  c d \n\
                    pattern write %u/%c\ntopic deny d\n   \ntopic $share/g/jobs/#\n";
        let error = AclFile::parse("acl", text).expect_err("x is no access");
        assert_eq!(error.to_string(), "acl:5: cannot read \"topic x y\"");
        let file = AclFile::parse("acl", &text.replace("topic x y", "topic x")).expect("a file");
        let rules: Vec<_> = file
            .rules()
            .iter()
            .map(|(subject, rule)| (subject.clone(), rule.to_string(), rule.source().to_string()))
            .collect();
        let user = |name: &str| Subject::User(name.to_owned());
        let expected = [
            (Subject::Nobody, "allow read a/b", "acl:2"),
            (user("ada"), "allow readwrite x", "acl:5"),
            (user("ada  b"), "allow readwrite c d", "acl:7"),
            (Subject::Everyone, "allow write %u/%c", "acl:8"),
            (user("ada  b"), "deny readwrite d", "acl:9"),
            (user("ada  b"), "allow readwrite $share/g/jobs/#", "acl:11"),
        ];
        assert_eq!(rules, expected.map(|(subject, rule, at)| (subject, rule.to_owned(), at.to_owned())));
    }

    #[test]
    fn errors_say_where_and_what_to_write() {
        for (line, expected) in [
            ("user", "write `user NAME`"),
            ("topic", "write `topic [read|write|readwrite|deny] FILTER`"),
            ("pattern   ", "write `pattern [read|write|readwrite|deny] FILTER`"),
            ("topic read a/#/b", "\"a/#/b\" is no topic filter"),
            ("topic rw a", "\"rw\" is no access"),
            ("topics a", "a line begins with user, topic or pattern"),
            (" # no comment", "with # in its first column"),
            ("topic\tread a", "a line begins with"),
            ("topic write $share/g/a", "write `read` before it"),
            ("topic read $share/g", "write $share/GROUP/FILTER"),
        ] {
            let error = AclFile::parse("acl.conf", &format!("user ada\n{line}\n")).expect_err(line);
            assert!(error.to_string().starts_with("acl.conf:2: cannot read "), "{error}");
            let source = error.source().expect("a problem").to_string();
            assert!(source.contains(expected), "{line}: {source}");
        }
    }
}
