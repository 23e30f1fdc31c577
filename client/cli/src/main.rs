//! The binary `rantai`: one subcommand per file in [`commands`].

mod arguments;
mod commands;
mod configurations;
mod connection;
mod exit;
mod gateway;
mod log_file;
mod progress;
mod prompt;
mod signals;
mod table;
mod template;

use clap::Parser;

use commands::Command;

/// Objects on an MQTT bus: broker, node and client in one program.
#[derive(Parser)]
#[command(name = "rantai", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> std::process::ExitCode {
    exit::report(Arguments::parse().command.run())
}
