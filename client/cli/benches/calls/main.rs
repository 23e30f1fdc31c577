//! Measures calls from client through broker to node and back, each as a separate process, compared with a plain TCP
//! relay with two hops, and writes docs/performance-calls.md.
//!
//! `cargo bench -p rantai-cli` is the whole run; `-- --quick` a short one that writes nothing, `-- --only NAME` those
//! rows whose name has NAME in it, `-- --pyro PYTHON` adds Pyro5's circular example, run by that interpreter.

mod load;
#[expect(dead_code, reason = "shared with the other benchmark")]
mod processes;
mod relay;
mod report;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use load::{Bench, Idle, Row};
use rantai_load::machine;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Options of the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    quick: bool,
    only: String,
    pyro: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mark, role, address] = &arguments[..]
        && mark == relay::MARK
    {
        return relay::run(role, address);
    }
    // `cargo test --benches` runs this without the mark that `cargo bench` sets.
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("nothing measured: run this with cargo bench");
        return ExitCode::SUCCESS;
    }
    let mut options = Options::default();
    let mut rest = arguments.iter().filter(|a| *a != "--bench");
    while let Some(argument) = rest.next() {
        match (argument.as_str(), rest.clone().next()) {
            ("--quick", _) => options.quick = true,
            ("--only", Some(name)) => {
                options.only.clone_from(name);
                rest.next();
            }
            ("--pyro", Some(python)) => {
                options.pyro = Some(python.into());
                rest.next();
            }
            _ => {
                eprintln!("{argument:?}: the options are --quick, --only NAME and --pyro PYTHON");
                return ExitCode::from(2);
            }
        }
    }
    let machine = machine::describe();
    let (rows, idle) = match measure(&options) {
        Ok(measured) => measured,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let text = report::write(&rows, idle, &machine);
    println!("{text}");
    if !options.quick && options.only.is_empty() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance-calls.md");
        if let Err(error) = std::fs::write(file, text) {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(options: &Options) -> io::Result<(Vec<Row>, Option<Idle>)> {
    let bench = Bench::start(options.clone())?;
    let mut rows = bench.run();
    let idle = if options.only.is_empty() { bench.idle()? } else { None };
    drop(bench);
    // All processes on one core: the cost of a call, independent of the scheduler.
    stay_on_one_core()?;
    rows.extend(Bench::start(options.clone())?.one_by_one(", one core"));
    Ok((rows, idle))
}

/// Binds this process, and those that it starts from now on, to one core.
fn stay_on_one_core() -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).unwrap_or(0);
    let mut one = CpuSet::new();
    one.set(first);
    Ok(sched_setaffinity(None, &one)?)
}
