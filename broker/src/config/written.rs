//! Keys of a configuration file as written, compared to report what a reload changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use toml::{Table, Value};

use super::hidden::HIDDEN;
use crate::live_limits::RESTART_KEYS;

/// Maximum number of characters of a displayed value.
const MAX_DISPLAYED_CHARS: usize = 120;
/// Keys that a reload applies, besides those of `[limits]`.
const RELOADABLE_KEYS: [&str; 7] =
    ["acl_file", "anonymous", "anonymous_roles", "hardened", "password_file", "roles", "users"];
/// Keys that identify the entries of an array of tables.
const IDENTIFYING_KEYS: [&str; 4] = ["name", "filter", "address", "socket"];

/// Key of the configuration whose value has changed. Displayed as `KEY: OLD -> NEW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Key, such as `limits.connections` or `users[ada].roles`; for a file that the configuration names, `contents of
    /// acl_file`.
    pub key: String,
    /// Earlier value; `None` if the key was not in the file, or if its values are not displayed.
    pub old: Option<String>,
    /// New value; `None` if the key is no longer in the file, or if its values are not displayed.
    pub new: Option<String>,
}

impl Change {
    /// Creates a change without displayed values.
    pub(crate) fn hidden(key: impl Into<String>) -> Self {
        Self { key: key.into(), old: None, new: None }
    }

    /// Checks whether a reload applies changes of this key.
    pub(crate) fn is_applied(&self) -> bool {
        if let Some(limit) = self.key.strip_prefix("limits.") {
            return !RESTART_KEYS.contains(&limit);
        }
        let key = self.key.strip_prefix("contents of ").unwrap_or(&self.key);
        let first = key.split(['.', '[']).next().unwrap_or_default();
        RELOADABLE_KEYS.contains(&first)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new } = self;
        let or_default = |value: &Option<String>| value.clone().unwrap_or_else(|| "default".to_owned());
        match (old, new) {
            (None, None) => write!(f, "{key}: changed"),
            (None, Some(new)) if key.ends_with(']') => write!(f, "{key}: added, {new}"),
            (Some(_), None) if key.ends_with(']') => write!(f, "{key}: removed"),
            _ => write!(f, "{key}: {} -> {}", or_default(old), or_default(new)),
        }
    }
}

/// Keys of one file, and digests of the files that it names.
#[derive(Clone, Debug, Default)]
pub(super) struct WrittenKeys {
    table: Table,
    contents: BTreeMap<&'static str, Option<u64>>,
}

impl WrittenKeys {
    /// Reads the keys of a valid configuration; relative paths in it start in the folder of `file`.
    pub(super) fn of(text: &str, file: &Path) -> Self {
        let table: Table = toml::from_str(text).unwrap_or_default();
        let digest = |key: &'static str| {
            let named = table.get(key)?.as_str()?;
            let path = file.parent().unwrap_or(Path::new("")).join(named);
            let digest = std::fs::read(path).ok().map(|bytes| {
                let mut hasher = DefaultHasher::new();
                bytes.hash(&mut hasher);
                hasher.finish()
            });
            Some((key, digest))
        };
        // The password file is not among them: its changes are reported by user.
        let contents = ["acl_file"].into_iter().filter_map(digest).collect();
        Self { table, contents }
    }

    /// Returns the changes from these keys to others.
    pub(super) fn changes_to(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        compare_tables("", &self.table, &new.table, &mut changes);
        for (key, digest) in &new.contents {
            let named = |keys: &Self| keys.table.get(*key).cloned();
            if named(self) == named(new) && self.contents.get(key) != Some(digest) {
                changes.push(Change::hidden(format!("contents of {key}")));
            }
        }
        changes
    }
}

fn compare_tables(prefix: &str, old: &Table, new: &Table, changes: &mut Vec<Change>) {
    let (none, nothing) = (Table::new(), Vec::new());
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let (was, is) = (old.get(key), new.get(key));
        if was == is {
            continue;
        }
        let are = |check: fn(&Value) -> bool| was.is_none_or(check) && is.is_none_or(check);
        if are(Value::is_table) {
            let table = |value: Option<&Value>| value.and_then(Value::as_table).cloned();
            let (was, is) = (table(was).unwrap_or_else(|| none.clone()), table(is).unwrap_or_default());
            compare_tables(&path, &was, &is, changes);
        } else if are(is_tables) {
            let entries = |value: Option<&Value>| value.and_then(Value::as_array).unwrap_or(&nothing).clone();
            compare_entries(&path, &entries(was), &entries(is), changes);
        } else if key == "password" {
            changes.push(Change::hidden(path));
        } else {
            changes.push(Change { key: path, old: was.map(shown), new: is.map(shown) });
        }
    }
}

/// Checks whether a value is an array of tables, such as `[[users]]`.
fn is_tables(value: &Value) -> bool {
    value.as_array().is_some_and(|entries| !entries.is_empty() && entries.iter().all(Value::is_table))
}

fn compare_entries(path: &str, old: &[Value], new: &[Value], changes: &mut Vec<Change>) {
    let (old, new) = (labelled(old), labelled(new));
    let labels: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for label in labels {
        let key = format!("{path}[{label}]");
        match (old.get(label), new.get(label)) {
            (Some(was), Some(is)) => compare_tables(&key, was, is, changes),
            (was, is) => {
                let shown = |table: Option<&Table>| table.map(|table| cut(shown_table(table)));
                changes.push(Change { key, old: shown(was.copied()), new: shown(is.copied()) });
            }
        }
    }
}

