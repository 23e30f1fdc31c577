//! Report of an examination.

use serde_json::{Value, json};

use super::advice::advice;
use super::examination::Examination;
use super::item::{Area, Finding, Need, State};
use crate::connection::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::table::Table;

/// Findings of one examination.
pub(super) struct Report<'a> {
    pub(super) examination: &'a Examination,
    pub(super) findings: Vec<Finding>,
}

impl Report<'_> {
    /// Returns whether objects and callers can work on this broker; `None` if not all that they need was seen to work.
    fn works(&self) -> Option<bool> {
        self.is_good(Area::Bus)
    }

    /// Returns whether strangers have access; `None` if not all of their attempts were seen to be refused.
    fn open(&self) -> Option<bool> {
        self.is_good(Area::Strangers).map(|is_good| !is_good)
    }

    fn is_good(&self, area: Area) -> Option<bool> {
        let is_any = |state: State| self.needed(area).any(|finding| finding.state == state);
        if self.of(area).any(|finding| finding.state == State::Fails) {
            return Some(false);
        }
        let is_seen =
            self.needed(area).next().is_some() && !is_any(State::Untested) && !is_any(State::Unknown);
        is_seen.then_some(true)
    }

    /// Checks whether the result for a needed item is unclear.
    fn is_doubtful(&self, area: Area) -> bool {
        self.needed(area).any(|finding| finding.state == State::Unknown)
    }

    fn of(&self, area: Area) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.item.area == area)
    }

    fn needed(&self, area: Area) -> impl Iterator<Item = &Finding> {
        self.of(area).filter(|finding| finding.item.need == Need::Must)
    }

    fn advice(&self, finding: &Finding) -> Option<&'static str> {
        advice(finding, self.examination.product.get(), self.examination.is_known())
    }

    /// Prints the findings.
    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            return print_json(&self.json());
        }
        let mut table = Table::new(["ITEM", "STATE", "WHAT"]);
        for finding in &self.findings {
            table.row([finding.item.id, &finding.state.to_string(), &finding.text]);
        }
        table.print();
        self.print_advice();
        print("");
        print(self.summary());
    }

    /// Returns the meaning of the exit code, as a sentence.
    fn summary(&self) -> &'static str {
        let works = match self.works() {
            Some(true) => Some(true),
            None if !self.is_doubtful(Area::Bus) => None,
            Some(false) => return "The bus cannot work on this broker.",
            None => return "Whether the bus works could not be told.",
        };
        let is_open = self.open() == Some(true);
        let is_doubtful = self.is_doubtful(Area::Strangers);
        match (works, is_open, is_doubtful) {
            (Some(_), true, _) => "The bus works, and is open to strangers.",
            (Some(_), false, true) => "The bus works; whether it is open to strangers could not be told.",
            (Some(_), false, false) => "The bus works.",
            (None, true, _) => "What this user may try of the bus works, and it is open to strangers.",
            (None, false, true) => {
                "What this user may try of the bus works; whether it is open to strangers could not be told."
            }
            (None, false, false) => "What this user may try of the bus works.",
        }
    }

    /// Prints the advice, once for all items with the same advice.
    fn print_advice(&self) {
        let mut advised: Vec<(&str, Vec<&str>)> = Vec::new();
        for finding in &self.findings {
            let Some(advice) = self.advice(finding) else { continue };
            match advised.iter_mut().find(|(known, _)| *known == advice) {
                Some((_, items)) => items.push(finding.item.id),
                None => advised.push((advice, vec![finding.item.id])),
            }
        }
        let mut table = Table::new(["WHAT TO DO", "FOR"]);
        for (advice, items) in &advised {
            table.row([advice, &items.join(", ")]);
        }
        if !advised.is_empty() {
            print("");
        }
        table.print();
    }

    fn json(&self) -> Value {
        let items: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "id": finding.item.id,
                    "area": finding.item.area.name(),
                    "state": finding.state.to_string(),
                    "text": finding.text,
                    "advice": self.advice(finding),
                })
            })
            .collect();
        json!({
            "broker": self.examination.address.to_string(),
            "product": self.examination.product.get().name(),
            "user": self.examination.user(),
            "works": self.works(),
            "open": self.open(),
            "items": items,
        })
    }

    /// Returns exit code 1 if the bus cannot work, and 2 if strangers have access; each also if the result is unclear.
    pub(super) fn result(&self) -> Result<(), Failure> {
        if self.works() == Some(false) || self.is_doubtful(Area::Bus) {
            return Err(Failure::reported(Exit::Failed));
        }
        if self.open() == Some(true) || self.is_doubtful(Area::Strangers) {
            // The same number as for a wrong command line.
            return Err(Failure::reported(Exit::Usage));
        }
        Ok(())
    }
}
