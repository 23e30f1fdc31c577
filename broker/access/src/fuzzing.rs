//! Fuzzing of the ACL file parser: invariants for arbitrary bytes. Used by the fuzz target in `broker/fuzz` and by a
//! seeded test.

use std::fmt::Write as _;

use crate::mosquitto::{AclFile, Subject};
use crate::rule::Rule;
use crate::{Action, Table, Who};

/// Parses `bytes` as an ACL file, and decides by it. Neither step may panic; an error must name one of the lines, and the
/// rules must stay the same when they are written to a file and parsed again.
pub fn acl_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let file = match AclFile::parse("acl", &text) {
        Ok(file) => file,
        Err(error) => {
            let error = error.to_string();
            let line = error.strip_prefix("acl:").and_then(|rest| rest.split_once(':')?.0.parse().ok());
            assert!(line.is_some_and(|line: usize| (1..=text.lines().count()).contains(&line)), "{error}");
            return;
        }
    };
    let again = AclFile::parse("acl", &written(&file)).expect("a file that was read before");
    assert_eq!(meaning(&again), meaning(&file));
    decide(&file, &again);
}

/// Returns a file with the same rules in the same order.
fn written(file: &AclFile) -> String {
    let (mut text, mut current) = (String::new(), None);
    for (subject, rule) in file.rules() {
        if let Subject::User(user) = subject
            && current != Some(user)
        {
            current = Some(user);
            let _ = writeln!(text, "user {user}");
        }
        let keyword = if matches!(subject, Subject::Everyone) { "pattern" } else { "topic" };
        let filter = rule.filter().as_str();
        let access = access(rule);
        // After an access keyword, a filter cannot begin with a tab.
        let line = if filter.starts_with(char::is_whitespace) {
            filter.to_owned()
        } else {
            format!("{access} {filter}")
        };
        let _ = writeln!(text, "{keyword} {line}");
    }
    text
}

/// Returns the access keyword of a rule: `read` for `allow read a/b`, and `deny` for every rule that denies.
fn access(rule: &Rule) -> String {
    let text = rule.to_string();
    let mut words = text.split(' ');
    match words.next() {
        Some("deny") => "deny".to_owned(),
        _ => words.next().unwrap_or_default().to_owned(),
    }
}

/// Returns the rules without their sources.
fn meaning(file: &AclFile) -> Vec<(Subject, String)> {
    file.rules().iter().map(|(subject, rule)| (subject.clone(), rule.to_string())).collect()
}

/// Decides about publishing and subscribing to the filters, as users of the file and as a client without a user: both
/// files must give the same decisions.
fn decide(file: &AclFile, again: &AclFile) {
    let [table, again] = [file, again].map(|file| Table::builder().file(file.clone()).build());
    let (Ok(table), Ok(again)) = (table, again) else { return };
    let users = file.rules().iter().filter_map(|(subject, _)| match subject {
        Subject::User(user) => Some(Some(&**user)),
        Subject::Nobody | Subject::Everyone => None,
    });
    for user in users.take(4).chain([None]) {
        let who = Who { user, client_id: "c+1" };
        for (_, rule) in file.rules().iter().take(8) {
            let filter = rule.filter().as_str();
            let topic = filter.replace(['+', '#'], "a");
            for action in [Action::Publish(&topic), Action::Subscribe(filter)] {
                let is_allowed = table.decide(&who, action).is_allowed();
                assert_eq!(
                    is_allowed,
                    again.decide(&who, action).is_allowed(),
                    "{}",
                    table.explain(&who, action)
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    const PIECES: [&str; 26] = [
        "user",
        "topic",
        "pattern",
        "read",
        "write",
        "readwrite",
        "deny",
        " ",
        " ",
        " ",
        "\n",
        "\n",
        "\r\n",
        "\t",
        "#",
        "+",
        "/",
        "%u",
        "%c",
        "$share/g/",
        "$SYS",
        "ada",
        "a/b",
        "a/+/b",
        "é",
        "\u{b}",
    ];

    #[test]
    fn invariants_hold_for_acl_files_of_random_pieces_and_bytes() {
        let mut rng = Rng::with_seed(16);
        let mut read = 0;
        for _ in 0..40_000 {
            let mut text = String::new();
            for _ in 0..rng.usize(..6) {
                // Most lines begin with a valid keyword.
                let keyword = ["user ", "topic ", "topic read ", "pattern write ", ""][rng.usize(..5)];
                text.push_str(keyword);
                for _ in 0..rng.usize(..4) {
                    text.push_str(PIECES[rng.usize(..PIECES.len())]);
                }
                text.push('\n');
            }
            read += usize::from(AclFile::parse("acl", &text).is_ok_and(|file| !file.rules().is_empty()));
            let mut bytes = text.into_bytes();
            acl_file(&bytes);
            if !bytes.is_empty() {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
                acl_file(&bytes);
            }
        }
        assert!(read > 1_000, "only {read} files had rules");
    }
}
