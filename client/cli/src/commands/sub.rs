//! `rantai sub`: messages on any topics, printed and written to a file.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;

use rantai_client::session::{Filter, Message, QoS, Status};
use rantai_client::wire::topic::{covers, is_filter, overlap};
use rantai_client::{Client, Subscription, hex, printable};
use serde_json::{Value, json};

use crate::connection::{Broker, log, note, print_json, run};
use crate::exit::{Exit, Failure};
use crate::log_file::{LogFile, MAX_OLD_FILES};
use crate::signals::stop_signal;
use crate::template::Template;
use crate::terminal::print_formatted;

const EXAMPLES: &str = "\
Examples:
  rantai up --config telemetry      publishes on sister/temp and sister/humidity
  rantai sub sister/temp sister/humidity --log mqtt_messages.log
  rantai sub 'sister/#' --format '{topic} {payload}'
  rantai sub 'sister/+' --count 10 --json

A line in --format has {payload}, {topic}, {qos} and {retained}; what is no text is shown in hexadecimal. A message that
is kept comes once, also where the broker was away meanwhile. The broker is waited for with --wait only at the start;
later it always is.

Exit codes: 0 ended by Ctrl-C, SIGTERM or --count, 1 the file cannot be written, 2 wrong command line, 3 no broker,
4 not allowed.";

const FORMAT: &str = "Received message: {payload} (Topic: {topic})";
const FIELDS: &[&str] = &["payload", "topic", "qos", "retained"];

/// Follow any topics.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Sub {
    /// Topics, with the wildcards + and #
    #[arg(value_name = "TOPIC", required = true, value_parser = filter)]
    topics: Vec<String>,
    /// A line for each message
    #[arg(long, value_name = "TEXT", default_value = FORMAT, value_parser = template)]
    format: Template,
    /// Append each line to this file too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The file is put away when it has this many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    log_size: u64,
    /// Files put away that are kept
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(..=i64::from(MAX_OLD_FILES)))]
    log_files: u16,
    /// The highest QoS: 0 or 1
    #[arg(long, value_name = "QOS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(..=1))]
    qos: u8,
    /// Leave out what was kept before
    #[arg(long)]
    live: bool,
    /// End after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Wait for a broker that is not there yet
    #[arg(long)]
    wait: bool,
    /// One JSON object a line, printed and in the file
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

fn filter(text: &str) -> Result<String, String> {
    if text.starts_with("$share/") {
        return Err("a group shares its messages out; to follow them, leave $share/GROUP/ out".to_owned());
    }
    if !is_filter(text) {
        return Err("+ stands for a whole level, # for all that follow and only at the end".to_owned());
    }
    Ok(text.to_owned())
}

fn template(text: &str) -> Result<Template, String> {
    Template::new(text, FIELDS)
}

impl Sub {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::WARN);
        run(self.follow())
    }

    async fn follow(self) -> Result<(), Failure> {
        let stop = stop_signal().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        tokio::pin!(stop);
        let mut file = match &self.log {
            Some(path) => Some(LogFile::open(path, self.log_size, self.log_files)?),
            None => None,
        };
        let begun = tokio::select! {
            begun = self.begin() => begun,
            _ = &mut stop => return Ok(()),
        };
        let (client, mut messages) = begun?;
        let mut status = client.status();
        status.borrow_and_update();
        let (mut seen, mut missed) = (SeenPayloads::default(), 0);
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let message = tokio::select! {
                _ = &mut stop => break,
                message = messages.next() => message,
                Ok(()) = status.changed() => {
                    tell(&status.borrow_and_update());
                    continue;
                }
            };
            let Some(message) = message else { return Err(ended(&client)) };
            if messages.missed() > missed {
                note(&format!(
                    "{} messages were missed: they come faster than they are written",
                    messages.missed() - missed
                ));
                missed = messages.missed();
            }
            if seen.is_repeated(&message) {
                continue;
            }
            let value = self.json.then(|| json_line(&message));
            let line = value.as_ref().map_or_else(|| self.line(&message), Value::to_string);
            if let Some(file) = &mut file {
                file.append(&line)?;
            }
            match &value {
                Some(value) => print_json(value),
                None => print_formatted(&line),
            }
            left -= 1;
        }
        client.close().await;
        Ok(())
    }

    async fn begin(&self) -> Result<(Client, Subscription), Failure> {
        let mut builder = Client::builder(self.broker.address()?).root(self.broker.root()?);
        if self.wait {
            builder = builder.patient();
        }
        let client = builder.connect().await?;
        let topics = distinct(&self.topics);
        for (index, topic) in topics.iter().enumerate() {
            if let Some(other) = topics[..index].iter().find(|other| overlap(topic, other)) {
                note(&format!("{other} and {topic} overlap: some brokers send twice what is on both"));
            }
        }
        let qos = if self.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let filter = |topic: &String| Filter { retained: !self.live, ..Filter::new(topic.clone()).qos(qos) };
        let messages = client.subscribe(topics.iter().map(filter).collect()).await;
        let messages = messages.map_err(|error| Failure::from_call(&error, &self.broker.shown()))?;
        note(&format!("subscribed to {}", topics.join(", ")));
        Ok((client, messages))
    }

    fn line(&self, message: &Message) -> String {
        let qos = if message.qos == QoS::AtMostOnce { "0" } else { "1" };
        let retained = if message.retain { "true" } else { "false" };
        let text = std::str::from_utf8(&message.payload);
        let payload = text.map_or_else(|_| hex(&message.payload), printable);
        let topic = printable(&message.topic);
        self.format.fill(|field| match field {
            "payload" => &payload,
            "topic" => &topic,
            "qos" => qos,
            _ => retained,
        })
    }
}

