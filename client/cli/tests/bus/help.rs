//! Help, tables, completions and manual pages, as shown on terminals and read by shells.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use rustix::termios::{Winsize, tcsetwinsize};

use super::process::{Bus, bus, finish, rantai};
use super::terminal::terminal;

/// Returns the output of a command on a terminal with this number of columns, without carriage returns.
fn output_on_terminal(command: &mut Command, columns: u16) -> String {
    let (ours, theirs) = terminal();
    let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&theirs, size).expect("resized");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(theirs))
        .stderr(Stdio::null())
        .env_remove("NO_COLOR")
        .env("TERM", "xterm-256color")
        .spawn()
        .expect("the binary runs");
    // This is the last handle of the other end, so that reading ends with the process.
    command.stdout(Stdio::null());
    let text = read(ours);
    child.wait().expect("it ends");
    text.replace('\r', "")
}

/// Reads until the other end is closed, which is an error for a terminal.
fn read(mut terminal: File) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(size @ 1..) = terminal.read(&mut buffer) {
        text.extend_from_slice(&buffer[..size]);
    }
    String::from_utf8(text).expect("UTF-8")
}

/// Removes escape sequences for colours.
fn plain(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').expect("a sequence of colour").1);
    }
    plain
}

/// Returns each command and subcommand, found in the help of its parent.
fn commands() -> Vec<Vec<String>> {
    let (mut all, mut open) = (Vec::new(), vec![Vec::<String>::new()]);
    while let Some(path) = open.pop() {
        let help = finish(rantai().args(&path).arg("--help")).stdout;
        // At the top level, commands are in groups, below it under one heading.
        let groups =
            if path.is_empty() { &help[..] } else { help.split("\nCommands:\n").nth(1).unwrap_or("") };
        let groups = groups.split("\nOptions:\n").next().unwrap_or_default();
        let groups = if path.is_empty() { groups } else { groups.split("\n\n").next().unwrap_or_default() };
        for line in groups.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
            let name = line.split_whitespace().next().expect("a name");
            if name != "help" {
                open.push([&path[..], &[name.to_owned()]].concat());
            }
        }
        all.push(path);
    }
    all
}

#[test]
fn help_fits_the_terminal_and_no_word_is_broken() {
    let commands = commands();
    for expected in [&[][..], &["up"], &["task", "submit"], &["bench", "replicas"], &["config", "ls"]] {
        assert!(commands.iter().any(|path| path == expected), "{expected:?} in {commands:?}");
    }
    for path in commands {
        let wide = finish(rantai().args(&path).arg("--help").env("COLUMNS", "1000")).stdout;
        let known: Vec<&str> = wide.split_whitespace().collect();
        let help = plain(&output_on_terminal(rantai().args(&path).arg("--help"), 80));
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{path:?}: {line:?}");
        }
        let words: Vec<&str> = help.split_whitespace().collect();
        assert_eq!(words, known, "{path:?}");
    }
}

#[test]
fn help_is_coloured_only_if_requested() {
    let coloured = |text: &str| text.contains("\u{1b}[");
    assert!(coloured(&output_on_terminal(rantai().arg("--help"), 80)));
    assert!(coloured(&output_on_terminal(rantai().args(["ls", "--help"]), 80)));
    assert!(!coloured(&output_on_terminal(rantai().args(["--color", "never", "--help"]), 80)));
    assert!(!coloured(&output_on_terminal(rantai().args(["ls", "--help", "--color=never"]), 80)));
    let mut without = Command::new("env");
    without.args(["NO_COLOR=1", env!("CARGO_BIN_EXE_rantai"), "--help"]);
    assert!(!coloured(&output_on_terminal(&mut without, 80)));
    assert!(!coloured(&finish(rantai().arg("--help")).stdout));
    assert!(coloured(&finish(rantai().args(["--help", "--color", "always"])).stdout));
    assert!(coloured(&finish(rantai().args(["--color=always", "nonsense"])).stderr));
    let wrong = finish(rantai().args(["ls", "--color", "pink"]));
    assert!(wrong.code == 2 && wrong.stderr.contains("always"), "{wrong:?}");
}

