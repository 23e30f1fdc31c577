//! The tables, in Markdown, and their place in docs/performance.md.

use std::fmt::Write as _;
use std::fs;

use crate::comparison::{Cell, Comparison, Kind};
use crate::failure::Failure;
use crate::load::Plan;
use crate::measure::Summary;
use crate::{Programs, machine, process};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance.md");
/// What is between these lines of the page is written by a run.
const FROM: &str = "<!-- from here on: .ci/compare -->\n";
const TO: &str = "<!-- to here: .ci/compare -->\n";

/// The subject that the others are compared with, in each kind of table.
const OURS: &str = "Rantai, QoS 0";

/// Machine and versions, before anything runs.
pub(crate) fn machine(programs: &Programs) -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let server = |name: &str, argument: &str| {
        process::find(name).map_or_else(
            || format!("{name} not installed"),
            |program| process::version(&program, &[argument]).replace(" version ", " ").replace(": v", " "),
        )
    };
    let lock = include_str!("../Cargo.lock");
    let python = "import platform, Pyro5, serpent; \
                  print('Pyro5', Pyro5.__version__, 'with serpent', serpent.__version__, 'on Python', platform.python_version())";
    format!(
        "{} Load average before: {}.\n{}, {}, {}, async-nats {}, tonic {} with prost {}, {}.\n",
        machine::describe(),
        load.split_whitespace().next().unwrap_or("unknown"),
        process::version(&programs.rantai, &["--version"]),
        server("mosquitto", "-h"),
        server("nats-server", "--version"),
        locked(lock, "async-nats"),
        locked(lock, "tonic"),
        locked(lock, "prost"),
        process::version(&programs.python, &["-c", python]),
    )
}

/// The version of a package in Cargo.lock.
fn locked<'a>(lock: &'a str, package: &str) -> &'a str {
    let entry = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&entry).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown")
}

/// All tables.
pub(crate) fn write(comparison: &Comparison, machine: &str, plan: Plan) -> String {
    let rounds = comparison.cells.iter().map(|cell| cell.rounds.len()).max().unwrap_or(0);
    let mut out = format!(
        "{machine}\n{rounds} rounds of {} s for each row, after {} s of warm-up. Cells: median (least to most) of the \
         rounds; ratios: median of those\nround by round. CPU: all rounds together. What did not take part used {:.0} % of all cores while calls were measured.\n",
        plan.length.as_secs_f64(),
        plan.warm_up.as_secs_f64(),
        others(comparison) * 100.0,
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

/// The part of all cores that was used by processes that had none in the load.
fn others(comparison: &Comparison) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let calls = comparison.cells.iter().flat_map(|cell| &cell.rounds).filter(|round| round.outcome.made > 0);
    let (used, time) = calls.fold((0.0, 0.0), |(used, time), round| {
        let [host, took] = round.host;
        (used + host - round.cpu.iter().sum::<f64>(), time + took)
    });
    used / time / cores
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
            summary(cell.rounds.iter().filter_map(|round| round.outcome.latency.map(value)))
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
    cell.rounds.iter().map(|round| round.outcome.rate)
}

fn summary(values: impl Iterator<Item = f64>) -> Option<Summary> {
    Summary::of(&values.collect::<Vec<_>>())
}

/// Of the rates, round by round.
fn ratio(cell: &Cell, to: Option<&Cell>) -> String {
    let ratios = to.map(|to| rates(cell).zip(rates(to)).map(|(left, right)| left / right));
    match ratios.and_then(summary) {
        Some(ratios) if ratios.median < 10.0 => format!("{:.2}", ratios.median),
        Some(ratios) => format!("{:.1}", ratios.median),
        None => "-".to_owned(),
    }
}

fn cpu(cell: &Cell) -> String {
    let made: u64 = cell.rounds.iter().map(|round| round.outcome.made).sum();
    let each = |part: usize| cell.rounds.iter().map(|round| round.cpu[part]).sum::<f64>() / made as f64;
    let shown = |part: usize| {
        let time = each(part);
        if time == 0.0 { "-".to_owned() } else { format!("{time:.1}") }
    };
    format!("{} + {} + {} = {:.1}", shown(0), shown(1), shown(2), each(0) + each(1) + each(2))
}

fn spread(summary: Option<Summary>, digits: usize) -> String {
    let Some(Summary { median, low, high }) = summary else {
        return "-".to_owned();
    };
    let number = |value: f64| grouped(&format!("{value:.digits$}"));
    format!("{} ({} to {})", number(median), number(low), number(high))
}

/// With a comma between thousands.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// Puts the tables into the page, where the last ones are.
pub(crate) fn keep(text: &str) -> Result<(), Failure> {
    let page = fs::read_to_string(PAGE)?;
    let place = page.split_once(FROM).and_then(|(before, rest)| Some((before, rest.split_once(TO)?.1)));
    let (before, after) =
        place.ok_or_else(|| Failure::new("docs/performance.md has no place for the tables"))?;
    fs::write(PAGE, format!("{before}{FROM}\n{text}\n{TO}{after}"))?;
    eprintln!("docs/performance.md is written");
    Ok(())
}
