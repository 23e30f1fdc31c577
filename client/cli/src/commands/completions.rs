//! `rantai completions`: completion scripts for shells.

use clap_complete::Shell;

use crate::help;
use crate::terminal::print_document;

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
    pub(crate) fn run(self) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut help::command(), "rantai", &mut script);
        print_document(&script);
    }
}
