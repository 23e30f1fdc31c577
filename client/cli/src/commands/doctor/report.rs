//! What an examination tells.

use serde_json::{Value, json};

use super::advice::advice;
use super::examination::Examination;
use super::item::{Area, Finding, State};
use crate::connection::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::table::Table;

/// The findings of one examination.
pub(super) struct Report<'a> {
    pub(super) examination: &'a Examination,
    pub(super) findings: Vec<Finding>,
}

impl Report<'_> {
    /// Whether objects and callers can work on this broker.
    fn works(&self) -> bool {
        !self.fails(Area::Bus)
    }

    /// Whether somebody may do what only others may.
    fn open(&self) -> bool {
        self.fails(Area::Strangers)
    }

    fn fails(&self, area: Area) -> bool {
        self.findings.iter().any(|finding| finding.item.area == area && finding.state == State::Fails)
    }

    fn advice(&self, finding: &Finding) -> Option<&'static str> {
        advice(finding, self.examination.product.get(), self.examination.user().is_some())
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
        print(match (self.works(), self.open()) {
            (false, _) => "The bus cannot work on this broker.",
            (true, true) => "The bus works, and is open to strangers.",
            (true, false) => "The bus works.",
        });
    }

    /// Prints what to do, once for all items of the same advice.
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

    /// 1 where the bus cannot work, 2 where it is open to strangers.
    pub(super) fn result(&self) -> Result<(), Failure> {
        match (self.works(), self.open()) {
            (false, _) => Err(Failure::told(Exit::Failed)),
            // The same number as that of a wrong command line.
            (true, true) => Err(Failure::told(Exit::Usage)),
            (true, false) => Ok(()),
        }
    }
}
