//! Rounds of all attacks.

use std::time::Instant;

use rantai_load::failure::Failure;
use rantai_load::spread::median;

use crate::attacks::Attack;
use crate::brokers::Kind;
use crate::measure::{Aim, Measured, Remains, Resting, measure};
use crate::options::Options;

/// All rounds of one attack on one kind of broker.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) attack: Attack,
    pub(crate) kind: Kind,
    pub(crate) beside: Vec<Measured>,
    pub(crate) elsewhere: Vec<Measured>,
    /// Memory and descriptors after the last round.
    pub(crate) remains: Option<Remains>,
    /// Failures of rounds.
    pub(crate) failures: Vec<Failure>,
}

impl Case {
    /// Returns the median of a value over the rounds.
    pub(crate) fn typical(rounds: &[Measured], value: impl Fn(&Measured) -> f64) -> Option<f64> {
        (!rounds.is_empty()).then(|| median(rounds.iter().map(value)))
    }

    /// Returns the honest p99 during an attack on the same broker, divided by that during an attack on another broker.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let beside = Self::typical(&self.beside, |round| round.p99)?;
        Some(beside / Self::typical(&self.elsewhere, |round| round.p99)?)
    }

    /// Returns the sum of a value over all rounds with the attack on the same broker.
    pub(crate) fn sum(&self, value: impl Fn(&Measured) -> u64) -> u64 {
        self.beside.iter().map(value).sum()
    }

    /// Returns the round after which the memory of the broker was measured.
    pub(crate) fn weighed(&self) -> Option<(&Measured, Remains)> {
        Some((self.beside.last()?, self.remains?))
    }
}

/// Runs all rounds of each attack in turn. The memory of an attacked broker is measured while the next attacks run.
pub(crate) fn run(options: &Options, attacks: &[Attack]) -> Vec<Case> {
    let kinds = Kind::chosen(options);
    let mut cases = Vec::new();
    let mut resting: Vec<(usize, Resting)> = Vec::new();
    for &attack in attacks {
        let first = cases.len();
        let takes_part = |kind: &&Kind| **kind != Kind::Mosquitto || attack.on_mosquitto;
        cases.extend(kinds.iter().filter(takes_part).map(|&kind| Case {
            attack,
            kind,
            beside: Vec::new(),
            elsewhere: Vec::new(),
            remains: None,
            failures: Vec::new(),
        }));
        for round in 0..options.rounds {
            // The order alternates, so that the load of other processes affects both.
            let aims = [Aim::Elsewhere, Aim::Beside];
            let aims = if round.is_multiple_of(2) { aims } else { [aims[1], aims[0]] };
            for aim in aims {
                for (place, case) in cases.iter_mut().enumerate().skip(first) {
                    let weighs = aim == Aim::Beside && round + 1 == options.rounds;
                    let rest = one(options, case, aim, round);
                    resting.extend(rest.filter(|_| weighs).map(|rest| (place, rest)));
                }
            }
        }
        let (rested, waiting) = resting.into_iter().partition(|(_, rest)| rest.due() <= Instant::now());
        weigh(&mut cases, rested);
        resting = waiting;
    }
    weigh(&mut cases, resting);
    cases
}

fn one(options: &Options, case: &mut Case, aim: Aim, round: usize) -> Option<Resting> {
    let measured = measure(options, case.kind, case.attack, aim, round as u64);
    let shown = match &measured {
        Ok((measured, _)) => format!(
            "p50 {:.0} us, p99 {:.0} us, worst {:.0} us, lost {}, refused {}, peak {} MiB",
            measured.p50,
            measured.p99,
            measured.worst,
            measured.lost,
            measured.refused,
            measured.memory_peak >> 20
        ),
        Err(failure) => format!("failed: {failure}"),
    };
    let complaint = measured.as_ref().ok().and_then(|(measured, _)| measured.complaint.as_deref());
    let complaint = complaint.map_or_else(String::new, |complaint| format!(" ({complaint})"));
    eprintln!("{}, {}, {aim:?}, round {}: {shown}{complaint}", case.attack.name, case.kind, round + 1);
    match measured {
        Ok((measured, resting)) => {
            match aim {
                Aim::Beside => case.beside.push(measured),
                Aim::Elsewhere => case.elsewhere.push(measured),
            }
            Some(resting)
        }
        Err(failure) => {
            case.failures.push(failure);
            None
        }
    }
}

fn weigh(cases: &mut [Case], rested: Vec<(usize, Resting)>) {
    for (place, rest) in rested {
        match rest.weigh() {
            Ok(remains) => cases[place].remains = Some(remains),
            Err(failure) => cases[place].failures.push(failure.during("weighing it afterwards")),
        }
    }
}
