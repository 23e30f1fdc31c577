//! Checks the examples of docs/access.md, read from the document.

use rantai_access::{AclFile, Action, Table, UserRecord, Who};
use rantai_client::wire::name::Root;
use rantai_client::wire::role::BusRole;
use serde::Deserialize;

const GUIDE: &str = include_str!("../../docs/access.md");

#[derive(Deserialize)]
struct Example {
    roles: Vec<BusRole>,
    users: Vec<ExampleUser>,
}

#[derive(Deserialize)]
struct ExampleUser {
    name: String,
    roles: Vec<String>,
}

/// Returns the fenced block of this kind.
fn block(kind: &str) -> &'static str {
    let (_, behind) = GUIDE.split_once(&format!("```{kind}\n")).expect("a block");
    behind.split_once("```").expect("its end").0
}

fn table() -> Table {
    let example: Example = toml::from_str(block("toml")).expect("TOML");
    let mut table = Table::builder().file(AclFile::parse("acl.conf", block("acl")).expect("a file"));
    for role in BusRole::ready_made().into_iter().chain(example.roles) {
        table = table.role(&role.name, role.rules(&Root::default()).expect("rules"));
    }
    for user in example.users {
        table = table.user(UserRecord::new(&user.name).expect("a name").roles(user.roles));
    }
    table.build().expect("a table")
}

#[test]
fn the_answers_of_the_example_are_those_of_the_rules() {
    let table = table();
    let (_, example) = GUIDE.split_once("What comes of it:").expect("the table");
    let rows = example
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [user, client_id, verb, topic, answer] = cells[..] else { panic!("{row}") };
        let who = Who { user: Some(user).filter(|user| !user.is_empty()), client_id };
        let action = match verb {
            "publish" => Action::Publish(topic),
            "subscribe" => Action::Subscribe(topic),
            "read" => Action::Deliver(topic),
            other => panic!("{other}"),
        };
        let text = table.explain(&who, action);
        assert!(text.starts_with(answer), "{row}\n{text}");
        count += 1;
    }
    assert_eq!(count, 12);
}
