//! `rantai config`: configurations built into the program.

use serde_json::{Value, json};

use crate::configurations::{BROKER, BuiltIn, OBJECTS};
use crate::connection::print;
use crate::exit::Failure;
use crate::table::Table;

const EXAMPLES: &str = "\
Examples:
  rantai config ls                           each with its objects
  rantai up --config library                 serves one of them
  rantai config show library > library.toml  a copy to change
  rantai up --config ./library.toml          serves the copy

Relative paths in a built-in configuration begin in the --data-dir, or in the working directory without one. The library \
brings its books: they are written to the --data-dir, or without one to a temporary folder.";

/// List and show the built-in configurations.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Configurations {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List them, with what they are for and their objects
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print one as TOML
    Show {
        /// The configuration
        #[arg(value_name = "NAME")]
        name: String,
    },
}

impl Configurations {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Ls { json: false } => {
                let mut table = Table::new(["NAME", "FOR", "OBJECTS"]);
                for built_in in OBJECTS.iter().chain([&BROKER]) {
                    table.row([built_in.name, built_in.about, &built_in.objects().join(" ")]);
                }
                table.print();
            }
            Action::Ls { json: true } => {
                let all = OBJECTS.iter().chain([&BROKER]).map(|built_in| {
                    json!({"name": built_in.name, "about": built_in.about, "objects": built_in.objects()})
                });
                print(&Value::Array(all.collect()).to_string());
            }
            Action::Show { name } => print(BuiltIn::find(&name)?.text.trim_end()),
        }
        Ok(())
    }
}
