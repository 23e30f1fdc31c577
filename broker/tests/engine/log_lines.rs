//! All log statements in the broker's source: lines that clients can cause must be limited and escaped.

use std::fs;
use std::path::{Path, PathBuf};

/// Files whose log lines clients cannot cause repeatedly.
const NOT_BY_CLIENTS: [(&str, &str); 8] = [
    ("handshake/computing.rs", "once, when the thread is started"),
    ("certified.rs", "when certificates are read again, which no client can ask for"),
    ("log.rs", "once a second for each kind"),
    ("memory.rs", "once for each change of the stage"),
    ("listener.rs", "once a minute"),
    ("rumqttd.rs", "once, at its end"),
    ("reload.rs", "at a signal, or at the command of an admin"),
    ("store/", "once for each change of the disk's health, and at the start"),
];
/// Number of lines before a log statement in which its condition may be.
const CONDITION_LINES: usize = 6;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn lines_that_clients_cause_are_limited_and_their_texts_escaped() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    let mut limited = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("UTF-8");
        let name = file.strip_prefix(&source).expect("below it").to_string_lossy().into_owned();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            // Debug lines are disabled by default, and may be unlimited.
            if !["info", "warn", "error"].iter().any(|level| line.contains(&format!("tracing::{level}!("))) {
                continue;
            }
            let place = format!("{name}:{}", number + 1);
            let statement: Vec<_> = lines[number..]
                .iter()
                .scan(false, |over, line| (!std::mem::replace(over, line.ends_with(';'))).then_some(*line))
                .collect();
            let statement = statement.join(" ");
            for of_client in ["client_id", "user_name", "topic", "filter,"] {
                assert!(
                    !statement.contains(of_client) || statement.contains("ClientText("),
                    "{place}: a client's text is not escaped: {statement}"
                );
            }
            if NOT_BY_CLIENTS.iter().any(|(prefix, _)| name.starts_with(prefix)) {
                continue;
            }
            let condition = lines[number.saturating_sub(CONDITION_LINES)..number].join(" ");
            assert!(condition.contains("may_log"), "{place}: clients can write it as often as they like");
            limited += 1;
        }
    }
    assert!(limited >= 12, "only {limited} lines were found");
}
