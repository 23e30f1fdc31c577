//! Export to mosquitto's ACL file.

use std::collections::BTreeSet;

use super::{Draft, Export, names_client_id, written};
use crate::rule::{Effect, Rule, RuleAccess};
use crate::table::Table;

const HEADING: &str = "# Access rules for mosquitto: acl_file THIS FILE, with per_listener_settings false.\n";

/// Exports `topic` lines for each user, with the rules of its roles, and `pattern` lines for everyone.
///
/// mosquitto supports `%c` only in lines for everyone. A rule that allows reading topics with the client's own id becomes
/// such a line. A rule that allows writing does not, because every client could then write there: it is written for the
/// client ids that the user's record names in full.
pub(super) fn export(table: &Table) -> Export {
    let mut draft = Draft::default();
    draft.leave_out("mosquitto does not reserve client ids: anybody may connect with any".to_owned());
    draft.leave_out("mosquitto takes every subscription, and looks at its rules when it delivers".to_owned());
    let mut patterns = BTreeSet::new();
    for rule in table.rules_of(&table.nobody) {
        own_line(&mut draft, &mut patterns, table, None, rule);
    }
    for (user, rules) in table.rules_by_user() {
        if !rules.is_empty() {
            draft.line(&format!("\nuser {user}"));
        }
        for rule in rules {
            own_line(&mut draft, &mut patterns, table, Some(user), rule);
        }
    }
    let everyone = table.everyone.rules().iter().filter(|rule| draft.takes(rule, "mosquitto"));
    let everyone: Vec<_> = everyone
        .filter_map(|rule| Some(format!("pattern {} {}", access(rule), placeholders(rule)?)))
        .collect();
    draft.line("");
    for line in everyone.iter().chain(&patterns) {
        draft.line(line);
    }
    draft.finish(HEADING)
}

/// Adds a line for one user, or for clients that do not log in; or a pattern instead.
fn own_line(
    draft: &mut Draft,
    patterns: &mut BTreeSet<String>,
    table: &Table,
    user: Option<&str>,
    rule: &Rule,
) {
    if !draft.takes(rule, "mosquitto") {
        return;
    }
    if !names_client_id(rule) {
        // Without a user name, a rule with %u applies to no client.
        if let Some(filter) = written(rule, user, None) {
            draft.line(&format!("topic {} {filter}", access(rule)));
        }
        return;
    }
    let holder = user.map_or_else(|| "clients that do not log in".to_owned(), |user| format!("user {user}"));
    let source = rule.source();
    if rule.effect() == Effect::Allow && rule.access() == RuleAccess::Read {
        draft.leave_out(format!(
            "`{rule}` ({source}): mosquitto has %c only for everyone; every client may read this with its client id"
        ));
        patterns.extend(placeholders(rule).map(|filter| format!("pattern read {filter}")));
        return;
    }
    draft.leave_out(format!(
        "`{rule}` ({source}) of {holder}: mosquitto has %c only for everyone; each of its clients may do this at the \
         client ids that client_ids names in full, and none at others"
    ));
    for id in
        table.client_ids.of_user(user.unwrap_or_default()).iter().filter_map(|pattern| pattern.as_exact())
    {
        if let Some(filter) = written(rule, user, Some(id)) {
            draft.line(&format!("topic {} {filter}", access(rule)));
        }
    }
}

fn placeholders(rule: &Rule) -> Option<String> {
    written(rule, Some("%u"), Some("%c"))
}

fn access(rule: &Rule) -> &'static str {
    match (rule.effect(), rule.access()) {
        (Effect::Deny, _) => "deny",
        (Effect::Allow, RuleAccess::Read) => "read",
        (Effect::Allow, RuleAccess::Write | RuleAccess::Reply) => "write",
        (Effect::Allow, RuleAccess::ReadWrite) => "readwrite",
    }
}
