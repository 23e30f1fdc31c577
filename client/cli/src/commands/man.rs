//! `rantai man`: the help as manual pages.

use std::path::{Path, PathBuf};

use crate::connection::note;
use crate::exit::{Exit, Failure};
use crate::help;
use crate::terminal::print_document;

const EXAMPLES: &str = "\
Examples:
  rantai man ~/.local/share/man/man1      a page for each command; man rantai-call
  rantai man | man -l -                   the page of rantai itself";

/// Write manual pages.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Man {
    /// The directory to write the pages to; without it the page of rantai goes to stdout
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let command = help::command().disable_help_subcommand(true);
        let Some(directory) = self.directory else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(|error| Failure::from_error(Exit::Failed, &error))?;
            print_document(&page);
            return Ok(());
        };
        std::fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
        clap_mangen::generate_to(command, &directory).map_err(|error| failed(&directory, &error))?;
        note(&format!("wrote the manual pages to {}", directory.display()));
        Ok(())
    }
}

fn failed(directory: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write manual pages to {}: {error}", directory.display()))
}
