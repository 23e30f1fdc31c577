//! `--log`: levels by module.

use rantai_client::registry::similar;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Crates of this program that log.
const OWN: [&str; 16] = [
    "rantai",
    "rantai_access",
    "rantai_adopt",
    "rantai_broker",
    "rantai_client",
    "rantai_commit",
    "rantai_credentials",
    "rantai_files",
    "rantai_gateway",
    "rantai_group_commit",
    "rantai_imaging",
    "rantai_monitoring",
    "rantai_nodes",
    "rantai_site",
    "rantai_systems",
    "rantai_tasks",
];

/// Parses levels separated by commas: one without a module for all others, and `MODULE=LEVEL`. If several modules match
/// a line, the longest one decides; without a level for all others, nothing else is logged.
pub(super) fn levels(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    let mut has_default = false;
    for part in text.split(',').map(str::trim) {
        match part.split_once('=') {
            None if std::mem::replace(&mut has_default, true) => {
                return Err(format!("{part:?} is the second level without a module; write MODULE={part}"));
            }
            None => targets = targets.with_default(level(part)?),
            Some((module, of)) => targets = targets.with_target(known(module.trim())?, level(of.trim())?),
        }
    }
    Ok(targets)
}

fn level(text: &str) -> Result<LevelFilter, String> {
    match &*text.to_ascii_lowercase() {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(format!("{text:?} is no level; use off, error, warn, info, debug or trace")),
    }
}

/// Checks the name of a module: modules of this program's own crates must exist, others are not checked.
fn known(module: &str) -> Result<&str, String> {
    let first = module.split("::").next().unwrap_or_default();
    if first.is_empty() {
        return Err("a level has no module before its `=`; write MODULE=LEVEL".to_owned());
    }
    if !first.starts_with("rantai") || OWN.contains(&first) {
        return Ok(module);
    }
    let meant = similar(first, OWN).first().map(|name| format!("; did you mean {name}?"));
    Err(format!("no module {first:?}{}", meant.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn longest_matching_module_sets_the_level() {
        let levels =
            levels("rantai_broker=debug, info ,rantai_broker::store=warn,hyper=off").expect("levels");
        for (module, level, expected) in [
            ("rantai_broker::hub", Level::DEBUG, true),
            ("rantai_broker::hub", Level::TRACE, false),
            ("rantai_broker::store::writer", Level::INFO, false),
            ("rantai_broker::store::writer", Level::WARN, true),
            ("rantai_nodes", Level::INFO, true),
            ("rantai_nodes", Level::DEBUG, false),
            ("hyper::proto", Level::ERROR, false),
        ] {
            assert_eq!(levels.would_enable(module, &level), expected, "{module} {level}");
        }
    }

    #[test]
    fn errors_of_levels_say_what_to_write() {
        for (text, expected) in [
            ("inof", "\"inof\" is no level; use off, error"),
            ("", "\"\" is no level"),
            ("rantai_broker=loud", "\"loud\" is no level"),
            ("rantai_brokr=debug", "did you mean rantai_broker?"),
            ("=debug", "MODULE=LEVEL"),
            ("info,debug", "write MODULE=debug"),
        ] {
            let told = levels(text).expect_err(text);
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
