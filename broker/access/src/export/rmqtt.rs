//! Export to RMQTT's rmqtt-acl.toml.

use std::fmt::Write as _;

use super::{Draft, Export, written};
use crate::rule::{Effect, Rule, RuleAccess};
use crate::table::Table;

const HEADING: &str = "# Access rules for RMQTT: the file rmqtt-acl.toml of its plugin rmqtt-acl.\n";

/// Exports one list, in which the first entry that matches decides: for each user the rules that deny and then those that
/// allow, then the same for everyone, and at the end an entry that denies everything else.
pub(super) fn export(table: &Table) -> Export {
    let mut draft = Draft::default();
    draft.leave_out("RMQTT does not reserve client ids: anybody may connect with any".to_owned());
    draft.leave_out("RMQTT looks at subscriptions alone, and never at what it delivers".to_owned());
    draft.leave_out(
        "this list decides who may connect, too: it lets everybody in whom RMQTT knows".to_owned(),
    );
    draft.line("rules = [\n    [\"allow\", \"all\", \"connect\"],");
    for (user, rules) in table.rules_by_user() {
        let who = format!("{{ user = {} }}", quoted(user));
        entries(&mut draft, &who, &rules);
    }
    for rule in table.rules_of(&table.nobody) {
        draft.leave_out(format!(
            "`{rule}` ({}): RMQTT cannot say that a client has not logged in; it is left out",
            rule.source()
        ));
    }
    entries(&mut draft, "\"all\"", &table.everyone.rules().iter().collect::<Vec<_>>());
    draft.line("    [\"deny\", \"all\"],\n]");
    draft.finish(HEADING)
}

fn entries(draft: &mut Draft, who: &str, rules: &[&Rule]) {
    for effect in [Effect::Deny, Effect::Allow] {
        for rule in rules.iter().filter(|rule| rule.effect() == effect) {
            if !draft.takes(rule, "RMQTT") {
                continue;
            }
            let Some(filter) = written(rule, Some("%u"), Some("%c")) else { continue };
            let effect = if effect == Effect::Deny { "deny" } else { "allow" };
            let access = match rule.access() {
                RuleAccess::Read => "subscribe",
                RuleAccess::Write | RuleAccess::Reply => "publish",
                RuleAccess::ReadWrite => "pubsub",
            };
            draft.line(&format!("    [\"{effect}\", {who}, \"{access}\", [{}]],", quoted(&filter)));
        }
    }
}

/// Returns a text as a basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
