//! Report of the rows, as a Markdown page.

use std::fmt::Write as _;

use rantai_load::report::spread;

use crate::load::{Aim, Idle, Row};

const HEAD: &str = "\
# Calls, measured

Written by `cargo bench -p rantai-cli -- --pyro PYTHON`. Client, broker and node are processes of their own on one
machine; a call is `echo.echo` with a text of the size given, JSON on both ways included. The relay forwards as many
bytes between two plain TCP connections, with as many messages under way, and knows nothing of messages. Medians of
interleaved rounds of 0.4 s; the spread of rates is their least and most. With one call at a time the scheduler decides
most of it: the same program, and the relay, take twice as long or not by which core they wake up on. In the rows named
\"one core\" every process shares one, which leaves what the programs and the kernel do for a call.

";

pub(crate) fn write(rows: &[Row], idle: Option<Idle>, machine: &str) -> String {
    let mut page = HEAD.to_owned();
    let _ = writeln!(page, "{}\n", machine.trim());
    page.push_str("| Load | p50 us | p99 us | calls/s (least to most) | beside | ratio | aim |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let (beside, ratio) = match &row.baseline {
            Some(b) => (format!("{}: {:.1} us", b.what, b.p50), format!("{:.2}", b.ratio)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let met = |right: bool| if right { "met" } else { "missed" };
        let aim = match (row.aim, &row.baseline) {
            (Some(Aim::Ratio(aim)), Some(b)) => format!("at most {aim}: {}", met(b.ratio <= aim)),
            (Some(Aim::Rate(aim)), _) => format!("at least {aim}/s: {}", met(row.rate.median >= aim)),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            page,
            "| {} | {:.1} | {:.1} | {} | {beside} | {ratio} | {aim} |",
            row.name,
            row.p50,
            row.p99,
            spread(row.rate, 0)
        );
    }
    if let Some(Idle { process: (own, whole), client }) = idle {
        let met = if own < 2_048 { "met" } else { "missed" };
        let _ = writeln!(
            page,
            "\nAn idle client: {own} KiB of its own as a process (`rantai watch`; {whole} KiB with the pages of the program), \
             {client:.1} KiB\neach for a thousand in one process. Aim: under 2 MiB: {met}."
        );
    }
    page
}
