//! Results of an examination.

use crate::cases::{Case, Level};
use crate::contract::places;

/// Failure of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of the step, from 1.
    pub step: usize,
    /// Message that arrived, or did not, and the expected one.
    pub text: String,
}

/// Outcome of one case.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// File of the case, without `.json`.
    pub file: &'static str,
    /// Name of the case.
    pub name: String,
    /// Lowest level that must pass it; meaningless for callers and links.
    pub level: Level,
    /// Sentence of PROTOCOL.md, or row of one of its tables, that it tests.
    pub rule: String,
    /// Heading in PROTOCOL.md above that sentence.
    pub heading: &'static str,
    /// Failure; `None` if the case passed.
    pub problem: Option<Problem>,
}

impl Verdict {
    pub(crate) fn new(case: &Case, problem: Option<Problem>) -> Self {
        let place = places(&case.rule).into_iter().next();
        let (heading, rule) = place.map_or(("", case.rule.clone()), |place| (place.heading, place.sentence));
        let name = case.name.clone();
        Self { file: case.file, name, level: case.level, rule, heading, problem }
    }
}
