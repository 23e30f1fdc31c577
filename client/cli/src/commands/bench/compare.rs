//! Comparison of a run with an earlier one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::report::number;
use crate::exit::{Exit, Failure};

/// Prefix of the names of figures that must not fall.
const THROUGHPUT: &str = "throughput";

/// Run that was saved with `--save`.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    file: PathBuf,
    told: Value,
}

/// Figure of two runs.
#[derive(Clone, Debug, PartialEq)]
struct Pair {
    name: String,
    then: f64,
    now: f64,
}

/// Comparison of two runs.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    file: PathBuf,
    pairs: Vec<Pair>,
    /// Settings in which the runs differ.
    differences: Vec<String>,
}

impl Saved {
    pub(super) fn load(file: &Path) -> Result<Self, Failure> {
        let wrong = |reason: String| {
            Failure::new(Exit::Usage, format!("cannot compare with {}: {reason}", file.display()))
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let told: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if told["v"] != 1 || !told["figures"].is_object() {
            return Err(wrong("it is no run that `rantai bench --save` has kept".to_owned()));
        }
        Ok(Self { file: file.to_owned(), told })
    }

    pub(super) fn compare(&self, now: &Value) -> Comparison {
        let empty = Map::new();
        let figures = |told: &Value| told["figures"].as_object().unwrap_or(&empty).clone();
        let then = figures(&self.told);
        let mut pairs: Vec<Pair> = figures(now)
            .iter()
            .filter_map(|(name, now)| {
                Some(Pair { name: name.clone(), then: then.get(name)?.as_f64()?, now: now.as_f64()? })
            })
            .collect();
        // Throughputs first, as the comparison is judged by them.
        pairs.sort_by_key(|pair| (!pair.name.starts_with(THROUGHPUT), pair.name.clone()));
        Comparison { file: self.file.clone(), pairs, differences: differences(&self.told, now) }
    }
}

fn differences(then: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |name: &str, then: &Value, now: &Value| {
        if then != now {
            found.push(format!("{name}: {then} then, {now} now"));
        }
    };
    for name in ["bench", "what"] {
        look(name, &then[name], &now[name]);
    }
    let empty = Map::new();
    let settings = |told: &Value| told["settings"].as_object().unwrap_or(&empty).clone();
    let (before, after) = (settings(then), settings(now));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        look(name, before.get(name).unwrap_or(&Value::Null), after.get(name).unwrap_or(&Value::Null));
    }
    found
}

impl Pair {
    /// Returns the new figure divided by the old one; `None` if the old one is 0.
    fn ratio(&self) -> Option<f64> {
        (self.then > 0.0).then(|| self.now / self.then)
    }
}

impl Comparison {
    pub(super) fn json(&self) -> Value {
        let ratios: Map<String, Value> =
            self.pairs.iter().map(|pair| (pair.name.clone(), json!(pair.ratio()))).collect();
        json!({"file": self.file, "ratios": ratios, "differences": self.differences})
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("Compared with {}\n", self.file.display());
        for difference in &self.differences {
            let _ = writeln!(text, "  {difference}");
        }
        let _ = writeln!(text, "  {:<24}{:>15}{:>15}{:>10}", "", "then", "now", "ratio");
        for pair in &self.pairs {
            let ratio = pair.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
            let Pair { name, then, now } = pair;
            let _ = writeln!(text, "  {name:<24}{:>15}{:>15}{ratio:>10}", number(*then), number(*now));
        }
        text
    }

    /// Checks that every throughput is at least `least` times the earlier one.
    pub(super) fn check(&self, least: f64) -> Result<(), Failure> {
        let mut judged = self.pairs.iter().filter(|pair| pair.name.starts_with(THROUGHPUT)).peekable();
        if judged.peek().is_none() {
            let text = format!("{} has no throughput of these calls", self.file.display());
            return Err(Failure::new(Exit::Failed, text));
        }
        for pair in judged {
            match pair.ratio() {
                Some(ratio) if ratio < least => {
                    let text = format!(
                        "{} is {ratio:.3} of what it was in {}; at least {least} is asked for",
                        pair.name,
                        self.file.display()
                    );
                    return Err(Failure::new(Exit::Failed, text));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    fn saved(told: &Value) -> Saved {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("run.json");
        std::fs::write(&file, told.to_string()).expect("written");
        Saved::load(&file).expect("a run")
    }

    fn saved_run(throughput: f64, p99: f64) -> Value {
        let mut told = report().json();
        told["figures"]["throughput"] = json!(throughput);
        told["figures"]["p99_us"] = json!(p99);
        told
    }

    #[test]
    fn comparison_shows_a_ratio_for_each_figure() {
        let comparison = saved(&saved_run(1_000.0, 200.0)).compare(&saved_run(900.0, 500.0));
        let json = comparison.json();
        assert_eq!(json["ratios"]["throughput"], 0.9);
        assert_eq!(json["ratios"]["p99_us"], 2.5);
        assert_eq!(json["ratios"]["mib_per_second"], 1.0);
        assert_eq!(json["ratios"].as_object().expect("an object").len(), 9);
        assert_eq!(json["differences"], json!([]));
        let text = comparison.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[2].starts_with("  throughput") && lines[2].ends_with("1000            900     0.900"),
            "{text}"
        );
        assert!(lines[1..].iter().all(|line| line.len() < 80), "{text}");
    }

    #[test]
    fn lower_throughput_fails_the_comparison_and_higher_latency_does_not() {
        let slower = saved(&saved_run(1_000.0, 100.0)).compare(&saved_run(899.0, 900.0));
        assert!(slower.check(0.9).is_err());
        assert!(slower.check(0.89).is_ok());
        let nothing = saved(&saved_run(0.0, 100.0)).compare(&saved_run(900.0, 100.0));
        assert!(nothing.check(0.9).is_ok(), "nothing fell");
        assert_eq!(nothing.json()["ratios"]["throughput"], Value::Null);
        let mut other = saved_run(1_000.0, 100.0);
        other["figures"] = json!({"throughput_1": 1_000.0});
        let error = saved(&other)
            .compare(&saved_run(5_000.0, 1.0))
            .check(0.1)
            .expect_err("there is nothing to judge by");
        assert!(format!("{error:?}").contains("no throughput"), "{error:?}");
        let mut several = other.clone();
        several["figures"] = json!({"throughput_1": 1_000.0, "throughput_2": 500.0});
        let again = json!({"throughput_1": 1_000.0, "throughput_2": 1_000.0});
        other["figures"] = again;
        assert!(saved(&other).compare(&several).check(0.6).is_err(), "one of them fell");
    }

    #[test]
    fn comparison_lists_settings_that_differ() {
        let mut then = saved_run(1_000.0, 100.0);
        then["settings"]["size"] = json!(1_024);
        then["what"] = json!("calculator.add");
        let found = saved(&then).compare(&saved_run(1_000.0, 100.0)).differences;
        assert_eq!(found, ["what: \"calculator.add\" then, \"echo.echo\" now", "size: 1024 then, 60 now"]);
    }

    #[test]
    fn loading_an_invalid_saved_run_fails() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("run.json");
        assert!(Saved::load(&file).is_err());
        for text in ["", "[]", "{}", r#"{"v":2,"figures":{}}"#, r#"{"v":1,"figures":7}"#] {
            std::fs::write(&file, text).expect("written");
            assert!(Saved::load(&file).is_err(), "{text}");
        }
    }
}
