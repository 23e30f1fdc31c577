//! Export for RMQTT: valid TOML, whose first matching entry decides as the table does.

use rantai_access::{AclFile, ExportFor, Table};

#[test]
fn denials_come_first_and_rules_that_cannot_be_exported_are_named() {
    let text = "topic read open/#\nuser a\"da\ntopic read a/#\ntopic deny a/b\ntopic write w\npattern c/%u\npattern deny d/%c\n\
                user bob\ntopic read $share/g/jobs\n";
    let table = Table::builder().file(AclFile::parse("acl", text).expect("a file")).build().expect("a table");
    let export = table.export(ExportFor::Rmqtt);
    let expected = r#"rules = [
        ["allow", "all", "connect"],
        ["deny", { user = 'a"da' }, "pubsub", ["a/b"]],
        ["allow", { user = 'a"da' }, "subscribe", ["a/#"]],
        ["allow", { user = 'a"da' }, "publish", ["w"]],
        ["allow", { user = "bob" }, "subscribe", ["jobs"]],
        ["deny", "all", "pubsub", ["d/%c"]],
        ["allow", "all", "pubsub", ["c/%u"]],
        ["deny", "all"],
    ]"#;
    let parsed = |text: &str| text.parse::<toml::Table>().expect("TOML");
    assert_eq!(parsed(&export.text), parsed(expected));
    for left_out in
        ["cannot say that a client has not logged in", "$share/g/jobs", "does not reserve client ids"]
    {
        assert!(export.left_out.iter().any(|sentence| sentence.contains(left_out)), "{left_out}: {export:?}");
        assert!(export.text.contains(left_out), "{left_out}");
    }
}
