//! Export of tables to other brokers, with a list of what those brokers cannot express.

mod mosquitto;
mod rmqtt;

use std::fmt::Write as _;

use crate::level::{Level, Piece};
use crate::rule::{Effect, Rule, RuleAccess};
use crate::table::{Holder, Table};

/// Broker that a table is exported for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFor {
    /// mosquitto 2.0, as an `acl_file`.
    Mosquitto,
    /// RMQTT, as its rmqtt-acl.toml.
    Rmqtt,
}

/// Table exported for another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Contents of the file.
    pub text: String,
    /// Differences between the file and the table: one sentence each, the most general first.
    pub left_out: Vec<String>,
}

impl Table {
    /// Exports the table for another broker.
    ///
    /// If a rule cannot be expressed, the file allows less rather than more, and [`left_out`](Export::left_out) names the
    /// difference; it also names what the file allows beyond the table.
    pub fn export(&self, broker: ExportFor) -> Export {
        match broker {
            ExportFor::Mosquitto => mosquitto::export(self),
            ExportFor::Rmqtt => rmqtt::export(self),
        }
    }

    /// Returns the users, sorted by name, each with the rules of its own and of its roles.
    fn rules_by_user(&self) -> Vec<(&str, Vec<&Rule>)> {
        let mut users: Vec<_> =
            self.users.iter().map(|(name, holder)| (&**name, self.rules_of(holder))).collect();
        users.sort_unstable_by_key(|(name, _)| *name);
        users
    }

    fn rules_of<'a>(&'a self, holder: &'a Holder) -> Vec<&'a Rule> {
        let roles = holder.roles.iter().flat_map(|role| self.roles[*role].rules.rules());
        holder.own.rules().iter().chain(roles).collect()
    }
}

/// Export in progress: the text so far, and the differences found.
#[derive(Default)]
struct Draft {
    text: String,
    left_out: Vec<String>,
}

impl Draft {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Adds a sentence to `left_out`, unless it is already there.
    fn leave_out(&mut self, sentence: String) {
        if !self.left_out.contains(&sentence) {
            self.left_out.push(sentence);
        }
    }

    /// Returns whether a rule can be exported at all, and adds the differences to `left_out`.
    fn takes(&mut self, rule: &Rule, broker: &str) -> bool {
        let filter = rule.filter();
        if filter.has_prefix() {
            self.leave_out(format!(
                "`{rule}` ({}): {broker} cannot say that a level begins with something; name each one",
                rule.source()
            ));
            return false;
        }
        if filter.is_shared() && rule.effect() == Effect::Deny {
            self.leave_out(format!(
                "`{rule}` ({}): {broker} has no rules about shared groups",
                rule.source()
            ));
            return false;
        }
        if filter.is_shared() {
            self.leave_out(format!(
                "`{rule}` ({}): {broker} has no rules about shared groups; whoever may read {} may join any group on it",
                rule.source(),
                filter.unshared()
            ));
        }
        if rule.access() == RuleAccess::Reply {
            self.leave_out(format!(
                "`{rule}` ({}): {broker} knows no reply grants; it may write these topics at any time",
                rule.source()
            ));
        }
        true
    }

    fn finish(self, heading: &str) -> Export {
        let mut text = heading.to_owned();
        for sentence in &self.left_out {
            let _ = writeln!(text, "# Not as in the table: {}", sentence.replace(char::is_control, " "));
        }
        Export { text: text + &self.text, left_out: self.left_out }
    }
}

/// Returns the filter of a rule in the syntax of other brokers, with `user` and `client_id` in place of the placeholders;
/// `None` if a placeholder has no value, or if a level matches by prefix.
fn written(rule: &Rule, user: Option<&str>, client_id: Option<&str>) -> Option<String> {
    let filter = rule.filter();
    let level = |level: &Level| -> Option<String> {
        Some(match level {
            Level::Literal(text) => text.to_string(),
            Level::Any => "+".to_owned(),
            Level::Prefix(_) => return None,
            Level::Template(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    text += match piece {
                        Piece::Text(text) => text,
                        Piece::User => user?,
                        Piece::ClientId => client_id?,
                    };
                }
                text
            }
        })
    };
    let mut levels = filter.levels.iter().map(level).collect::<Option<Vec<_>>>()?;
    if filter.rest {
        levels.push("#".to_owned());
    }
    Some(levels.join("/"))
}

/// Returns whether a rule contains the placeholder `%c`.
fn names_client_id(rule: &Rule) -> bool {
    rule.filter()
        .all_levels()
        .any(|level| matches!(level, Level::Template(pieces) if pieces.contains(&Piece::ClientId)))
}
