//! Tables in Markdown, and the section of docs/performance.md that contains them.

use std::fmt::Write as _;
use std::fs;

use rantai_load::failure::Failure;
use rantai_load::machine;
use rantai_load::report;
use rantai_load::spread::Spread;

use crate::comparison::{Cell, Comparison, ENOUGH, Kind, NOISE, Round};
use crate::load::Plan;
use crate::{Programs, process};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance.md");
/// Lines of the page around the section that each run replaces.
const FROM: &str = "<!-- from here on: .ci/compare -->\n";
const TO: &str = "<!-- to here: .ci/compare -->\n";

/// Subject that the others are compared with, in each kind of table.
const OURS: &str = "Rantai, QoS 0";

/// Returns machine and versions, before any process runs.
pub(crate) fn machine(programs: &Programs) -> String {
    let server = |name: &str, argument: &str| {
        process::find(name).map_or_else(
            || format!("{name} not installed"),
            |program| process::version(&program, &[argument]).replace(" version ", " ").replace(": v", " "),
        )
    };
    let lock = include_str!("../Cargo.lock");
    let python = "import platform, Pyro5, serpent, paho.mqtt; \
                  print('paho', paho.mqtt.__version__ + ',', 'Pyro5', Pyro5.__version__, 'with serpent', serpent.__version__, 'on Python', platform.python_version())";
    format!(
        "{} Load average before: {}.\n{}, {}, {}, async-nats {}, tonic {} with prost {}, {}.\n",
        machine::describe(),
        machine::load_average(),
        process::version(&programs.rantai, &["--version"]),
        server("mosquitto", "-h"),
        server("nats-server", "--version"),
        locked(lock, "async-nats"),
        locked(lock, "tonic"),
        locked(lock, "prost"),
        process::version(&programs.python, &["-c", python]),
    )
}

/// Returns the version of a package in Cargo.lock.
fn locked<'a>(lock: &'a str, package: &str) -> &'a str {
    let entry = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&entry).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown")
}

/// Returns all tables.
pub(crate) fn write(comparison: &Comparison, machine: &str, plan: Plan) -> String {
    let rounds = comparison.cells.iter().map(|cell| cell.rounds.len()).max().unwrap_or(0);
    let (all, quiet, [fewest, most]) = others(comparison);
    let mut out = format!(
        "{machine}\n{rounds} rounds of {} s for each row, after {} s of warm-up. What had no part in a load used {all:.0} % of all cores \
         meanwhile. Where it was\nmore than {:.0} % a round does not count, if {ENOUGH} others are left: {fewest} to {most} \
         of each row do, with {quiet:.0} %. Cells: median (least to most)\nof those rounds; ratios: of the medians. CPU: \
         those rounds together.\n",
        plan.length.as_secs_f64(),
        plan.warm_up.as_secs_f64(),
        NOISE * 100.0,
    );
    for (title, in_flight, one_core) in [
        ("One call in flight", 1, false),
        ("One call in flight, all on one core", 1, true),
        ("64 calls in flight", 64, false),
    ] {
        write_calls(&mut out, title, "calls/s", &of(comparison, Kind::Calls { in_flight, one_core }));
    }
    write_calls(
        &mut out,
        "Three links and back to the first, one trip in flight",
        "trips/s",
        &of(comparison, Kind::Chain),
    );
    write_calls(
        &mut out,
        "Clients as they come, one call in flight, QoS 1",
        "calls/s",
        &of(comparison, Kind::Stock),
    );
    write_fans(&mut out, comparison);
    for (subject, failure) in &comparison.missing {
        let _ = writeln!(out, "\n**{subject} is missing**: {failure}.");
    }
    for cell in &comparison.cells {
        if let Some(failure) = cell.failures.last() {
            let times = cell.failures.len();
            let _ = writeln!(
                out,
                "\n**{} failed** {times} times ({:?}), last: {failure}.",
                cell.subject, cell.kind
            );
        }
    }
    out
}

/// Returns the share of all cores that other processes used, in percent: in all rounds, and in those that count; and the
/// minimum and maximum number of rounds that count per row.
fn others(comparison: &Comparison) -> (f64, f64, [usize; 2]) {
    let mean = |rounds: Vec<&Round>| {
        rounds.iter().map(|round| round.others).sum::<f64>() * 100.0 / rounds.len().max(1) as f64
    };
    let all = comparison.cells.iter().flat_map(|cell| &cell.rounds).collect();
    let quiet = comparison.cells.iter().flat_map(Cell::quiet).collect();
    let counts = || comparison.cells.iter().map(|cell| cell.quiet().len());
    (mean(all), mean(quiet), [counts().min().unwrap_or(0), counts().max().unwrap_or(0)])
}