/// Returns the tables of an array by the value of their identifying key, or without one by their position, starting at
/// 1.
fn labelled(entries: &[Value]) -> BTreeMap<String, &Table> {
    let mut tables = BTreeMap::new();
    for (index, table) in entries.iter().filter_map(Value::as_table).enumerate() {
        let named = IDENTIFYING_KEYS.iter().find_map(|key| table.get(*key)?.as_str());
        let place = (index + 1).to_string();
        let label = named.filter(|name| !tables.contains_key(*name)).map_or(place, str::to_owned);
        tables.insert(label, table);
    }
    tables
}

fn shown(value: &Value) -> String {
    cut(shown_whole(value))
}

fn shown_whole(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(is) => is.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(shown_whole).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Table(table) => shown_table(table),
    }
}

fn shown_table(table: &Table) -> String {
    let shown = |(key, value): (&String, &Value)| match key.as_str() {
        "password" => format!("{key} = {HIDDEN}"),
        _ => format!("{key} = {}", shown_whole(value)),
    };
    let keys: Vec<String> = table.iter().map(shown).collect();
    format!("{{ {} }}", keys.join(", "))
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_DISPLAYED_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(old: &str, new: &str) -> Vec<String> {
        let file = Path::new("broker.toml");
        let changes = WrittenKeys::of(old, file).changes_to(&WrittenKeys::of(new, file));
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_changed_key_is_reported_with_both_values() {
        let old = "threads = 1\n[limits]\nconnections = 5\nsessions = 7\n[[queues]]\nfilter = 'a/#'\nfull = 'drop'\n";
        let new = "listen = ['127.0.0.1:0']\n[limits]\nconnections = 6\n[[queues]]\nfilter = 'a/#'\nfull = 'refuse'\n";
        assert_eq!(
            changes(old, new),
            [
                "limits.connections: 5 -> 6",
                "limits.sessions: 7 -> default",
                "listen: default -> [\"127.0.0.1:0\"]",
                "queues[a/#].full: \"drop\" -> \"refuse\"",
                "threads: 1 -> default",
            ]
        );
        assert_eq!(changes(old, old), [""; 0]);
    }

    #[test]
    fn entries_are_reported_by_name_and_without_passwords() {
        let old = "[[users]]\nname = 'ada'\npassword = 'secret one'\n[[users]]\nname = 'bob'\npassword = 'secret'\n";
        let new = "[[users]]\nname = 'cleo'\npassword = 'secret'\nroles = ['node']\n[[users]]\nname = 'ada'\npassword = 'secret two'\n";
        let told = changes(old, new);
        assert_eq!(
            told,
            [
                "users[ada].password: changed",
                "users[bob]: removed",
                "users[cleo]: added, { name = \"cleo\", password = …, roles = [\"node\"] }",
            ]
        );
        assert!(changes("", new).iter().all(|told| !told.contains("secret")));
    }

    #[test]
    fn a_changed_acl_file_is_reported_by_its_contents() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, acl) = (folder.path().join("broker.toml"), folder.path().join("acl.conf"));
        let read = |text: &str| {
            std::fs::write(&acl, text).expect("written");
            WrittenKeys::of("acl_file = 'acl.conf'", &file)
        };
        let (one, other) = (read("topic read a"), read("topic read b"));
        assert_eq!(one.changes_to(&other), [Change::hidden("contents of acl_file")]);
        assert_eq!(one.changes_to(&read("topic read a")), []);
        assert_eq!(
            WrittenKeys::default().changes_to(&one)[0].to_string(),
            "acl_file: default -> \"acl.conf\""
        );
    }

    #[test]
    fn keys_of_memory_threads_and_listeners_need_a_restart() {
        let applied = |key: &str| Change::hidden(key).is_applied();
        for key in ["users[ada]", "roles[lab].call", "contents of acl_file", "limits.connections", "hardened"]
        {
            assert!(applied(key), "{key}");
        }
        for key in
            ["listen", "listeners[0.0.0.0:8883].users", "limits.memory_bytes", "threads", "http.listen"]
        {
            assert!(!applied(key), "{key}");
        }
    }

    /// Each key of `[limits]` is either replaced by a reload or listed as needing a restart.
    #[test]
    fn the_keys_that_need_a_restart_are_those_that_keep_their_value() {
        let running = crate::config::Limits::default();
        let example = include_str!("../../../config/broker.toml");
        let (_, limits) = example.split_once("\n[limits]").expect("it has them");
        let mut seen = 0;
        for line in limits.lines().take_while(|line| !line.starts_with("[[") && !line.starts_with("#[[")) {
            let Some((key, _)) = line.trim_start_matches('#').split_once(" = ") else { continue };
            let value = match key {
                "queue_full" => "'refuse'",
                "queue_drops" => "'oldest'",
                _ => "300",
            };
            let text = format!("[limits]\n{key} = {value}");
            let Ok(read) = crate::Config::from_toml(&text, Path::new("a.toml")) else { continue };
            seen += 1;
            let reloaded = crate::live_limits::reloaded(&read.limits, &running);
            assert_eq!(reloaded == running, RESTART_KEYS.contains(&key), "{key}");
        }
        assert!(seen >= 40, "{seen} keys");
    }
}
