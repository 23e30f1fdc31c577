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

/// Parses a duration from 1 ms to 1 h, such as 5 (seconds), 5s, 500ms, 2m or 1m30s.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    duration_up_to(text, Duration::from_hours(1), "1 h")
}

/// Parses a duration from 1 ms to 365 days, such as 5 (seconds), 2h, 1h30m or 1d.
pub(crate) fn long_duration(text: &str) -> Result<Duration, String> {
    duration_up_to(text, Duration::from_hours(365 * 24), "365 d")
}

fn duration_up_to(text: &str, most: Duration, most_shown: &str) -> Result<Duration, String> {
    let seconds = seconds(text)
        .ok_or_else(|| format!("{text:?} is not a time; write 5, 500ms, 5s, 2m, 1h30m or 1d"))?;
    if !(0.001..=most.as_secs_f64()).contains(&seconds) {
        return Err(format!("{text:?} is out of range: expected 1 ms to {most_shown}"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Returns the sum of numbers with units, or a number of seconds.
fn seconds(text: &str) -> Option<f64> {
    let (mut sum, mut rest) = (0.0, text.trim());
    if let Ok(seconds) = rest.parse() {
        return Some(seconds);
    }
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, further) = behind.split_at(end);
        let unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        sum += number.trim().parse::<f64>().ok().filter(|number| *number >= 0.0)? * unit;
        rest = further;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_and_bounded() {
        for (text, ms) in
            [("5", 5_000), ("5s", 5_000), ("500ms", 500), ("2m", 120_000), ("0.5", 500), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "x", "5 weeks", "-1", "0", "2h", "ms", "NaN", "inf", "1h-30m", "1e400"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for (text, ms) in
            [("1h30m", 5_400_000), ("1d", 86_400_000), ("1 d 0.5 h", 88_200_000), ("365d", 31_536_000_000)]
        {
            assert_eq!(long_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert!(long_duration("365d1s").is_err() && long_duration("m").is_err());
    }
}
