//! Decisions that a reader of the documentation would expect, with their explanations.

use rantai_access::{
    AclFile, Action, Effect, Outcome, Refusal, Rule, RuleAccess, RuleFilter, Source, Subject, Syntax, Table,
    UserRecord, Who,
};

const ADA: Who<'_> = Who { user: Some("ada"), client_id: "ada--1" };
const BOB: Who<'_> = Who { user: Some("bob"), client_id: "bob" };
const NOBODY: Who<'_> = Who { user: None, client_id: "mqttx" };

fn rule(access: RuleAccess, filter: &str) -> Rule {
    let filter = RuleFilter::parse(filter, Syntax::Extended).expect("a filter");
    let source = Source::Role { role: "node".into(), entry: "serve = \"calculator\"".into() };
    Rule::new(Effect::Allow, access, filter, source).expect("a rule")
}

fn table() -> Table {
    let file = "topic read open/#\n\nuser bob\ntopic read #\ntopic deny secret/#\n\nuser ada\ntopic read open/#\ntopic \
                secret/mine\n\npattern readwrite home/%u/#\npattern deny secret/#\n";
    let node = [
        rule(RuleAccess::Read, "$share/calculator/rantai/call/calculator/#"),
        rule(RuleAccess::Reply, "rantai/reply/#"),
        rule(RuleAccess::Write, "rantai/event/example.*/#"),
    ];
    let user = |name| UserRecord::new(name).expect("a name");
    Table::builder()
        .user(user("ada").roles(["node"]))
        .user(user("bob"))
        .role("node", node)
        .file(AclFile::parse("acl.conf", file).expect("a file"))
        .build()
        .expect("a table")
}

#[test]
fn each_answer_names_its_rule() {
    let cases = [
        (NOBODY, Action::Deliver("open/x"), "allowed: `allow read open/#` (acl.conf:1) allows"),
        (NOBODY, Action::Publish("open/x"), "refused: no rule of client mqttx, which did not log in,"),
        (ADA, Action::Publish("x"), "refused: no rule of user ada allows writing x; roles: node"),
        (BOB, Action::Publish("x"), "refused: no rule of user bob allows writing x; roles: none"),
        (ADA, Action::Publish("home/ada/door"), "allowed: `allow readwrite home/%u/#` (acl.conf:11)"),
        (ADA, Action::Publish("home/bob/door"), "refused: no rule"),
        (ADA, Action::Deliver("secret/mine"), "allowed: `allow readwrite secret/mine` (acl.conf:9)"),
        (
            ADA,
            Action::Deliver("secret/x"),
            "refused: `deny readwrite secret/#` (acl.conf:12) denies user ada",
        ),
        (BOB, Action::Deliver("secret/x"), "refused: `deny readwrite secret/#` (acl.conf:5) denies user bob"),
        (BOB, Action::Subscribe("a/#"), "allowed: `allow read #` (acl.conf:4)"),
        (BOB, Action::Subscribe("#"), "allowed, and looked at for each message: # is wider"),
        (BOB, Action::Subscribe("secret/+"), "refused: `deny"),
        (BOB, Action::Subscribe("$share/g/#"), "refused: `deny"),
        (BOB, Action::Subscribe("$share/g/a/#"), "allowed: `allow read #`"),
        (BOB, Action::Subscribe("$SYS/#"), "refused: no rule"),
        (ADA, Action::Subscribe("$share/g/+/x"), "refused: `deny readwrite secret/#`"),
        (NOBODY, Action::Subscribe("$share/g/+/x"), "refused: `deny readwrite secret/#`"),
        (NOBODY, Action::Subscribe("$share/g/open/#"), "allowed: `allow read open/#`"),
        (NOBODY, Action::Subscribe("open/#"), "allowed: "),
        (ADA, Action::Publish("rantai/event/example.a/x"), "allowed: "),
        (ADA, Action::Publish("rantai/event/examples/x"), "refused: "),
        (
            ADA,
            Action::Publish("rantai/reply/a/b"),
            "allowed for one reply to each request that was delivered",
        ),
    ];
    for (who, action, expected) in cases {
        let text = table().explain(&who, action);
        assert!(text.starts_with(expected), "{action:?}: {text}");
    }
}

#[test]
fn a_reserved_group_is_joined_only_by_its_own_rule() {
    let table = table();
    let outcome = |who, filter| table.decide(&who, Action::Subscribe(filter)).outcome;
    let calls = "$share/calculator/rantai/call/calculator/#";
    assert_eq!(outcome(ADA, calls), Outcome::Allowed);
    assert_eq!(
        outcome(ADA, "$share/other/rantai/call/calculator/#"),
        Outcome::Refused(Refusal::TooWideForGroup)
    );
    assert_eq!(outcome(ADA, "rantai/call/calculator/#"), Outcome::AtDelivery);
    assert_eq!(table.decide(&ADA, Action::Deliver("rantai/call/calculator/add")).outcome, Outcome::Allowed);
    // bob may read everything, so he may observe calls in a group of his own, but not take calls from the nodes that
    // serve them.
    assert_eq!(outcome(BOB, calls), Outcome::Refused(Refusal::ReservedGroup));
    assert_eq!(outcome(BOB, "$share/calculator/rantai/call/+/add"), Outcome::Refused(Refusal::ReservedGroup));
    assert_eq!(outcome(BOB, "$share/bob/rantai/call/calculator/#"), Outcome::Allowed);
    assert_eq!(outcome(BOB, "$share/calculator/a/b"), Outcome::Allowed);
}

#[test]
fn a_rule_for_every_group_reserves_none() {
    let file = AclFile::parse("acl", "user bob\ntopic read a/#\n").expect("a file");
    let admin = rule(RuleAccess::Read, "$share/+/#");
    let table =
        Table::builder().file(file).rule(Subject::User("ada".to_owned()), admin).build().expect("a table");
    for (who, filter) in [(ADA, "$share/g/a/b"), (ADA, "$share/g/#"), (BOB, "$share/g/a/b")] {
        assert_eq!(table.decide(&who, Action::Subscribe(filter)).outcome, Outcome::Allowed, "{filter}");
    }
}
