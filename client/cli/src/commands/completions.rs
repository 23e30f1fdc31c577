//! `rantai completions`: completion scripts for shells.

use clap::ValueEnum;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::completing::VARIABLE;
use crate::exit::{Exit, Failure};
use crate::terminal::print_document;

const EXAMPLES: &str = "\
Examples:
  rantai completions bash > ~/.local/share/bash-completion/completions/rantai
  rantai completions zsh > ~/.zfunc/_rantai      with fpath+=~/.zfunc in ~/.zshrc
  rantai completions fish > ~/.config/fish/completions/rantai.fish

The script asks the program itself, which asks the broker that the command line names, for a second at most. Write
the script again after an update.";

/// Print a script that completes commands, options, objects and methods.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// The shell that reads the script
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Shells for which there is a script.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        let mut script = Vec::new();
        shell
            .write_registration(VARIABLE, "rantai", "rantai", "rantai", &mut script)
            .map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        print_document(&script);
        Ok(())
    }
}
