//! The broker a command talks to, and how it prints.

use std::future::Future;
use std::io::{self, Write as _};
use std::time::Duration;

use rantai_client::Client;
use rantai_client::session::{Address, Status};
use rantai_client::wire::name::Root;
use serde_json::Value;
use tokio::sync::watch;
use tracing::Level;

use crate::exit::{Exit, Failure};

/// Where the broker is, for every command that needs one.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Broker {
    /// The broker: <mqtt://host>, mqtt://host:port or <mqtt://user:password@host>
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "RANTAI_BROKER",
        hide_env_values = true,
        default_value = "mqtt://localhost:1883"
    )]
    pub(crate) broker: String,
    /// The first levels of every topic
    #[arg(
        long,
        global = true,
        value_name = "ROOT",
        env = "RANTAI_ROOT",
        hide_env_values = true,
        default_value = "rantai"
    )]
    pub(crate) root: String,
}

/// For commands that call.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Connection {
    #[command(flatten)]
    pub(crate) broker: Broker,
    /// End after this time whatever happens: 5, 5s or 500ms
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, default_value = "30")]
    pub(crate) timeout: Duration,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Broker {
    pub(crate) fn address(&self) -> Result<Address, Failure> {
        self.broker.parse().map_err(|error| Failure::from_error(Exit::Usage, &error))
    }

    pub(crate) fn root(&self) -> Result<Root, Failure> {
        Root::new(&self.root).map_err(|error| Failure::from_error(Exit::Usage, &error))
    }

    /// The address without a password.
    pub(crate) fn shown(&self) -> String {
        self.address().map_or_else(|_| self.broker.clone(), |address| address.to_string())
    }
}

impl Connection {
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let builder = Client::builder(self.broker.address()?).root(self.broker.root()?);
        if let Ok(client) = tokio::time::timeout(self.timeout, builder.connect()).await {
            Ok(client?)
        } else {
            let text = format!("{} did not answer within {:?}", self.broker.shown(), self.timeout);
            Err(Failure::new(Exit::Unreachable, text))
        }
    }

    pub(crate) fn failed(&self, error: &rantai_client::CallError) -> Failure {
        Failure::from_call(error, &self.broker.shown())
    }
}

/// Waits until a session has ended for good; why.
pub(crate) async fn ended(status: &mut watch::Receiver<Status>) -> String {
    match status.wait_for(|status| matches!(status, Status::Ended(_))).await.as_deref() {
        Ok(Status::Ended(reason)) => reason.clone(),
        _ => "the session has ended".to_owned(),
    }
}

/// Runs a command to its end on one thread.
pub(crate) fn run<F: Future<Output = Result<(), Failure>>>(future: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from_error(Exit::Failed, &error))?;
    let result = runtime.block_on(future);
    // Nothing that still blocks may hold up the exit.
    runtime.shutdown_background();
    result
}

/// One line per event, on stderr.
pub(crate) fn log(level: Level) {
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(level).with_target(false);
    // Where nobody reads it any more it is lost, and the program goes on.
    log.log_internal_errors(false).init();
}

/// A line on stdout of a program that serves: without a reader it is lost, and the program goes on.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A line on stderr; without a reader it is lost, and the program goes on.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A line on stdout; a reader that has gone away ends the program as it ends others.
pub(crate) fn print(line: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(Exit::Success as i32);
    }
}

/// A result for people: texts as they are, everything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// 5, 5s, 500ms, 2m.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write 5, 5s, 500ms or 2m");
    let (number, unit) =
        text.find(|c: char| c.is_ascii_alphabetic()).map_or((text, "s"), |at| text.split_at(at));
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    if !(0.001..=3600.0).contains(&seconds) {
        return Err(format!("{text:?}: from 1 ms to 1 h"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in
            [("5", 5_000), ("5s", 5_000), ("500ms", 500), ("2m", 120_000), ("0.5", 500), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "x", "5 weeks", "-1", "0", "2h", "ms", "NaN"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
