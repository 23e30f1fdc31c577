//! Start of every benchmark of this package.

use std::env;
use std::process::ExitCode;

use crate::{child, machine};

/// Runs a benchmark with its options, unless the process is a child, was started with `--help`, or was not started by
/// `cargo bench`.
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
    // `cargo test --benches` runs this without the argument that `cargo bench` passes.
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
