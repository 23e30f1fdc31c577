//! What every benchmark of this package does before it measures.

use std::env;
use std::process::ExitCode;

use crate::{child, machine};

/// Returns the benchmark's arguments. Where nothing is to be measured it returns how the program ends: as a child when its
/// role is over, after `--help`, and where it was not `cargo bench` that started it.
pub(crate) fn arguments(descriptors: u64, usage: &str) -> Result<Vec<String>, ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    machine::raise_descriptor_limit(descriptors);
    if let [mark, role, rest @ ..] = &arguments[..]
        && mark == child::MARK
    {
        return Err(child::run(role, rest));
    }
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{usage}");
        return Err(ExitCode::SUCCESS);
    }
    // `cargo test --benches` runs this without the mark that `cargo bench` sets.
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("nothing measured: run this with cargo bench");
        return Err(ExitCode::SUCCESS);
    }
    Ok(arguments)
}
