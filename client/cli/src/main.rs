//! The binary `rantai`: one subcommand per file in [`commands`].

mod administration;
mod arguments;
mod backups;
mod certificates;
mod commands;
mod completing;
mod configurations;
mod connection;
mod container;
mod contexts;
mod descriptors;
mod embedded;
mod endpoint;
mod exit;
mod help;
mod listening;
mod log_file;
mod logging;
mod monitoring;
mod private_file;
mod progress;
mod prompt;
mod random;
mod reload;
mod roles;
mod signals;
mod supervisor;
mod table;
mod template;
mod terminal;
mod tls;
mod unserved;

use clap::{ColorChoice, FromArgMatches as _, Parser};
use clap_complete::CompleteEnv;

use commands::Command;

/// Replaces the system's allocator, which may merge all freed memory at once: that takes ten milliseconds after a
/// client with thousands of filters has left, and returns hardly any memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Objects on an MQTT bus: broker, node and client in one program.
#[derive(Parser)]
#[command(name = "rantai", version, arg_required_else_help = true)]
struct Arguments {
    /// Colour help and usage errors; `auto` is on a terminal, unless `NO_COLOR` is set
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t = ColorChoice::Auto,
        display_order = 900
    )]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
}

fn main() -> std::process::ExitCode {
    // Ends the program if a shell asks.
    CompleteEnv::with_factory(help::command).var(completing::VARIABLE).bin("rantai").complete();
    let parsed = parse(help::command_without_layout());
    // Help and usage errors are laid out, for which the same arguments are parsed again.
    let parsed = parsed.or_else(|_| parse(help::command().color(help::color(std::env::args_os()))));
    let (arguments, matches) = parsed.unwrap_or_else(|error| exit::usage(&error));
    exit::report(arguments.command.run(), exit::wants_json(&matches))
}

fn parse(mut command: clap::Command) -> Result<(Arguments, clap::ArgMatches), clap::Error> {
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => Ok((arguments, matches)),
        Err(error) => Err(error.format(&mut command)),
    }
}
