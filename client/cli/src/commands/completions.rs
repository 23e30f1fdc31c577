//! `rantai completions`: scripts by which a shell completes the command line.

use std::io::{Write as _, stdout};

use clap_complete::Shell;

use crate::exit::{Exit, Failure};
use crate::help;

const EXAMPLES: &str = "\
Examples:
  rantai completions bash > ~/.local/share/bash-completion/completions/rantai
  rantai completions zsh > ~/.zfunc/_rantai      with fpath+=~/.zfunc in ~/.zshrc
  rantai completions fish > ~/.config/fish/completions/rantai.fish";

/// Print a script that completes commands and options.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// The shell that reads the script
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut help::command(), "rantai", &mut script);
        // In one piece: a reader that goes away early ends the command, not a panic within the generator.
        stdout().lock().write_all(&script).map_err(|error| Failure::from_error(Exit::Failed, &error))
    }
}
