//! Cost of TLS and WebSocket, compared with mosquitto: calls, latency, handshakes, memory of idle connections, and the
//! effect of a flood of handshakes on an honest client. Prints a table; `cargo bench -p rantai-broker --bench tls --
//! --help` lists the options.

mod brokers;
/// Same allocator as in `rantai`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "../broker/child.rs"]
mod child;
#[path = "../broker/cores.rs"]
mod cores;
mod flood;
mod layers;
mod loads;
#[path = "../broker/machine.rs"]
mod machine;
mod options;
#[path = "../broker/relay.rs"]
mod relay;
mod report;
#[path = "../broker/start.rs"]
mod start;
#[path = "../broker/target.rs"]
#[expect(dead_code, reason = "the first benchmark starts more kinds of servers")]
mod target;

use std::process::ExitCode;

use brokers::{Certificates, Kind};
use loads::Figures;
use options::{Options, USAGE};
use rantai_load::failure::Failure;

/// Number of file descriptors for the idle connections, and some more.
const DESCRIPTORS: u64 = 4_000;

fn main() -> ExitCode {
    start::bench(DESCRIPTORS, USAGE, Options::parse, |options| match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    })
}

fn run(options: &Options) -> Result<(), Failure> {
    let machine = machine::describe();
    let certificates = Certificates::new()?;
    let kinds = Kind::chosen();
    let mut rounds: Vec<Vec<Figures>> = kinds.iter().map(|_| Vec::new()).collect();
    for round in 1..=options.rounds {
        for (kind, rounds) in kinds.iter().zip(&mut rounds) {
            eprintln!("round {round} of {}: {kind}", options.rounds);
            let figures = loads::measure(*kind, &certificates, options);
            rounds.push(figures.map_err(|failure| failure.during(&kind.to_string()))?);
        }
    }
    println!("{}", report::write(&machine, options, &kinds, &rounds));
    Ok(())
}
