//! `rantai … | head`: a closed pipe is not a failure, but any other error of stdout is.

use std::fs::OpenOptions;
use std::process::Command;

use super::process::{Bus, Done, bus, finish, rantai};

const ALONE: &[&[&str]] = &[
    &["man"],
    &["completions", "bash"],
    &["completions", "zsh"],
    &["completions", "fish"],
    &["config", "ls"],
    &["config", "show", "gateway"],
];
const ON_A_BUS: &[&[&str]] = &[
    &["ls"],
    &["ls", "--json"],
    &["describe", "tasks"],
    &["call", "calculator.add", "2", "3"],
    &["call", "calculator.rpc.stats", "--json"],
    &["call", "echo.bytes", "--input", "/etc/hostname"],
    &["calc", "--op", "all", "-a", "2", "-b", "3"],
];

fn commands<'a>(bus: &'a Bus) -> impl Iterator<Item = (Command, &'a [&'a str])> {
    let alone = |arguments: &&'a [&'a str]| {
        let mut command = rantai();
        command.args(*arguments);
        (command, *arguments)
    };
    ALONE.iter().map(alone).chain(ON_A_BUS.iter().map(|arguments| (bus.command(arguments), *arguments)))
}

#[test]
fn closed_pipe_ends_a_command_without_an_error() {
    let bus = bus();
    let mut node = bus.serve(&["tasks", "calculator", "echo"]);
    for name in ["tasks", "calculator", "echo"] {
        node.wait_for(&format!("serving {name} "));
    }
    let help: [&[&str]; 4] = [&["--help"], &["help", "call"], &["call", "--help"], &["--version"]];
    let help = help.iter().map(|arguments| {
        let mut command = rantai();
        command.args(*arguments);
        (command, *arguments)
    });
    for (mut command, arguments) in commands(&bus).chain(help) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let Done { code, stderr, .. } = finish(command.stdout(writer));
        assert_eq!((code, &*stderr), (0, ""), "{arguments:?}");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let bus = bus();
    let mut node = bus.serve(&["tasks", "calculator", "echo"]);
    for name in ["tasks", "calculator", "echo"] {
        node.wait_for(&format!("serving {name} "));
    }
    for (mut command, arguments) in commands(&bus) {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux");
        let done = finish(command.stdout(full));
        assert!(
            done.code == 1 && done.stderr.contains("cannot write to stdout: No space left on device"),
            "{arguments:?}: {done:?}"
        );
    }
}
