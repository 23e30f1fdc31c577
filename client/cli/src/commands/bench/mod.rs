//! `rantai bench`: puts load on any broker and its objects, and measures it.
//!
//! | Module | Content |
//! |---|---|
//! | `call` `publish` `task` `file` `replicas` `insult` | The loads: one subcommand each, and chains beside calls |
//! | `board` | Messages that have not reached all subscribers yet |
//! | `nodes` | Processes that serve replicas |
//! | `options` | Options common to all runs; begin and end of a run |
//! | `load` | The workers that make the calls, when `rantai_load::pace` says that a call is due |
//! | `tally` | Results of the calls, in a fixed amount of memory |
//! | `report` `plot` `compare` | Output of the results |

mod board;
mod call;
mod compare;
mod file;
mod insult;
mod load;
mod nodes;
mod options;
mod plot;
mod publish;
mod replicas;
mod report;
mod tally;
mod task;

use crate::connection::{log, run};
use crate::exit::Failure;

/// Measure calls, messages, tasks and files.
///
/// Makes as many calls as it can with so many under way (closed loop), or with --rate so many a second, begun on
/// time whatever becomes of the others (open loop). Ctrl-C ends it early, and what was measured is told.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rantai bench call                                    echo.echo, 64 calls under way
  rantai bench call calculator.add 2 3 --rate 1000     latencies at 1000 calls a second
  rantai bench call --save before.json                 and after a change:
  rantai bench call --compare before.json --fail-below 0.9

Exit codes: 0 measured, 1 every call failed, or slower than --fail-below, 2 wrong command line, 3 no broker.")]
pub(crate) struct Bench {
    #[command(subcommand)]
    load: Load,
}

#[derive(clap::Subcommand)]
enum Load {
    Call(call::Call),
    Chain(call::Chain),
    Pub(publish::Publishing),
    Task(task::Tasks),
    File(file::File),
    Replicas(replicas::Replicas),
    Insult(insult::Insults),
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(async {
            match self.load {
                Load::Call(load) => load.run().await,
                Load::Chain(load) => load.run().await,
                Load::Pub(load) => load.run().await,
                Load::Task(load) => load.run().await,
                Load::File(load) => load.run().await,
                Load::Replicas(load) => load.run().await,
                Load::Insult(load) => load.run().await,
            }
        })
    }
}
