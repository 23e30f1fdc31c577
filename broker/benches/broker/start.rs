//! What every benchmark of this package does before it measures.

use std::env;
use std::process::ExitCode;

use crate::{child, machine};

/// Runs a benchmark with its options, where there is something to measure: not as a child, for `--help`, or where it was not
/// `cargo bench` that started it.
pub(crate) fn bench<O>(
    descriptors: u64,
    usage: &str,
    parse: impl FnOnce(std::vec::IntoIter<String>) -> Result<O, String>,
    run: impl FnOnce(O) -> ExitCode,
) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    machine::raise_descriptor_limit(descriptors);
    if let [mark, role, rest @ ..] = &arguments[..]
        && mark == child::MARK
    {
        return child::run(role, rest);
    }
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{usage}");
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` runs this without the mark that `cargo bench` sets.
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("nothing measured: run this with cargo bench");
        return ExitCode::SUCCESS;
    }
    match parse(arguments.into_iter()) {
        Ok(options) => run(options),
        Err(mistake) => {
            eprintln!("{mistake}\n\n{usage}");
            ExitCode::from(2)
        }
    }
}
