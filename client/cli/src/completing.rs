//! Live completion: names of objects and their methods, from the registry of the broker that the command line names.
//!
//! A shell asks by running this program again, with [`VARIABLE`] set and the words of its command line as arguments. It is
//! answered within a second: by nothing if the broker cannot be reached, and never by a question.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Args as _, Command, FromArgMatches as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use rantai_client::Client;

use crate::connection::{Broker, run};
use crate::exit::{Exit, Failure};

/// Variable that says that a shell asks, and which one.
pub(crate) const VARIABLE: &str = "RANTAI_COMPLETE";

/// Time limit for the broker's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Objects and methods of a registry.
#[derive(Debug, Default)]
struct Names(Vec<(String, Vec<String>)>);

/// Returns a completer for the name of an object.
pub(crate) fn objects() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| candidates(current, Names::objects))
}

/// Returns a completer for an object and its method, as in `calculator.add`.
pub(crate) fn methods() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| candidates(current, Names::methods))
}

fn candidates(current: &OsStr, find: fn(&Names, &str) -> Vec<String>) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let names = registered(std::env::args_os()).unwrap_or_default();
    find(&names, current).into_iter().map(CompletionCandidate::new).collect()
}

/// Reads the registry of the broker that a command line names, by its options, the environment or a context.
fn registered(words: impl Iterator<Item = OsString>) -> Option<Names> {
    let mut names = Names::default();
    let broker = broker(words)?;
    run(async {
        let read = async {
            let client = Client::builder(broker.address()?).root(broker.root()?).connect().await?;
            let view =
                client.registry().list().await.map_err(|error| Failure::from_error(Exit::Failed, &error))?;
            names.0 = view.all().map(|(entry, _)| (entry.object.clone(), entry.methods.clone())).collect();
            client.close().await;
            Ok(())
        };
        tokio::time::timeout(ANSWER_TIMEOUT, read).await.unwrap_or(Ok(()))
    })
    .ok()?;
    Some(names)
}

/// Returns the broker of a command line that is still being written.
fn broker(words: impl Iterator<Item = OsString>) -> Option<Broker> {
    let command = Broker::augment_args(Command::new("rantai"));
    let known: Vec<String> =
        command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect();
    // The shell's words follow `--`. Commands and their own arguments are unknown here.
    let mut words = words.skip_while(|word| word != "--").skip(1);
    let mut options = vec![OsString::from("rantai")];
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let option = text.strip_prefix("--").unwrap_or_default();
        let name = option.split('=').next().unwrap_or_default();
        if known.iter().any(|known| known == name) {
            let has_value = option.contains('=');
            options.push(word.clone());
            if !has_value {
                options.extend(words.next());
            }
        }
    }
    let matches = command.try_get_matches_from(options).ok()?;
    Broker::from_arg_matches(&matches).ok()
}

impl Names {
    fn objects(&self, begin: &str) -> Vec<String> {
        let names = self.0.iter().map(|(object, _)| object);
        sorted(names.filter(|name| name.starts_with(begin)).cloned())
    }

    fn methods(&self, begin: &str) -> Vec<String> {
        let names = self
            .0
            .iter()
            .flat_map(|(object, methods)| methods.iter().map(move |method| format!("{object}.{method}")));
        sorted(names.filter(|name| name.starts_with(begin)))
    }
}

/// Returns the names in their order, each once. Names come from the bus, and the shell may expand what is in them: only those
/// of characters that mean nothing to any shell are returned.
fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut names: Vec<String> = names.filter(|name| name.chars().all(is_plain)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_shell_characters_are_not_completed() {
        let entry = |object: &str, methods: &[&str]| {
            (object.to_owned(), methods.iter().map(|&method| method.to_owned()).collect())
        };
        let names = Names(vec![
            entry("echo", &["echo", "$(reboot)", "a b", "*", "bytes", "\u{1b}[2J"]),
            entry("calculator", &["add"]),
            entry("calculator", &["add", "sub"]),
        ]);
        assert_eq!(names.objects(""), ["calculator", "echo"]);
        assert_eq!(names.methods(""), ["calculator.add", "calculator.sub", "echo.bytes", "echo.echo"]);
        assert_eq!(names.methods("echo.b"), ["echo.bytes"]);
        assert_eq!(names.objects("x"), [""; 0]);
    }

    #[test]
    fn completion_uses_the_broker_of_the_options() {
        for (line, expected) in [
            ("rantai -- rantai call --broker mqtt://b.example:1884 ca", "mqtt://b.example:1884"),
            ("rantai -- rantai call --broker=mqtt://b.example:1884 --timeout 5 ca", "mqtt://b.example:1884"),
        ] {
            let words = line.split(' ').map(OsString::from);
            assert_eq!(broker(words).expect("a broker").shown(), expected, "{line}");
        }
        assert!(
            broker(["rantai", "--", "rantai", "call", "--broker"].map(OsString::from).into_iter()).is_none()
        );
    }
}
