//! Comparison of mosquitto and the table: the same rules and the same attempts on both.

mod attempts;
mod peer;

use attempts::{Answers, CLIENTS, TOPICS, on_mosquitto, on_table};
use fastrand::Rng;
use peer::Mosquitto;
use rantai_access::{
    AclFile, Effect, ExportFor, Rule, RuleAccess, RuleFilter, Source, Subject, Syntax, Table, UserRecord, Who,
};

/// Rules for the test itself: `admin` may read and write everything, and every client receives the message that ends
/// an attempt.
const HARNESS: &str = "topic read end\nuser admin\ntopic readwrite #\ntopic readwrite $own/#\nuser ada\ntopic read end\n\
                       user bob\ntopic read end\n";

fn compare(text: &str) {
    let table = Table::builder().file(AclFile::parse("acl", text).expect("a file")).build().expect("a table");
    let mosquitto = Mosquitto::start(text);
    assert_same(&on_mosquitto(&mosquitto), &on_table(&table), text);
}

/// Asserts that both give the same answers. The panic lists only those that differ.
fn assert_same(peer: &Answers, table: &Answers, text: &str) {
    let other: Vec<_> =
        peer.iter().filter(|(attempt, allowed)| table.get(*attempt) != Some(allowed)).collect();
    assert!(
        other.is_empty() && peer.len() == table.len(),
        "mosquitto says {other:#?} with this file:\n{text}"
    );
    assert!(peer.values().any(|allowed| *allowed), "something is allowed");
}

#[test]
fn order_and_precedence_are_those_of_mosquitto() {
    compare(&format!(
        "topic read a/+\ntopic write b\n{HARNESS}# comment\n\nuser ada\ntopic a/#\ntopic deny a/b\ntopic read %u/x\n\
         pattern deny b/#\nuser  bob \ntopic deny a/b\nuser bob\ntopic readwrite a/#\ntopic read  sp ace\n\
         pattern read %c/x\npattern write x%u/%c\npattern $own/%u\ntopic b/x\n"
    ));
}

#[test]
fn random_files_decide_as_on_mosquitto() {
    let mut rng = Rng::with_seed(2);
    let levels = ["a", "b", "x", "+", "%u", "%c", "ada", "c1", "$own"];
    for _ in 0..6 {
        let mut text = HARNESS.to_owned();
        for _ in 0..12 {
            let keyword = ["topic", "topic", "pattern", "user"][rng.usize(..4)];
            if keyword == "user" {
                text += ["user ada\n", "user bob\n"][rng.usize(..2)];
                continue;
            }
            let access = ["", "read ", "write ", "readwrite ", "deny "][rng.usize(..5)];
            let mut filter = levels[rng.usize(..levels.len())].to_owned();
            match rng.u8(..4) {
                0 => {}
                1 => filter += "/#",
                _ => filter = [&filter, levels[rng.usize(..levels.len() - 1)]].join("/"),
            }
            text.extend([keyword, " ", access, &filter, "\n"]);
        }
        compare(&text);
    }
}

#[test]
fn an_exported_table_gives_the_same_decisions_on_mosquitto() {
    let rule = |effect, access, filter: &str| {
        let source = Source::Role { role: "role".into(), entry: "test".into() };
        let filter = RuleFilter::parse(filter, Syntax::Extended).expect("a filter");
        Rule::new(effect, access, filter, source).expect("a rule")
    };
    let (allow, read, write) = (Effect::Allow, RuleAccess::Read, RuleAccess::Write);
    let of_role = [
        rule(allow, read, "%c/x"),
        rule(allow, write, "b/%c"),
        rule(allow, RuleAccess::ReadWrite, "a/%u"),
        rule(allow, write, "x/#"),
        rule(Effect::Deny, RuleAccess::ReadWrite, "x/c1"),
        rule(allow, read, "$share/g/a/b"),
        rule(allow, write, "sp*/#"),
    ];
    let record = |name: &str| UserRecord::new(name).expect("a name");
    let table = Table::builder()
        .user(record("ada").roles(["role"]).client_ids(["c1"].map(|id| id.parse().expect("a pattern"))))
        .user(record("bob"))
        .role("role", of_role)
        .rule(Subject::Everyone, rule(allow, write, "%u/x"))
        .file(AclFile::parse("acl", HARNESS).expect("a file"))
        .build()
        .expect("a table");
    let export = table.export(ExportFor::Mosquitto);
    let mosquitto = Mosquitto::start(&export.text);
    let mut expected = on_table(&table);
    // This difference is named in `left_out`: every client may read the topics with its own client id.
    for client in CLIENTS {
        for topic in TOPICS.iter().filter(|topic| **topic == format!("{}/x", client.client_id)) {
            expected.insert(format!("{client:?} reads {topic}"), true);
        }
    }
    // Each client of ada may write what its client id `c1` may write, and nothing that needs a rule other brokers
    // cannot express.
    for (client, topic, allowed) in [("c/1", "b/c1", true), ("c/1", "sp ace", false), ("c1", "sp ace", false)]
    {
        let who = Who { user: Some("ada"), client_id: client };
        expected.insert(format!("{who:?} writes {topic}"), allowed);
    }
    assert_same(&on_mosquitto(&mosquitto), &expected, &export.text);
    for left_out in
        ["sp*/#", "`allow read %c/x`", "`allow write b/%c`", "$share/g/a/b", "does not reserve client ids"]
    {
        assert!(export.left_out.iter().any(|sentence| sentence.contains(left_out)), "{left_out}: {export:?}");
    }
    let back = AclFile::parse("export", &export.text).expect("it reads back here too");
    assert!(!back.rules().is_empty());
}