fn of(comparison: &Comparison, kind: Kind) -> Vec<&Cell> {
    comparison.cells.iter().filter(|cell| cell.kind == kind && !cell.rounds.is_empty()).collect()
}

fn write_calls(out: &mut String, title: &str, unit: &str, cells: &[&Cell]) {
    let _ = write!(
        out,
        "\n| {title} | {unit} | × Rantai, QoS 0 | p50 (µs) | p99 (µs) | CPU (µs each): client + broker + server |\n\
         |---|---:|---:|---:|---:|---:|\n"
    );
    let ours = cells.iter().find(|cell| cell.subject == OURS);
    for cell in cells {
        let column = |value: fn((f64, f64)) -> f64| {
            summary(cell.quiet().into_iter().filter_map(|round| round.outcome.latency.map(value)))
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            cell.subject,
            spread(summary(rates(cell)), 0),
            ratio(cell, ours.copied()),
            spread(column(|(p50, _)| p50), 1),
            spread(column(|(_, p99)| p99), 1),
            cpu(cell),
        );
    }
}

fn write_fans(out: &mut String, comparison: &Comparison) {
    out.push_str("\n| Messages delivered a second, 100 B | Rantai | mosquitto | Rantai / mosquitto |\n|---|---:|---:|---:|\n");
    for (kind, name) in [
        (Kind::FanOut { qos: 0 }, "one publisher to 100 subscribers, QoS 0"),
        (Kind::FanOut { qos: 1 }, "one publisher to 100 subscribers, QoS 1"),
        (Kind::FanIn { qos: 0 }, "100 publishers to one subscriber, QoS 0"),
        (Kind::FanIn { qos: 1 }, "100 publishers to one subscriber, QoS 1"),
    ] {
        let cells = of(comparison, kind);
        if let [ours, theirs] = cells[..] {
            let (left, right) = (spread(summary(rates(ours)), 0), spread(summary(rates(theirs)), 0));
            let _ = writeln!(out, "| {name} | {left} | {right} | {} |", ratio(ours, Some(theirs)));
        }
    }
}

fn rates(cell: &Cell) -> impl Iterator<Item = f64> {
    cell.quiet().into_iter().map(|round| round.outcome.rate)
}

fn summary(values: impl Iterator<Item = f64>) -> Option<Spread> {
    Spread::of(&values.collect::<Vec<_>>())
}

/// Returns the ratio of the medians of both rates.
fn ratio(cell: &Cell, to: Option<&Cell>) -> String {
    let median = |cell| summary(rates(cell)).map(|rates| rates.median);
    match median(cell).zip(to.and_then(median)).map(|(left, right)| left / right) {
        Some(ratio) if ratio < 10.0 => format!("{ratio:.2}"),
        Some(ratio) => format!("{ratio:.1}"),
        None => "-".to_owned(),
    }
}

fn cpu(cell: &Cell) -> String {
    let rounds = cell.quiet();
    let made: u64 = rounds.iter().map(|round| round.outcome.made).sum();
    let each = |part: usize| rounds.iter().map(|round| round.cpu[part]).sum::<f64>() / made as f64;
    let shown = |part: usize| {
        let time = each(part);
        if time == 0.0 { "-".to_owned() } else { format!("{time:.1}") }
    };
    format!("{} + {} + {} = {:.1}", shown(0), shown(1), shown(2), each(0) + each(1) + each(2))
}

fn spread(summary: Option<Spread>, digits: usize) -> String {
    summary.map_or_else(|| "-".to_owned(), |summary| report::spread(summary, digits))
}

/// Replaces the tables in the page.
pub(crate) fn keep(text: &str) -> Result<(), Failure> {
    let page = fs::read_to_string(PAGE)?;
    let page = report::replace_section(&page, FROM, Some(TO), text)
        .ok_or_else(|| Failure::new("docs/performance.md has no place for the tables"))?;
    fs::write(PAGE, page)?;
    eprintln!("docs/performance.md is written");
    Ok(())
}
