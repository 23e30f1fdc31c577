//! End of the process: an exit code and, after a failure, a message on stderr.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::ArgMatches;
use rantai_client::session::{ConnectRefusal, TlsProblem};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{CallError, ConnectError, error_chain};
use rantai_nodes::NodeError;
use serde_json::{Value, json};
use tracing::Level;

use crate::configurations::advice;
use crate::logging;
use crate::terminal::{note_as, note_lines, print_json};

/// Exit codes of `rantai`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The command succeeded.
    Success = 0,
    /// The command failed, or the method did.
    Failed = 1,
    /// The command line (clap uses the same code), the configuration or the request is wrong.
    Usage = 2,
    /// The broker cannot be reached.
    Unreachable = 3,
    /// The broker or the object denies access.
    Denied = 4,
    /// There is no such object or method, or its node is lost.
    NotFound = 5,
    /// No reply came in time, the object is busy, or a hop is dead.
    NoAnswer = 6,
    /// The parameters are wrong.
    Parameters = 7,
    /// The call was cancelled.
    Cancelled = 130,
}

/// Exit codes, for the help of commands that make calls: one line, which is wrapped to the width of the terminal.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 the object says no, 2 wrong command line or request, 3 no broker, 4 not allowed, \
5 no such object or method, 6 no answer in time or busy, 7 wrong parameters, 130 cancelled.";

/// Error that ends a command.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    /// Whether the message may have several lines; others are printed in one, whatever text of the bus they contain.
    lines: bool,
    /// Error of a call, for `--json`.
    fault: Option<Box<Fault>>,
    /// Whether the output on stdout reports the error already.
    is_shown: bool,
}

impl Failure {
    /// Checks whether a text is in the message.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.message.contains(text)
    }

    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), lines: false, fault: None, is_shown: false }
    }

    /// Checks whether the process would end with this code.
    pub(crate) fn is(&self, exit: Exit) -> bool {
        self.exit == exit
    }

    /// Appends to the message.
    #[must_use]
    pub(crate) fn and_then_say(mut self, more: &str) -> Self {
        self.message.push_str(more);
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub(crate) fn exits(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Creates a failure without a message, for an error that is printed already.
    pub(crate) fn reported(exit: Exit) -> Self {
        Self::new(exit, "").shown()
    }

    /// Marks the error as reported already by JSON on stdout.
    #[must_use]
    pub(crate) fn shown(self) -> Self {
        Self { is_shown: true, ..self }
    }

    /// Prints the error to stdout for `--json`: code, message and data of a call's error, and only the message of others.
    fn show(&self) {
        if !self.is_shown {
            match &self.fault {
                Some(fault) => print_json(&json!({"error": fault})),
                None => print_json(&json!({"error": {"message": self.message}})),
            }
        }
    }

    /// Prints the error to stderr, without ending the process.
    pub(crate) fn tell(&self) {
        match &*self.message {
            "" => {}
            message if self.lines => note_lines(&format!("error: {message}")),
            message => note_as(Level::ERROR, &format!("error: {message}")),
        }
    }

    /// Creates a failure from `error` and its sources, in one line.
    pub(crate) fn from_error(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, error_chain(error))
    }

    /// Creates a failure from an error of a configuration file, with its excerpt of the file.
    pub(crate) fn from_config(error: &dyn Error) -> Self {
        Self { lines: true, ..Self::from_error(Exit::Usage, error) }
    }

    /// Creates a failure from an error of a call, with advice.
    pub(crate) fn from_call(error: &CallError, broker: &str) -> Self {
        let (exit, message) = match error {
            CallError::Fault(fault) => (of_code(fault.code), explain(fault, broker)),
            CallError::Lost | CallError::Unsent(_) => (Exit::Unreachable, error.to_string()),
            CallError::Name(_) | CallError::Parameters(_) => (Exit::Usage, error.to_string()),
            _ => (Exit::Failed, error.to_string()),
        };
        Self { fault: error.fault().cloned().map(Box::new), ..Self::new(exit, message) }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::from_error(connect_exit(&error), &error).and_then_say(connect_advice(&error))
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Connect(error) => error.into(),
            error => Self::from_error(Exit::Failed, &error),
        }
    }
}

