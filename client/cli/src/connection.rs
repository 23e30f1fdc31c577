//! Connection of a command to the broker.

use std::future::Future;
use std::time::Duration;

use rantai_client::Client;
use serde_json::Value;

pub(crate) use crate::endpoint::Broker;
use crate::exit::{Exit, Failure};
pub(crate) use crate::terminal::{log, note, print, print_json, say};

/// Time limit of a command if neither `--timeout` nor the context sets one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// For commands that call.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Connection {
    #[command(flatten)]
    pub(crate) broker: Broker,
    /// Time limit: 5, 5s or 500ms; transfers of files may take longer, and end after this time without progress [default: 30]
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Connection {
    /// Returns the time limit of the command.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.or_else(|| self.broker.timeout()).unwrap_or(DEFAULT_TIMEOUT)
    }

    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let builder = Client::builder(self.broker.address()?).root(self.broker.root()?);
        if let Ok(client) = tokio::time::timeout(self.timeout(), builder.connect()).await {
            Ok(client?)
        } else {
            let text = format!("{} did not answer within {:?}", self.broker.shown(), self.timeout());
            Err(Failure::new(Exit::Unreachable, text))
        }
    }

    /// Runs a command that may make many calls within the time limit of the command as a whole.
    pub(crate) async fn within<T>(
        &self,
        command: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::time::timeout(self.timeout(), command).await.unwrap_or_else(|_| {
            let text = format!("not ended within {:?}; --timeout gives it more time", self.timeout());
            Err(Failure::new(Exit::NoAnswer, text))
        })
    }

    pub(crate) fn failed(&self, error: &rantai_client::CallError) -> Failure {
        Failure::from_call(error, &self.broker.shown())
    }
}

/// Runs a command to its end, on a single-threaded runtime.
pub(crate) fn run<F: Future<Output = Result<(), Failure>>>(future: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from_error(Exit::Failed, &error))?;
    let result = runtime.block_on(future);
    // Threads that are still blocked must not delay the exit.
    runtime.shutdown_background();
    result
}

/// Formats a result for people: strings as they are, everything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Parses a duration from 1 ms to 1 h, such as 5 (seconds), 5s, 500ms or 2m.
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
