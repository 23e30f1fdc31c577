//! Comparison of the broker with mosquitto, rumqttd and a plain TCP relay; writes docs/performance.md from "The
//! broker" on.
//!
//! Every target is a process of its own and gets the same load from this one: hand-written packets over blocking
//! sockets. `cargo bench -p rantai-broker -- --help` lists the options.

mod bench;
mod child;
mod cores;
mod machine;
mod options;
mod relay;
mod report;
mod scenarios;
mod start;
mod target;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use bench::Bench;
use options::{Options, USAGE};

/// Same allocator as in `rantai`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Path of the report.
const REPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");
/// Number of file descriptors for 10,000 connections, and some more.
const DESCRIPTORS: u64 = 12_000;

fn main() -> ExitCode {
    start::bench(DESCRIPTORS, USAGE, Options::parse, run)
}

fn run(options: Options) -> ExitCode {
    let machine = machine::describe();
    let only = options.only.clone().unwrap_or_default();
    let chosen: Vec<_> = scenarios::ALL.iter().filter(|(name, _)| name.contains(&only)).collect();
    if chosen.is_empty() {
        let names = scenarios::ALL.map(|(name, _)| name).join(", ");
        eprintln!("no scenario is called {only}; there are {names}");
        return ExitCode::from(2);
    }
    let bench = Bench { options };
    let started = Instant::now();
    let tables: Vec<_> = chosen
        .into_iter()
        .map(|(name, scenario)| {
            eprintln!("{name}");
            scenario(&bench)
        })
        .collect();
    let report = report::write(&machine, &bench.options, &tables, started.elapsed());
    if !bench.options.writes_report() {
        println!("{report}");
        return ExitCode::SUCCESS;
    }
    let path = Path::new(REPORT);
    let page = fs::read_to_string(path).unwrap_or_default();
    let page = report::place(&page, &report);
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, page));
    match written {
        Ok(()) => {
            println!("docs/performance.md is written");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("docs/performance.md cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}
