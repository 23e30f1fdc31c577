//! Layout of the command line's help: groups of commands in `rantai --help`, colour, and width.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::StyledStr;
use clap::builder::styling::{AnsiColor, Effects, Styles};
use clap::{ColorChoice, Command, CommandFactory as _, ValueEnum as _};

use crate::Arguments;
use crate::table::{CONTINUATION_INDENT, MIN_COLUMN, wrap};

/// Groups of commands in `rantai --help`; each command is in exactly one.
const GROUPS: [(&str, &[&str]); 10] = [
    (
        "Run a broker and objects",
        &["init", "up", "broker", "serve", "config", "doctor", "health", "conform", "demo"],
    ),
    ("Keep what is on disk", &["backup", "restore", "upgrade-check"]),
    ("Users and what they may do", &["passwd", "cert", "context", "acl", "admin"]),
    ("Look around and call", &["ls", "describe", "call", "chain", "watch", "forget"]),
    ("Tasks", &["task"]),
    ("Files", &["files", "get", "put"]),
    ("Plain messages", &["pub", "sub"]),
    ("Systems", &["calc", "imaging", "insult", "library", "upcall"]),
    ("Measure", &["bench"]),
    ("Shell", &["completions", "man"]),
];

/// Maximum width of help, in characters: clap's default.
const MAX_HELP_WIDTH: usize = 100;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());

/// Builds the command line without the layout of its help, which takes about as long as the rest and which few invocations
/// show. For parsing alone: help and usage errors are to come from [`command`].
pub(crate) fn command_without_layout() -> Command {
    Arguments::command().styles(STYLES)
}

/// Builds the command line, with the commands of its help in groups.
pub(crate) fn command() -> Command {
    let width = width();
    let command = fitted(command_without_layout(), width);
    let groups = groups(&command, width);
    let (header, end) = (STYLES.get_header(), STYLES.get_header().render_reset());
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}\
         {header}Options:{end}\n{{options}}\n\n{{after-help}}"
    );
    command.help_template(StyledStr::from(template))
}

/// Returns the value of `--color`, which is read before the command line is parsed: help and usage errors end the parsing.
pub(crate) fn color(arguments: impl IntoIterator<Item = OsString>) -> ColorChoice {
    let mut choice = ColorChoice::Auto;
    let mut arguments = arguments.into_iter().skip(1).take_while(|argument| argument != "--");
    while let Some(argument) = arguments.next() {
        let value = match argument.to_str() {
            Some("--color") => arguments.next(),
            Some(text) => text.strip_prefix("--color=").map(OsString::from),
            None => None,
        };
        let value = value.and_then(|value| ColorChoice::from_str(value.to_str()?, true).ok());
        choice = value.unwrap_or(choice);
    }
    choice
}

/// Formats the groups: a heading, and one entry per command.
fn groups(command: &Command, width: usize) -> String {
    let (header, literal) = (STYLES.get_header(), STYLES.get_literal());
    let names = GROUPS.iter().flat_map(|(_, names)| *names);
    let column = names.map(|name| name.len()).max().unwrap_or(0) + 4;
    let mut text = String::new();
    for (heading, names) in GROUPS {
        let _ = writeln!(text, "{header}{heading}:{}", header.render_reset());
        for name in names {
            let Some(command) = command.find_subcommand(name) else { continue };
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let mut lines = wrap(&about, width.saturating_sub(column), 0).into_iter();
            let first = lines.next().unwrap_or_default();
            let space = " ".repeat(column - 2 - name.len());
            let _ = writeln!(text, "  {literal}{name}{}{space}{first}", literal.render_reset());
            for line in lines {
                let _ = writeln!(text, "{}{line}", " ".repeat(column));
            }
        }
        text.push('\n');
    }
    text
}

/// Lays out the text after the options for lines of `width` characters, for the command and its subcommands.
fn fitted(command: Command, width: usize) -> Command {
    let after = command.get_after_help().map(|text| examples(&text.to_string(), width));
    let command = match after {
        Some(after) => command.after_help(after),
        None => command,
    };
    command.mut_subcommands(|below| fitted(below, width))
}

