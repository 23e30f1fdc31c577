//! `rantai conform`: tests whether a node, a caller or a link of a chain keeps PROTOCOL.md.

use std::ffi::OsString;

use clap::ValueEnum;
use rantai_client::wire::name::{ClientId, NameError, ObjectName};
use rantai_conformance::{Examination, ExamineError, Level, Verdict};
use serde_json::{Value, json};

use crate::completing;
use crate::connection::{Broker, log, note, print_json, run};
use crate::exit::{Exit, Failure};
use crate::terminal::print;

const EXAMPLES: &str = "\
Examples:
  rantai conform node lamp --level device              a small device that serves the object of the cases as `lamp`
  rantai conform node cases --level full --json
  rantai conform caller cases -- python3 caller.py     a program that reads calls and writes outcomes
  rantai conform chain my.link --next my.next          a link whose next one is played here

docs/protocol/cases/README.md says what the object, the calling program and the link have to be.

Exit codes: 0 everything passed, 1 something did not, 2 wrong command line, 3 no broker, 4 not allowed, 5 nobody serves it.";

/// Test whether a node, a caller or a link of a chain keeps PROTOCOL.md, in whichever language, on any broker
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Conform {
    #[command(subcommand)]
    what: What,
    /// Only the cases with this text in their name
    #[arg(long, global = true, value_name = "TEXT")]
    case: Option<String>,
    /// Print JSON: each case with its verdict
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

#[derive(clap::Subcommand)]
enum What {
    /// A node that serves the object of the cases
    Node {
        /// The object
        #[arg(value_name = "NAME", add = completing::objects())]
        object: String,
        /// The level of PROTOCOL.md that it implements
        #[arg(long, value_enum, default_value_t = LevelName::Node)]
        level: LevelName,
        /// The node, if several serve the object
        #[arg(long, value_name = "NODE")]
        at: Option<String>,
    },
    /// A program that calls: it reads a call from each line of its stdin, and writes a line with the outcome to stdout
    Caller {
        /// The object that is called, which this command serves
        #[arg(value_name = "NAME")]
        object: String,
        /// The program and its arguments
        #[arg(value_name = "COMMAND", last = true, required = true)]
        command: Vec<OsString>,
    },
    /// A link of a chain
    Chain {
        /// The link
        #[arg(value_name = "NAME", add = completing::objects())]
        object: String,
        /// The next link of its configuration, which this command serves
        #[arg(long, value_name = "NAME")]
        next: String,
        /// What the names of both objects begin with; the rest is the name of the link
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelName {
    /// A small program with a name of its own
    Device,
    /// Serves objects beside other nodes
    Node,
    /// All of PROTOCOL.md
    Full,
}

impl Conform {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.examine())
    }

    async fn examine(self) -> Result<(), Failure> {
        let object = match &self.what {
            What::Node { object, .. } | What::Caller { object, .. } | What::Chain { object, .. } => object,
        };
        let object = ObjectName::new(object).map_err(|error| wrong(&error))?;
        let mut examination = Examination::new(self.broker.address()?, self.broker.root()?, object);
        if let Some(case) = &self.case {
            examination = examination.only(case);
        }
        let has_levels = matches!(self.what, What::Node { .. });
        let told = |verdict: &Verdict| {
            if !self.json {
                tell(verdict, has_levels);
            }
        };
        let verdicts = match &self.what {
            What::Node { level, at, .. } => {
                let level = match level {
                    LevelName::Device => Level::Device,
                    LevelName::Node => Level::Node,
                    LevelName::Full => Level::Full,
                };
                examination = examination.level(level);
                if let Some(node) = at {
                    examination = examination.at(ClientId::new(node).map_err(|error| wrong(&error))?);
                }
                examination.node(told).await
            }
            What::Caller { command, .. } => examination.caller(command, told).await,
            What::Chain { next, prefix, .. } => {
                let next = ObjectName::new(next).map_err(|error| wrong(&error))?;
                examination.prefix(prefix).chain(&next, told).await
            }
        };
        let verdicts = verdicts.map_err(|error| failure(error, &self.broker.shown()))?;
        let failed = verdicts.iter().filter(|verdict| verdict.problem.is_some()).count();
        if self.json {
            print_json(&json!({
                "passed": verdicts.len() - failed, "failed": failed,
                "cases": verdicts.iter().map(as_json).collect::<Vec<_>>(),
            }));
        } else {
            note(&format!("{} of {} cases passed", verdicts.len() - failed, verdicts.len()));
        }
        if failed == 0 { Ok(()) } else { Err(Failure::reported(Exit::Failed)) }
    }
}

/// Prints one verdict, and for what failed the sentence of PROTOCOL.md.
fn tell(verdict: &Verdict, has_levels: bool) {
    let Verdict { file, name, level, rule, heading, problem } = verdict;
    let level = if has_levels { format!("{level:<6}  ") } else { String::new() };
    match problem {
        None => print(&format!("ok    {level}{file}: {name}")),
        Some(problem) => {
            print(&format!("FAIL  {level}{file}: {name}"));
            print(&format!("      step {}: {}", problem.step, problem.text));
            print(&format!("      PROTOCOL.md, {heading:?}: {rule}"));
        }
    }
}

fn as_json(verdict: &Verdict) -> Value {
    let Verdict { file, name, level, rule, heading, problem } = verdict;
    let mut value = json!({
        "file": file, "case": name, "level": level, "passed": problem.is_none(), "heading": heading, "rule": rule,
    });
    if let Some(problem) = problem {
        value["step"] = problem.step.into();
        value["problem"] = problem.text.as_str().into();
    }
    value
}

fn wrong(error: &NameError) -> Failure {
    Failure::from_error(Exit::Usage, error)
}

fn failure(error: ExamineError, broker: &str) -> Failure {
    match error {
        ExamineError::Connect(error) => error.into(),
        error @ (ExamineError::NotServed { .. } | ExamineError::SeveralNodes { .. }) => {
            Failure::from_error(Exit::NotFound, &error).and_then_say(&format!(" ({broker})"))
        }
        error
        @ (ExamineError::NoCase(_) | ExamineError::OnlyDevice { .. } | ExamineError::Program { .. }) => {
            Failure::from_error(Exit::Usage, &error)
        }
        error @ (ExamineError::Subscribe(_) | ExamineError::Publish(_)) => {
            Failure::from_error(Exit::Denied, &error)
        }
        error => Failure::from_error(Exit::Failed, &error),
    }
}
