//! How the process ends: one code and, when it failed, one message on stderr.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Every exit code of `rantai`.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what was asked.
    Success = 0,
    /// It could not do what was asked.
    Failed = 1,
    /// What was asked is wrong: the command line (clap uses the same code) or the configuration.
    Usage = 2,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// `error` and the causes beneath it, in one line.
    pub(crate) fn from_error(exit: Exit, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let _ = write!(message, ": {error}");
            cause = error.source();
        }
        Self { exit, message }
    }
}

/// Tells a failure to the user, and the code to the system.
pub(crate) fn report(result: Result<(), Failure>) -> ExitCode {
    let exit = match result {
        Ok(()) => Exit::Success,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}
