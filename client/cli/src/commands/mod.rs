//! The subcommands: one file each, and their list.

mod broker;

use clap::Subcommand;

use crate::exit::Failure;

#[derive(Subcommand)]
pub(crate) enum Command {
    Broker(broker::Broker),
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Broker(command) => command.run(),
        }
    }
}
