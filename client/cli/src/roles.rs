//! Roles of the broker's configuration in the terms of objects.

use rantai_access::Rule;
use rantai_broker::{RoleMistake, RoleSyntax};
use rantai_client::wire::name::Root;
use rantai_client::wire::role::BusRole;
use serde::Deserialize;

/// Table of `[[roles]]` in the terms of objects.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Role(BusRole);

impl RoleSyntax for Role {
    const DEFAULT: &'static [&'static str] = &["caller"];

    fn ready_made() -> Vec<Self> {
        BusRole::ready_made().map(Self).into()
    }

    fn name(&self) -> &str {
        &self.0.name
    }

    fn rules(&self, root: &str) -> Result<Vec<Rule>, RoleMistake> {
        let whole = |message: String| RoleMistake { entry: String::new(), message };
        let root = Root::new(root).map_err(|error| whole(error.to_string()))?;
        let rules = self.0.rules(&root);
        rules.map_err(|error| RoleMistake { entry: error.entry().to_owned(), message: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rantai_access::{Action, Who};
    use rantai_broker::Config;

    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        Config::from_toml_with::<Role>(text, Path::new("broker.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn roles_are_parsed_with_objects_and_methods() {
        let text = "[[users]]\nname = 'ada'\n[[users]]\nname = 'lab'\nroles = ['lab']\n\
                    [[roles]]\nname = 'lab'\ncall = ['calculator.add']\n";
        let table = read(text).expect("a configuration").access.expect("rules");
        let may = |user, topic| {
            let who = Who { user: Some(user), client_id: "1" };
            table.decide(&who, Action::Publish(topic)).is_allowed()
        };
        assert!(may("ada", "rantai/call/calculator/div") && may("lab", "rantai/call/calculator/add"));
        assert!(!may("lab", "rantai/call/calculator/div") && !may("ada", "elsewhere"));
    }

    #[test]
    fn error_in_a_role_has_its_position() {
        let users = "[[users]]\nname = 'ada'\n";
        for (role, marked, advice) in [
            (
                "[[roles]]\nname = 'lab'\ncall = ['echo.*', 'calculator']",
                "calculator",
                "names no method of an object",
            ),
            ("[[roles]]\nname = 'lab'\ncal = []", "cal", "unknown field `cal`"),
        ] {
            let error = read(&format!("{users}{role}")).expect_err(role);
            assert!(error.contains(advice), "{error}");
            let lines: Vec<_> = error.lines().collect();
            let (source, caret) = (lines[lines.len() - 2], lines[lines.len() - 1]);
            let (at, width) = (caret.find('^').expect("a caret"), caret.matches('^').count());
            assert_eq!(&source[at..at + width], marked, "{error}");
        }
    }
}
