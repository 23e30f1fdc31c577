//! The rows as a page.

use std::fmt::Write as _;

use crate::load::{Aim, Row};

pub(crate) fn write(rows: &[Row], machine: &str) -> String {
    let mut page = String::from(
        "# Calls, measured\n\nWritten by `cargo bench -p rantai-cli`. Client, broker and node are processes of their own on one \
         machine; a call\nis `echo.echo` with a text of the size given, JSON on both ways included. The relay forwards the same \
         bytes between\ntwo plain TCP connections and knows nothing of messages. Medians of interleaved rounds; the spread of \
         rates is their\nleast and most.\n\n",
    );
    let _ = writeln!(page, "{}\n", machine.trim());
    page.push_str("| Load | p50 us | p99 us | calls/s (least to most) | beside | ratio | aim |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let (rate, least, most) = row.rate;
        let (beside, ratio) = match &row.baseline {
            Some(b) => (format!("{}: {:.1} us", b.what, b.p50), format!("{:.2}", b.ratio)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let met = |right: bool| if right { "met" } else { "missed" };
        let aim = match (row.aim, &row.baseline) {
            (Some(Aim::Ratio(aim)), Some(b)) => format!("at most {aim}: {}", met(b.ratio <= aim)),
            (Some(Aim::Rate(aim)), _) => format!("at least {aim}/s: {}", met(rate >= aim)),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            page,
            "| {} | {:.1} | {:.1} | {rate:.0} ({least:.0} to {most:.0}) | {beside} | {ratio} | {aim} |",
            row.name, row.p50, row.p99
        );
    }
    page
}