/// Returns the exit code for an error of connecting.
fn connect_exit(error: &ConnectError) -> Exit {
    match error {
        ConnectError::Address(_) | ConnectError::TlsFiles(_) => Exit::Usage,
        ConnectError::Refused { .. }
        | ConnectError::Tls {
            source: TlsProblem::CertificateRequired | TlsProblem::CertificateRefused(_),
            ..
        } => Exit::Denied,
        ConnectError::All { errors } => {
            match errors.iter().map(connect_exit).find(|exit| *exit != Exit::Unreachable) {
                Some(exit) if errors.iter().all(|error| connect_exit(error) == exit) => exit,
                _ => Exit::Unreachable,
            }
        }
        _ => Exit::Unreachable,
    }
}

/// Returns what to do about an error of connecting, as the end of a sentence after its semicolon; of several brokers, for
/// the first that something can be done about.
pub(crate) fn connect_advice(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Unreachable { .. } => {
            "; start one with `rantai up`, or name another with --broker or RANTAI_BROKER"
        }
        ConnectError::Unresolved { .. } => {
            "; look at the name in --broker, RANTAI_BROKER or the context, or use the machine's address: names in .local \
             are found by mDNS alone"
        }
        ConnectError::Refused { refusal, .. } => refusal_advice(*refusal),
        ConnectError::Tls { source, .. } => match source {
            TlsProblem::UnknownAuthority { .. } | TlsProblem::RenewedAuthority { .. } => {
                "; name the file of its authority's certificate with --ca"
            }
            TlsProblem::OtherName { .. } => "; use one of those in the address",
            TlsProblem::CertificateRequired => "; name yours with --cert and --key",
            TlsProblem::CertificateRefused(_) => "; look at the file of --cert",
            TlsProblem::NotTls => "; for one without TLS use mqtt:// or ws://",
            _ => "",
        },
        ConnectError::All { errors } => {
            let is_there = |error: &&ConnectError| {
                !matches!(error, ConnectError::Unreachable { .. } | ConnectError::Unresolved { .. })
            };
            errors
                .iter()
                .filter(is_there)
                .chain(errors)
                .map(connect_advice)
                .find(|text| !text.is_empty())
                .unwrap_or("")
        }
        _ => "",
    }
}

/// Returns what to do if a broker refuses the connection.
fn refusal_advice(refusal: ConnectRefusal) -> &'static str {
    match refusal {
        ConnectRefusal::NoUser => {
            "; log in with --user and --password-file, or with a context (`rantai context add`)"
        }
        ConnectRefusal::WrongPassword => {
            "; look at --user and the file of --password-file, or at the context"
        }
        ConnectRefusal::Busy => "; try again in a moment",
        ConnectRefusal::ClientId => {
            "; the id belongs to somebody else: log in as the user it belongs to, or take another one"
        }
        _ => "",
    }
}

/// Returns the exit code for the code of a call's error.
pub(crate) fn of_code(code: Code) -> Exit {
    match code {
        Code::NOT_JSON | Code::NOT_A_REQUEST | Code::TOO_LARGE => Exit::Usage,
        Code::NO_SUCH_METHOD | Code::UNKNOWN_OBJECT | Code::LOST_OBJECT => Exit::NotFound,
        Code::WRONG_PARAMETERS => Exit::Parameters,
        Code::EXPIRED | Code::TIMED_OUT | Code::BUSY | Code::TRAIL_LIMIT | Code::DEAD_HOP => Exit::NoAnswer,
        Code::DENIED => Exit::Denied,
        Code::CANCELLED => Exit::Cancelled,
        _ => Exit::Failed,
    }
}