#[test]
fn help_lists_commands_in_groups() {
    let help = finish(rantai().arg("--help")).stdout;
    let place = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text:?} in {help}"));
    assert!(place("Run a broker and objects:") < place("\n  up "));
    assert!(place("\n  up ") < place("Look around and call:"));
    assert!(place("Look around and call:") < place("\n  call "));
    assert!(place("Systems:") < place("\n  library "));
    assert!(place("\n  library ") < place("\nOptions:"));
}

#[test]
fn help_texts_contain_no_rustdoc_markup() {
    for path in commands() {
        let help = finish(rantai().args(&path).arg("--help")).stdout;
        for trace in ["\\\"", "<mqtt", "<http"] {
            assert!(!help.contains(trace), "{path:?}: {trace} in {help}");
        }
    }
}

#[test]
fn tables_fit_the_terminal_and_no_word_is_broken() {
    let bus = bus();
    let mut node = bus.serve(&["tasks", "calculator", "example.chainTopology.bandung", "--node", "pi"]);
    for name in ["tasks", "calculator", "example.chainTopology.bandung"] {
        node.wait_for(&format!("serving {name} "));
    }
    let words = |text: &str| {
        let mut words: Vec<String> = text.split_whitespace().map(ToOwned::to_owned).collect();
        words.sort();
        words
    };
    for arguments in [&["ls"][..], &["config", "ls"], &["describe", "tasks"]] {
        let whole = words(&bus.ok(arguments));
        for columns in [60, 80, 200] {
            let table = output_on_terminal(&mut bus.command(arguments), columns);
            for line in table.lines() {
                assert!(line.chars().count() <= usize::from(columns), "{columns}: {line:?}");
            }
            assert_eq!(words(&table), whole, "{arguments:?} at {columns}: {table}");
        }
    }
    // For programs, each row is one line.
    assert_eq!(bus.ok(&["ls"]).lines().count(), 4);
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().expect("a directory");
    let pages = directory.path().join("man1");
    let done = finish(rantai().arg("man").arg(&pages));
    assert_eq!(done.code, 0, "{done:?}");
    for path in commands() {
        let name = [&["rantai".to_owned()], &path[..]].concat().join("-");
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).expect(&name);
        assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    let page = finish(rantai().arg("man"));
    assert!(page.code == 0 && page.stdout.contains(".SH SUBCOMMANDS"), "{page:?}");
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("written");
    let done = finish(rantai().arg("man").arg(&file));
    assert!(done.code == 1 && done.stderr.contains("cannot write manual pages"), "{done:?}");
}

#[test]
fn every_shell_has_a_completion_script() {
    for shell in ["bash", "zsh", "fish"] {
        let done = finish(rantai().args(["completions", shell]));
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stdout.contains(&format!("RANTAI_COMPLETE=\"{shell}\"")) || shell == "fish", "{done:?}");
        // The script calls the program by name, wherever it is installed.
        assert!(done.stdout.contains("rantai") && !done.stdout.contains("/rantai"), "{done:?}");
    }
}

/// Returns the completions for the last of these words.
fn offered(bus: &Bus, words: &[&str]) -> Vec<String> {
    let mut command = bus.command(&["--", "rantai"]);
    command.args(words).env("RANTAI_COMPLETE", "bash").env("_CLAP_IFS", "\n");
    let done = finish(command.env("_CLAP_COMPLETE_INDEX", words.len().to_string()));
    assert_eq!((done.code, &*done.stderr), (0, ""), "{done:?}");
    done.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn objects_and_methods_are_completed_from_the_registry() {
    let bus = bus();
    let mut node = bus.serve(&["calculator", "echo"]);
    node.wait_for("serving calculator");
    node.wait_for("serving echo");
    assert_eq!(offered(&bus, &["describe", "calc"]), ["calculator"]);
    assert_eq!(offered(&bus, &["call", "calculator.s"]), ["calculator.sub"]);
    assert_eq!(offered(&bus, &["task", "submit", "echo.b"]), ["echo.bytes"]);
    assert_eq!(offered(&bus, &["desc"]), ["describe"]);
    // No broker listens there: that is not an error, and takes no longer.
    assert_eq!(offered(&bus, &["call", "--broker", "mqtt://127.0.0.1:1", "calc"]), [""; 0]);
}
