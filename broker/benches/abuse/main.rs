//! Effects of hostile and careless clients on honest ones, and what they leave behind; writes docs/abuse.md.
//!
//! Every attack is made on the broker of the honest clients and, in turn, on another broker on the same machine. The
//! difference between the two is caused by the broker, not by the load on the shared cores. `cargo bench -p
//! rantai-broker --bench abuse -- --help` lists the options.

mod attacks;
mod brokers;
/// Same allocator as in `rantai`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "../broker/child.rs"]
mod child;
#[path = "../broker/cores.rs"]
mod cores;
mod honest;
#[path = "../broker/machine.rs"]
mod machine;
mod measure;
mod options;
#[path = "../broker/relay.rs"]
mod relay;
mod report;
mod rounds;
#[path = "../broker/start.rs"]
mod start;
#[path = "../broker/target.rs"]
#[expect(dead_code, reason = "the other benchmark starts more kinds of servers")]
mod target;
mod wire;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use attacks::Attack;
use options::{Options, USAGE};

/// Path of the report.
const REPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/abuse.md");
/// Number of file descriptors for the connections of the largest attack, and some more.
const DESCRIPTORS: u64 = 12_000;

fn main() -> ExitCode {
    start::bench(DESCRIPTORS, USAGE, Options::parse, |options| run(&options))
}

fn run(options: &Options) -> ExitCode {
    let chosen = match choose(options.scenario.as_deref()) {
        Ok(chosen) => chosen,
        Err(mistake) => {
            eprintln!("{mistake}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        for attack in chosen {
            println!("{:32} {}", attack.name, attack.does);
        }
        return ExitCode::SUCCESS;
    }
    let machine = machine::describe();
    let began = Instant::now();
    let cases = rounds::run(options, &chosen);
    let report = report::write(&machine, options, &cases, began.elapsed());
    let written = if options.writes_report() { replace_report(&report.text) } else { Ok(()) };
    match written {
        Ok(()) if options.writes_report() => println!("{}\ndocs/abuse.md is written", report.aims),
        Ok(()) => println!("{}", report.text),
        Err(error) => {
            eprintln!("docs/abuse.md cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    // Times depend on the machine; lost and refused messages do not.
    if report.harmed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Returns the attack of this name, or else all whose names contain it.
fn choose(name: Option<&str>) -> Result<Vec<Attack>, String> {
    let name = name.unwrap_or_default();
    if let Some(attack) = attacks::ALL.iter().find(|attack| attack.name == name) {
        return Ok(vec![*attack]);
    }
    let chosen: Vec<_> = attacks::ALL.into_iter().filter(|attack| attack.name.contains(name)).collect();
    if chosen.is_empty() {
        return Err(format!("no scenario is called {name}; --list names them"));
    }
    Ok(chosen)
}

fn replace_report(text: &str) -> std::io::Result<()> {
    let path = Path::new(REPORT);
    let page = fs::read_to_string(path).unwrap_or_default();
    fs::write(path, report::place(&page, text))
}