fn explain(fault: &Fault, broker: &str) -> String {
    let mut message = fault.message.clone();
    if fault.code == Code::UNKNOWN_OBJECT {
        let _ = write!(message, " on {broker}");
    }
    // Similar names are suggested only if a name was unknown, whatever the fault's data contain.
    let unknown = matches!(fault.code, Code::UNKNOWN_OBJECT | Code::NO_SUCH_METHOD)
        || fault.data.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("no_such_"));
    let similar: Vec<String> = fault
        .data
        .get("did_you_mean")
        .filter(|_| unknown)
        .and_then(|names| names.as_array())
        .map(|names| names.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    if !similar.is_empty() {
        let _ = write!(message, "; did you mean {}?", similar.join(" or "));
    } else if matches!(fault.code, Code::UNKNOWN_OBJECT) {
        let advice = fault.data.get("object").and_then(|object| advice(object.as_str()?));
        let _ = write!(message, "; {}", advice.as_deref().unwrap_or("`rantai ls` shows what there is"));
    } else if matches!(fault.code, Code::NO_SUCH_METHOD) {
        message.push_str("; `rantai describe OBJECT` shows what there is");
    }
    if let Some(wait) = fault.data.get("retry_after_ms") {
        let _ = write!(message, "; try again in {wait} ms");
    }
    message
}

/// Checks whether the command line has `--json`.
pub(crate) fn wants_json(mut matches: &ArgMatches) -> bool {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    matches.try_get_one::<bool>("json").ok().flatten().is_some_and(|json| *json)
}

/// Prints an error of the command line, or the help that was asked for, and ends the process. With `--json` the error is
/// printed to stdout too, as its first sentence.
pub(crate) fn usage(error: &clap::Error) -> ! {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let message = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
        let message: Vec<&str> = message.lines().map(str::trim).collect();
        print_json(&json!({"error": {"message": message.join(" ")}}));
    }
    error.exit()
}

/// Prints a failure, on stdout too if JSON is wanted, and returns the exit code.
pub(crate) fn report(result: Result<(), Failure>, json: bool) -> ExitCode {
    let exit = match result {
        Ok(()) => Exit::Success,
        Err(failure) => {
            if json {
                failure.show();
            }
            failure.tell();
            failure.exit
        }
    };
    logging::finish();
    ExitCode::from(exit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_suggested_for_unknown_names_only() {
        for (fault, suggested) in [
            (Fault::new(Code::UNKNOWN_OBJECT, "no object"), true),
            (Fault::new(Code::NO_SUCH_METHOD, "no method"), true),
            (Fault::failed("no_such_book", "no book"), true),
            (Fault::failed("no_paper", "empty"), false),
            (Fault::new(Code::DENIED, "not allowed"), false),
        ] {
            let text = explain(&fault.with("did_you_mean", json!(["other"])), "mqtt://localhost");
            assert_eq!(text.contains("did you mean \"other\""), suggested, "{text}");
        }
    }

    /// The table is the same as in docs/commands.md.
    #[test]
    fn every_code_has_its_exit_code() {
        let expected = [
            (-32700, 2),
            (-32600, 2),
            (-32601, 5),
            (-32602, 7),
            (-32603, 1),
            (-32000, 1),
            (-32001, 6),
            (-32002, 6),
            (-32003, 5),
            (-32004, 5),
            (-32005, 6),
            (-32006, 4),
            (-32007, 2),
            (-32008, 130),
            (-32009, 6),
            (-32010, 6),
            (-32013, 1),
            (-32014, 1),
            (-32015, 1),
        ];
        for code in Code::ALL {
            let known = expected.iter().find(|(number, _)| *number == code.0).map(|(_, exit)| *exit);
            assert_eq!(known, Some(of_code(*code) as u8), "{code}");
        }
    }
}
