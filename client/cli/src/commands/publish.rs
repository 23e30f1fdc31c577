//! `rantai pub`: a message on any topic.

use std::io::Read as _;
use std::time::Duration;

use rantai_client::session::{Publish, QoS, Unsent};
use rantai_client::wire::topic::is_topic;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::connection::{Connection, duration, log, note, print_json, run};
use crate::exit::{Exit, Failure};
use crate::signals::stop_signal;

const EXAMPLES: &str = "\
Examples:
  rantai pub sister/temp '28°C' --qos 0
  rantai pub door/state open --retain
  rantai pub door/state --retain                       takes the kept message away
  rantai pub camera/picture - < picture.jpg
  rantai pub alive 1 --every 10s                       until Ctrl-C
  rantai pub load x --count 1000

Exit codes: 0 published, or ended by Ctrl-C, 2 wrong command line or too large, 3 no broker, 4 not allowed, 6 no answer
in time.";

/// Maximum size of a payload read from a pipe, in bytes; the broker's limit may be lower.
const MAX_PAYLOAD_BYTES: u64 = 16 << 20;

/// Publish on any topic.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Pub {
    /// The topic
    #[arg(value_name = "TOPIC", value_parser = topic)]
    topic: String,
    /// The message; - reads it from a pipe, and without it the message is empty
    #[arg(value_name = "PAYLOAD", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    payload: String,
    /// 0, or 1: then the broker acknowledges it
    #[arg(long, value_name = "QOS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(..=1))]
    qos: u8,
    /// Have the broker retain it for later subscribers
    #[arg(long)]
    retain: bool,
    /// Publish it this many times [default: once, or without end with --every]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Wait this long between two of them
    #[arg(long, value_name = "TIME", value_parser = duration)]
    every: Option<Duration>,
    #[command(flatten)]
    connection: Connection,
}

fn topic(text: &str) -> Result<String, String> {
    if is_topic(text) { Ok(text.to_owned()) } else { Err("no topic: it has no + and no # in it".to_owned()) }
}

impl Pub {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        let payload = match &*self.payload {
            "-" => piped()?,
            text => text.as_bytes().to_vec(),
        };
        run(self.publish(payload))
    }

    async fn publish(self, payload: Vec<u8>) -> Result<(), Failure> {
        let stop = stop_signal().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        tokio::pin!(stop);
        let client = self.connection.client().await?;
        let qos = if self.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let mut message = Publish::new(self.topic.clone(), payload).qos(qos);
        message.retain = self.retain;
        let mut left = self.count.unwrap_or(if self.every.is_some() { u64::MAX } else { 1 });
        let mut ticks = self.every.map(interval);
        if let Some(ticks) = &mut ticks {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let (mut published, mut unheard) = (0_u64, 0_u64);
        while left > 0 {
            let one = async {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                timeout(self.connection.timeout(), client.publish(message.clone())).await
            };
            let result = tokio::select! {
                result = one => result,
                _ = &mut stop => break,
            };
            match result {
                Ok(Ok(())) => {}
                Ok(Err(Unsent::NobodyThere)) => unheard += 1,
                Ok(Err(error)) => return Err(refused(&error)),
                Err(_) => {
                    let text = format!("the broker did not take it within {:?}", self.connection.timeout());
                    return Err(Failure::new(Exit::NoAnswer, text));
                }
            }
            published += 1;
            left -= 1;
        }
        client.close().await;
        if self.connection.json {
            print_json(&json!({"topic": self.topic, "published": published, "unheard": unheard}));
        } else if unheard > 0 {
            note(&format!("nobody subscribes to {}", self.topic));
        }
        Ok(())
    }
}

fn piped() -> Result<Vec<u8>, Failure> {
    let mut payload = Vec::new();
    let read = std::io::stdin().lock().take(MAX_PAYLOAD_BYTES + 1).read_to_end(&mut payload);
    read.map_err(|error| Failure::new(Exit::Usage, format!("cannot read PAYLOAD: {error}")))?;
    if payload.len() as u64 > MAX_PAYLOAD_BYTES {
        return Err(Failure::new(Exit::Usage, format!("PAYLOAD has more than {MAX_PAYLOAD_BYTES} bytes")));
    }
    Ok(payload)
}

fn refused(error: &Unsent) -> Failure {
    let exit = match error {
        Unsent::Denied { .. } => Exit::Denied,
        Unsent::TooLarge { .. } | Unsent::BadTopic(_) => Exit::Usage,
        Unsent::Busy => Exit::NoAnswer,
        Unsent::Lost | Unsent::Offline | Unsent::Ended => Exit::Unreachable,
        _ => Exit::Failed,
    };
    Failure::from_error(exit, error)
}
