//! Checks that `docs/conformance.md` and the tests agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Number of statements in the appendix B of each standard. For MQTT 5: 247 in chapters 1 to 4, 4 in chapter 6, 2 in
/// chapter 7, and one number that chapter 2 leaves out.
const TOTALS: [(&str, usize); 2] = [("MQTT 3.1.1", 141), ("MQTT 5", 254)];

/// A version and a statement, such as `("MQTT 5", "3.1.2-8")`.
type Statement = (String, String);
/// Names of the tests that prove each statement.
type Proofs = BTreeMap<Statement, BTreeSet<String>>;

struct Row {
    line: usize,
    statement: Statement,
    words: String,
    tests: BTreeSet<String>,
    reason: Option<String>,
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> PathBuf {
    manifest().join("../docs/conformance.md")
}

/// Returns the numbers of the statements in square brackets in a line.
fn statements(line: &str) -> impl Iterator<Item = &str> {
    line.split("[MQTT-").skip(1).filter_map(|rest| rest.split_once(']').map(|(id, _)| id))
}

/// Returns the names of all tests of the suite, and the statements that their doc comments list.
fn tests() -> (BTreeSet<String>, Proofs) {
    let mut names = BTreeSet::new();
    let mut proofs = Proofs::new();
    let directory = manifest().join("tests/conformance");
    for entry in std::fs::read_dir(directory).expect("the suite has a directory") {
        let path = entry.expect("a directory can be listed").path();
        let module = path.file_stem().and_then(|stem| stem.to_str());
        let module = module.expect("a module has a name").to_owned();
        let source = std::fs::read_to_string(&path).expect("a source is text");
        let mut claims: Vec<Statement> = Vec::new();
        let mut version = None;
        let mut is_test = false;
        for line in source.lines() {
            if let Some(doc) = line.strip_prefix("///") {
                for (name, _) in TOTALS {
                    if doc.trim_start().starts_with(&format!("{name}: ")) {
                        version = Some(name);
                    }
                }
                for id in statements(doc) {
                    let version = version.unwrap_or_else(|| {
                        panic!("{module}: {line:?} says of no version that it is numbered in")
                    });
                    claims.push((version.to_owned(), id.to_owned()));
                }
            } else if line == "#[test]" || line == "#[tokio::test]" {
                is_test = true;
            } else if !line.starts_with("#[") {
                let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
                if let Some((name, _)) = function.filter(|_| is_test).and_then(|f| f.split_once('(')) {
                    let name = format!("{module}::{name}");
                    for claim in claims.drain(..) {
                        proofs.entry(claim).or_default().insert(name.clone());
                    }
                    names.insert(name);
                }
                claims.clear();
                version = None;
                is_test = false;
            }
        }
    }
    (names, proofs)
}

/// Returns the rows of the table.
fn rows(document: &str) -> Vec<Row> {
    let mut version = String::new();
    let mut rows = Vec::new();
    for (index, line) in document.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut version);
        }
        let Some(rest) = line.strip_prefix("| [MQTT-") else {
            continue;
        };
        let cells: Vec<&str> = rest.trim_end_matches(" |").split(" | ").collect();
        let &[id, words, proof] = cells.as_slice() else {
            panic!("line {}: a row has three cells", index + 1);
        };
        rows.push(Row {
            line: index + 1,
            statement: (version.clone(), id.trim_end_matches(']').to_owned()),
            words: words.to_owned(),
            tests: proof.split('`').filter(|part| part.contains("::")).map(str::to_owned).collect(),
            reason: proof.strip_prefix("not applicable: ").map(str::to_owned),
        });
    }
    rows
}

fn is_empty_cell(row: &Row) -> bool {
    row.tests.is_empty() && row.reason.as_ref().is_none_or(|reason| reason.trim().is_empty())
}

/// Returns all differences between the table and the tests.
fn disagreements(rows: &[Row], names: &BTreeSet<String>, proofs: &Proofs) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows {
        let at = format!("line {}, {} [MQTT-{}]", row.line, row.statement.0, row.statement.1);
        if !seen.insert(row.statement.clone()) {
            found.push(format!("{at}: the row stands twice"));
        }
        if is_empty_cell(row) {
            found.push(format!("{at}: neither a test nor a reason"));
        }
        for test in row.tests.difference(names) {
            found.push(format!("{at}: there is no test {test}"));
        }
        let none = BTreeSet::new();
        let claimed = proofs.get(&row.statement).unwrap_or(&none);
        for test in claimed.difference(&row.tests) {
            found.push(format!("{at}: {test} proves it and the row does not say so"));
        }
        for test in row.tests.difference(claimed) {
            found.push(format!("{at}: {test} does not say that it proves it"));
        }
    }
    for statement in proofs.keys().filter(|statement| !seen.contains(*statement)) {
        found.push(format!("{statement:?} is proved and has no row"));
    }
    found.extend(gaps(&seen));
    found
}