/// Lays out examples: an indented line is a command and, after a gap, its description, which continues in its own column.
/// Consecutive lines that are not indented are joined to a paragraph.
fn examples(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            lines.extend(example(line, width));
            continue;
        }
        match lines.last_mut() {
            Some(last) if !line.is_empty() && is_prose(last) => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.into_iter().flat_map(|line| wrap(&line, width, 0)).collect::<Vec<_>>().join("\n")
}

/// Checks whether a line is prose: neither empty, nor an example, nor a heading.
fn is_prose(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':')
}

fn example(line: &str, width: usize) -> Vec<String> {
    let indent = line.len() - line.trim_start().len();
    let gap = line[indent..].find("  ").map(|at| line.split_at(indent + at));
    let Some((command, rest)) = gap.filter(|_| line.chars().count() > width) else {
        return wrap(line, width, CONTINUATION_INDENT);
    };
    let does = rest.trim_start();
    let column = line[..line.len() - does.len()].chars().count();
    if column + MIN_COLUMN > width {
        let mut lines = wrap(command, width, CONTINUATION_INDENT);
        let below = " ".repeat(indent + CONTINUATION_INDENT);
        lines.extend(wrap(&format!("{below}{does}"), width, 0));
        return lines;
    }
    let lines = wrap(&format!("{}{does}", " ".repeat(column)), width, 0);
    let first = format!("{}{}", &line[..line.len() - does.len()], lines[0].trim_start());
    [first].into_iter().chain(lines.into_iter().skip(1)).collect()
}

/// Returns the number of characters in a line of help, determined as clap determines it.
fn width() -> usize {
    let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.or_else(columns).map_or(MAX_HELP_WIDTH, |width: usize| width.min(MAX_HELP_WIDTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = Arguments::command();
        let mut known: Vec<&str> =
            command.get_subcommands().filter(|c| !c.is_hide_set()).map(Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        known.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(known, grouped);
    }

    #[test]
    fn color_option_is_found_at_any_position() {
        for (line, expected) in [
            (&["rantai"][..], ColorChoice::Auto),
            (&["rantai", "--color", "never"], ColorChoice::Never),
            (&["rantai", "ls", "--color=always", "--help"], ColorChoice::Always),
            (&["rantai", "--color=nonsense"], ColorChoice::Auto),
            (&["rantai", "call", "echo.echo", "--", "--color=always"], ColorChoice::Auto),
        ] {
            assert_eq!(color(line.iter().map(OsString::from)), expected, "{line:?}");
        }
    }

    #[test]
    fn descriptions_of_examples_continue_in_their_column() {
        let laid_out = |width| {
            examples(
                "Examples:\n  rantai ls            all objects on the bus, by name\n\nExit codes: 0,\n1",
                width,
            )
        };
        let wide = "Examples:\n  rantai ls            all objects on the bus, by name\n\nExit codes: 0, 1";
        assert_eq!(laid_out(80), wide);
        let narrow = "\n  rantai ls            all objects on the bus,\n                       by name\n";
        assert!(laid_out(48).contains(narrow), "{}", laid_out(48));
        let below = "\n  rantai ls\n      all objects on the bus, by\n      name\n";
        assert!(laid_out(34).contains(below), "{}", laid_out(34));
    }

    #[test]
    fn examples_of_every_command_fit_and_keep_their_words() {
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let words: Vec<&str> = after.split_whitespace().collect();
            for width in [60, 80, 100] {
                let laid_out = examples(&after, width);
                assert_eq!(laid_out.split_whitespace().collect::<Vec<_>>(), words);
                for line in laid_out.lines() {
                    let fits = line.chars().count() <= width || !line.trim_start().contains(' ');
                    assert!(fits, "{} at {width}: {line:?}", command.get_name());
                }
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
