//! Calls on Rantai beside calls on Pyro5, NATS and gRPC, and its broker beside mosquitto: in one run, on one machine,
//! in rounds of short loads that alternate. `.ci/compare` installs what is needed, builds and runs it.

mod against;
mod child;
mod comparison;
mod grpc;
mod load;
mod nats;
mod process;
mod pyro;
mod rantai;
mod report;
mod script;
mod stock;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use against::{Against, Other};
use comparison::Comparison;
use load::Plan;
use rantai_load::failure::Failure;

const USAGE: &str = "\
usage: .ci/compare [--quick] [--only NAME]
       .ci/compare --against REVISION [--quick] [--rows NAME]
       .ci/compare --rules [--quick] [--rows NAME]

  --quick             few and short rounds, under two minutes; prints the tables
  --only NAME         subjects whose name contains NAME; prints the tables
  --against REVISION  another revision of Rantai instead of the others; prints a table
  --rules             a broker with users and access rules beside one without; prints a table
  --rows NAME         rows of these whose name contains NAME

Without them the tables are written into docs/performance.md.";

/// Paths of the `rantai` binary, and of a Python with Pyro5.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) rantai: PathBuf,
    pub(crate) python: PathBuf,
}

/// Command-line options.
#[derive(Clone, Debug)]
struct Options {
    programs: Programs,
    quick: bool,
    only: String,
    /// Subject that this revision is compared with, instead of other systems.
    against: Option<Other>,
    rows: String,
}

impl Options {
    fn parse(arguments: &[String]) -> Option<Self> {
        let (mut rantai, mut python, mut against) = (None, None, None);
        let (mut quick, mut only, mut rows) = (false, String::new(), String::new());
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => quick = true,
                "--only" => only.clone_from(arguments.next()?),
                "--rows" => rows.clone_from(arguments.next()?),
                "--against" => against = Some(Other::Revision(arguments.next()?.into())),
                "--rules" => against = Some(Other::WithoutRules),
                "--rantai" => rantai = Some(PathBuf::from(arguments.next()?)),
                "--python" => python = Some(PathBuf::from(arguments.next()?)),
                _ => return None,
            }
        }
        Some(Self { programs: Programs { rantai: rantai?, python: python? }, quick, only, against, rows })
    }

    /// Returns whether the results are written to the page.
    fn whole(&self) -> bool {
        !self.quick && self.only.is_empty()
    }

    fn plan(&self) -> Plan {
        let (warm_up, length) = if self.quick { (50, 200) } else { (100, 400) };
        Plan { warm_up: Duration::from_millis(warm_up), length: Duration::from_millis(length) }
    }

    fn rounds(&self) -> usize {
        if self.quick { 5 } else { 15 }
    }

    /// Returns the time after which no more rounds begin, and the time after which the run is aborted.
    fn limits(&self) -> (Duration, Duration) {
        let (soft, hard) = if self.quick { (80, 115) } else { (400, 470) };
        (Duration::from_secs(soft), Duration::from_secs(hard))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mark, role, rest @ ..] = &arguments[..]
        && mark == child::MARK
    {
        return child::run(role, rest);
    }
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(options) = Options::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every subject was measured without a failure.
fn run(options: &Options) -> Result<bool, Failure> {
    if let Some(other) = &options.against {
        let against = Against { other: other.clone(), quick: options.quick, rows: options.rows.clone() };
        end_after(against.limit());
        return against.run(&options.programs);
    }
    let began = Instant::now();
    let (soft, hard) = options.limits();
    end_after(hard);
    let machine = report::machine(&options.programs);
    let mut comparison = Comparison::start(&options.programs)?;
    if options.whole()
        && let Some((subject, failure)) = comparison.missing.first()
    {
        return Err(Failure::new(format!("{subject} is missing: {failure}")));
    }
    comparison.cells.retain(|cell| cell.subject.contains(&options.only));
    let rounds = options.rounds();
    for round in 1..=rounds {
        if began.elapsed() > soft {
            eprintln!("no time for more than {} rounds", round - 1);
            break;
        }
        eprintln!("round {round} of {rounds}, after {} s", began.elapsed().as_secs());
        for cell in &mut comparison.cells {
            cell.run(options.plan());
        }
    }
    let text = report::write(&comparison, &machine, options.plan());
    println!("{text}");
    let whole = comparison.missing.is_empty() && comparison.cells.iter().all(|cell| cell.failures.is_empty());
    if options.whole() {
        if !whole {
            return Err(Failure::new("docs/performance.md stays as it is: a load failed"));
        }
        report::keep(&text)?;
    }
    Ok(whole)
}

/// Exits this process after `limit`, whatever it is doing.
fn end_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("ended: the run took longer than {} s", limit.as_secs());
        // The children exit when their stdin is closed.
        std::process::exit(1);
    });
}