/// Returns the sections whose numbers are not consecutive from 1, and the versions with missing statements.
fn gaps(seen: &BTreeSet<Statement>) -> Vec<String> {
    let mut found = Vec::new();
    let mut sections: BTreeMap<(&str, &str), BTreeSet<usize>> = BTreeMap::new();
    for (version, id) in seen {
        match id.split_once('-').and_then(|(section, n)| Some((section, n.parse().ok()?))) {
            Some((section, number)) => {
                sections.entry((version, section)).or_default().insert(number);
            }
            None => found.push(format!("[MQTT-{id}] is no number of a statement")),
        }
    }
    for ((version, section), numbers) in sections {
        let last = numbers.last().copied().unwrap_or_default();
        for number in (1..=last).filter(|number| !numbers.contains(number)) {
            found.push(format!("{version} [MQTT-{section}-{number}] is missing"));
        }
    }
    for (version, total) in TOTALS {
        let rows = seen.iter().filter(|(of, _)| of == version).count();
        if rows != total {
            found.push(format!("{version} has {total} rows, and here are {rows}"));
        }
    }
    found
}

/// Returns the document with the current tests in the last column.
fn updated(document: &str, rows: &[Row], proofs: &Proofs) -> String {
    let mut lines: Vec<String> = document.lines().map(str::to_owned).collect();
    for row in rows {
        let mut proof = String::new();
        for test in proofs.get(&row.statement).into_iter().flatten() {
            write!(proof, "{}`{test}`", if proof.is_empty() { "" } else { ", " })
                .expect("a string can be written to");
        }
        if proof.is_empty()
            && let Some(reason) = &row.reason
        {
            proof = format!("not applicable: {reason}");
        }
        let (_, id) = &row.statement;
        lines[row.line - 1] = format!("| [MQTT-{id}] | {} | {proof} |", row.words);
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_table_and_the_tests_agree() {
    let mut text = std::fs::read_to_string(document()).expect("docs/conformance.md is there");
    let (names, proofs) = tests();
    if std::env::var_os("RANTAI_UPDATE_TABLE").is_some() {
        text = updated(&text, &rows(&text), &proofs);
        std::fs::write(document(), &text).expect("docs/conformance.md can be written");
    }
    let found = disagreements(&rows(&text), &names, &proofs);
    assert!(found.is_empty(), "docs/conformance.md:\n{}", found.join("\n"));
}

/// Tests the check itself, with a table and a suite that differ in every possible way.
#[test]
fn every_kind_of_disagreement_is_found() {
    let row = |line, id: &str, tests: &[&str], reason: Option<&str>| Row {
        line,
        statement: ("MQTT 5".to_owned(), id.to_owned()),
        words: "words".to_owned(),
        tests: tests.iter().map(|&test| test.to_owned()).collect(),
        reason: reason.map(str::to_owned),
    };
    let rows = [
        row(1, "1.1.1-1", &["a::there", "a::not_there"], None),
        row(2, "1.1.1-3", &[], None),
        row(3, "1.1.1-4", &[], Some("binds the client")),
        row(4, "1.1.1-4", &[], Some(" ")),
    ];
    let names = BTreeSet::from(["a::there".to_owned(), "a::other".to_owned()]);
    let claim = |id: &str, test: &str| {
        let statement = ("MQTT 5".to_owned(), id.to_owned());
        (statement, BTreeSet::from([test.to_owned()]))
    };
    let proofs = Proofs::from([claim("1.1.1-1", "a::other"), claim("9.9.9-1", "a::there")]);
    let found = disagreements(&rows, &names, &proofs).join("\n");
    for expected in [
        "there is no test a::not_there",
        "a::other proves it and the row does not say so",
        "a::there does not say that it proves it",
        "line 2, MQTT 5 [MQTT-1.1.1-3]: neither a test nor a reason",
        "line 4, MQTT 5 [MQTT-1.1.1-4]: the row stands twice",
        "line 4, MQTT 5 [MQTT-1.1.1-4]: neither a test nor a reason",
        "9.9.9-1\") is proved and has no row",
        "[MQTT-1.1.1-2] is missing",
        "MQTT 3.1.1 has",
    ] {
        assert!(found.contains(expected), "{expected:?} is not found in\n{found}");
    }
}

/// The parser of the sources finds tests and their statements.
#[test]
fn the_suite_finds_its_own_tests() {
    let (names, proofs) = tests();
    assert!(names.contains("table::the_suite_finds_its_own_tests"));
    assert!(names.contains("connect::a_plain_connect_is_accepted"));
    let connect = ("MQTT 5".to_owned(), "3.1.4-5".to_owned());
    assert!(proofs[&connect].contains("connect::a_plain_connect_is_accepted"));
}