fn json_line(message: &Message) -> Value {
    let qos = u8::from(message.qos != QoS::AtMostOnce);
    let mut line = json!({"topic": &*message.topic, "qos": qos, "retained": message.retain});
    match std::str::from_utf8(&message.payload) {
        Ok(text) => line["payload"] = Value::from(text),
        Err(_) => line["hex"] = Value::from(hex(&message.payload)),
    }
    line
}

fn tell(status: &Status) {
    match status {
        Status::Offline => note("the connection to the broker is lost; it is tried again"),
        Status::Online(_) => note("connected again"),
        _ => {}
    }
}

fn ended(client: &Client) -> Failure {
    let reason = match &*client.status().borrow() {
        Status::Ended(reason) => reason.clone(),
        _ => "the connection has ended".to_owned(),
    };
    Failure::new(Exit::Unreachable, reason)
}

/// Removes filters that another filter covers: a message that matches both would be delivered twice.
fn distinct(topics: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for topic in topics {
        if !kept.iter().any(|other| covers(other, topic)) {
            kept.retain(|other| !covers(topic, other));
            kept.push(topic.clone());
        }
    }
    kept
}

/// Hashes of the last payload on each topic: at every new connection the broker sends retained messages again.
#[derive(Debug, Default)]
struct SeenPayloads {
    state: RandomState,
    last: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

impl SeenPayloads {
    /// Maximum number of topics that are remembered.
    const MAX_TOPICS: usize = 65_536;

    /// Checks whether a message is a retained copy of the last one on its topic.
    fn is_repeated(&mut self, message: &Message) -> bool {
        let (topic, payload) = (self.state.hash_one(&*message.topic), self.state.hash_one(&*message.payload));
        if let Some(before) = self.last.insert(topic, payload) {
            return message.retain && before == payload;
        }
        self.order.push_back(topic);
        if self.order.len() > Self::MAX_TOPICS
            && let Some(oldest) = self.order.pop_front()
        {
            self.last.remove(&oldest);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &str, retain: bool) -> Message {
        Message {
            topic: topic.into(),
            payload: payload.as_bytes().to_vec().into(),
            properties: rantai_client::wire::Properties::default(),
            qos: QoS::AtMostOnce,
            retain,
            unread: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn only_a_retained_copy_of_the_last_message_counts_as_repeated() {
        let mut seen = SeenPayloads::default();
        for (topic, payload, retain, expected) in [
            ("a", "1", true, false),
            ("a", "1", true, true),
            ("a", "1", false, false),
            ("b", "1", true, false),
            ("a", "2", true, false),
            ("a", "2", true, true),
            ("a", "3", false, false),
            ("a", "3", true, true),
        ] {
            assert_eq!(seen.is_repeated(&message(topic, payload, retain)), expected, "{topic} {payload}");
        }
        for number in 0..=SeenPayloads::MAX_TOPICS {
            seen.is_repeated(&message(&format!("t/{number}"), "", false));
        }
        assert!(seen.last.len() <= SeenPayloads::MAX_TOPICS && seen.order.len() <= SeenPayloads::MAX_TOPICS);
    }

    #[test]
    fn filters_covered_by_others_are_removed() {
        let distinct =
            |topics: &[&str]| distinct(&topics.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        assert_eq!(distinct(&["a/b", "a/b", "c"]), ["a/b", "c"]);
        assert_eq!(distinct(&["a/b", "a/#", "a/+"]), ["a/#"]);
        assert_eq!(distinct(&["#", "a", "$SYS/#"]), ["#", "$SYS/#"]);
        assert!(filter("a/#/b").is_err() && filter("$share/g/a").is_err() && filter("+/b").is_ok());
    }
}
