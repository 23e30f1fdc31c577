//! What an examination finds.

use crate::cases::{Case, Level};
use crate::contract::places;

/// What was wrong, and in which step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of the step, from 1.
    pub step: usize,
    /// What came, or did not, and what should have.
    pub text: String,
}

/// Outcome of one case.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// File of the case, without `.json`.
    pub file: &'static str,
    /// Name of the case.
    pub name: String,
    /// Lowest level that has to pass it; of callers and links the default, which says nothing.
    pub level: Level,
    /// Sentence of PROTOCOL.md, or row of one of its tables, that it tests.
    pub rule: String,
    /// Heading in PROTOCOL.md above that sentence.
    pub heading: &'static str,
    /// What was wrong; `None` if it passed.
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
