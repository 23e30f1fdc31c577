//! Report in Markdown.

use std::fmt::Write as _;

use rantai_load::report::spread;
use rantai_load::spread::{Spread, median};

use crate::brokers::{Kind, Transport};
use crate::loads::Figures;
use crate::options::Options;

type Pick = Box<dyn Fn(&Figures) -> f64>;

pub(crate) fn write(machine: &str, options: &Options, kinds: &[Kind], rounds: &[Vec<Figures>]) -> String {
    let mut out = format!(
        "{machine}\nEach cell is the median of {} rounds of {} s, with the lowest and the highest.\n\n| |",
        options.rounds,
        options.sample.as_secs_f64()
    );
    for kind in kinds {
        let _ = write!(out, " {kind} |");
    }
    let _ = writeln!(out, "\n|---|{}", "---:|".repeat(kinds.len()));
    for (part, label, digits, pick) in rows() {
        if !options.has(part) {
            continue;
        }
        let _ = write!(out, "| {label} |");
        for rounds in rounds {
            let values: Vec<_> = rounds.iter().map(&pick).collect();
            let cell = Spread::of(&values).map_or_else(|| "-".to_owned(), |of| spread(of, digits));
            let _ = write!(out, " {cell} |");
        }
        out.push('\n');
    }
    let ours = &rounds[0];
    out.push_str("\n| Aim, of the medians | Measured | |\n|---|---:|---|\n");
    for (part, label, digits, is_met, pick) in aims() {
        if options.has(part) {
            // Ratio of the medians, not the median of the ratios.
            let value = pick(ours);
            let verdict = if is_met(value) { "met" } else { "**missed**" };
            let _ = writeln!(out, "| {label} | {value:.digits$} | {verdict} |");
        }
    }
    out
}

fn rows() -> Vec<(&'static str, String, usize, Pick)> {
    let mut rows: Vec<(_, _, _, Pick)> = Vec::new();
    for transport in Transport::ALL {
        let label = format!("calls a second over {transport}, 64 in flight");
        rows.push(("calls", label, 0, Box::new(move |it| it.calls[transport as usize])));
    }
    for transport in Transport::ALL {
        let label = format!("p50 of a call over {transport}, one in flight (µs)");
        rows.push(("latency", label, 1, Box::new(move |it| it.latency[transport as usize])));
    }
    rows.push((
        "handshakes",
        "TLS connections a second, to CONNACK".to_owned(),
        0,
        Box::new(|it| it.handshakes),
    ));
    rows.push(("idle", "an idle connection over TCP (KiB)".to_owned(), 2, Box::new(|it| it.idle[0])));
    rows.push(("idle", "an idle connection over TLS (KiB)".to_owned(), 2, Box::new(|it| it.idle[1])));
    for (place, what) in ["no flood", "another broker flooded", "its broker flooded"].into_iter().enumerate()
    {
        let label = format!("p99 of an echo over TLS, {what} (µs)");
        rows.push(("flood", label, 1, Box::new(move |it| it.flood[place])));
    }
    rows.push(("flood", "handshakes of the flood a second".to_owned(), 0, Box::new(|it| it.flooded)));
    rows
}

type Aim = (&'static str, &'static str, usize, fn(f64) -> bool, fn(&[Figures]) -> f64);

fn aims() -> [Aim; 5] {
    fn of(rounds: &[Figures], pick: impl Fn(&Figures) -> f64) -> f64 {
        median(rounds.iter().map(pick))
    }
    [
        (
            "calls",
            "calls over TLS: at least 0.7 × TCP",
            2,
            |it| it >= 0.7,
            |rounds| of(rounds, |it| it.calls[1]) / of(rounds, |it| it.calls[0]),
        ),
        (
            "latency",
            "p50 over TLS: at most 1.4 × TCP",
            2,
            |it| it <= 1.4,
            |rounds| of(rounds, |it| it.latency[1]) / of(rounds, |it| it.latency[0]),
        ),
        (
            "handshakes",
            "TLS connections: at least 500 a second",
            0,
            |it| it >= 500.0,
            |rounds| of(rounds, |it| it.handshakes),
        ),
        (
            "idle",
            "an idle connection over TLS: at most 16 KiB",
            2,
            |it| it <= 16.0,
            |rounds| of(rounds, |it| it.idle[1]),
        ),
        (
            "flood",
            "p99 with its broker flooded: at most 3 × another flooded",
            2,
            |it| it <= 3.0,
            |rounds| of(rounds, |it| it.flood[2]) / of(rounds, |it| it.flood[1]),
        ),
    ]
}
