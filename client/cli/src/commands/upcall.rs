//! `rantai upcall`: sends messages to a server that calls back.

use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::path::PathBuf;

use chrono::Local;
use rantai_client::session::{Filter, Message};
use rantai_client::wire::fault::Code;
use rantai_client::wire::name::{MethodName, ObjectName};
use rantai_client::wire::topic::EventTopic;
use rantai_client::{CallError, Client, Content, Response, Subscription, printable};
use rantai_systems::upcall::{MESSAGE, SERVER, UpcallProxy, Words};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::connection::{Connection, log, print, print_json, run};
use crate::exit::{EXIT_CODES, Exit, Failure};
use crate::log_file::LogFile;
use crate::signals::stop_signal;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  rantai up --config upcall                serves what these call
  rantai upcall                            asks for messages, again and again, until bye or Ctrl-D
  rantai upcall 'one, two, bye'            sends these
  rantai upcall --listen                   prints what the server pushes, until Ctrl-C
  rantai call upcall.push 'good morning'   pushes to everybody who listens

Each message waits for its upcall for as long as --timeout says; without one the exit code is 6 in the end.
";

/// Maximum length of a line from stdin, in bytes.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// Maximum size of the log in bytes, and number of old log files kept.
const LOG_SIZE: u64 = 10_000_000;
const LOG_FILES: u16 = 5;

/// Send messages to a server that calls back.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Upcall {
    /// Messages, divided by commas; asked for when they are left out
    #[arg(value_name = "MESSAGES")]
    messages: Vec<String>,
    /// The server
    #[arg(long, value_name = "OBJECT", default_value = "upcall")]
    object: ObjectName,
    /// Write down here what is sent and received
    #[arg(long, value_name = "FILE", default_value = "client_log.txt")]
    log: PathBuf,
    /// Write nothing down
    #[arg(long, conflicts_with = "log")]
    no_log: bool,
    /// Go on when all messages are sent, for what the server pushes
    #[arg(long)]
    listen: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Item of a line of input.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Message(String),
    Bye,
}

/// Splits a line into messages at its commas, and trims them; the rest of the line after `bye` is ignored.
fn items(line: &str, bye: &str) -> Vec<Item> {
    let bye = bye.to_lowercase();
    let mut items = Vec::new();
    for part in line.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if part.to_lowercase() == bye {
            items.push(Item::Bye);
            break;
        }
        items.push(Item::Message(part.to_owned()));
    }
    items
}

impl Upcall {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        let lines = std::mem::take(&mut self.messages);
        run(self.talk(lines))
    }

    async fn talk(self, lines: Vec<String>) -> Result<(), Failure> {
        let stop = stop_signal().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        tokio::pin!(stop);
        let log = if self.no_log { None } else { Some(LogFile::open(&self.log, LOG_SIZE, LOG_FILES)?) };
        let mut notes = ConversationOutput { words: Words::default(), log, json: self.connection.json };
        let client = self.connection.client().await?;
        let desk = UpcallProxy::from(client.object(self.object.as_str()).deadline(self.connection.timeout()));
        match desk.words().await {
            Ok(words) => notes.words = words,
            Err(error) => return Err(self.no_answer(&mut notes, &error)),
        }
        let server = format!("{} on {}", self.object, self.connection.broker.shown());
        notes.write_down(&notes.words.connected.replace(SERVER, &server))?;
        let upcalls = self.upcalls(&client).await?;
        let mut talk = Talk { upcalls, client, notes, upcall: &self, unanswered: 0 };
        let ended = tokio::select! {
            ended = talk.go_on(lines) => ended,
            _ = &mut stop => Ok(()),
        };
        ended?;
        let Talk { client, mut notes, unanswered, .. } = talk;
        client.close().await;
        notes.write_down(&notes.words.closed.clone())?;
        match unanswered {
            0 => Ok(()),
            number => Err(Failure::new(Exit::NoAnswer, format!("messages without an upcall: {number}"))),
        }
    }

    /// Subscribes to the upcalls for this client and, if the broker allows it, those for all clients.
    async fn upcalls(&self, client: &Client) -> Result<Subscription, Failure> {
        let topic = |event: &str, to_me: bool| {
            let event = MethodName::new(event).expect("an identifier");
            let to = to_me.then(|| client.id().clone());
            EventTopic { object: self.object.clone(), event, client: to }.format(client.root())
        };
        let own = [topic("upcall", true), topic("pushed", true)];
        let filters = |topics: &[String]| topics.iter().map(|topic| Filter::new(topic).live()).collect();
        let all = [&own[..], &[topic("pushed", false)]].concat();
        let subscribed = match client.subscribe(filters(&all)).await {
            Err(CallError::Fault(fault)) if fault.code == Code::DENIED => {
                client.subscribe(filters(&own)).await
            }
            subscribed => subscribed,
        };
        subscribed.map_err(|error| self.connection.failed(&error))
    }

    fn no_answer(&self, notes: &mut ConversationOutput, error: &CallError) -> Failure {
        if is_timeout(error) {
            return match notes.timed_out() {
                Ok(()) => Failure::new(Exit::NoAnswer, format!("{} does not answer", self.object)),
                Err(failure) => failure,
            };
        }
        self.connection.failed(error)
    }
}

/// Checks whether the outcome of a call is unknown.
fn is_timeout(error: &CallError) -> bool {
    matches!(error, CallError::Lost) || matches!(error.code(), Some(Code::TIMED_OUT | Code::EXPIRED))
}

/// Conversation of a connected client.
struct Talk<'a> {
    client: Client,
    upcalls: Subscription,
    notes: ConversationOutput,
    upcall: &'a Upcall,
    unanswered: usize,
}

impl Talk<'_> {
    /// Sends the lines, or those of stdin, and prints upcalls, until `bye` or until there is nothing to send or wait for.
    async fn go_on(&mut self, lines: Vec<String>) -> Result<(), Failure> {
        let asked = lines.is_empty();
        for line in lines {
            if self.send_all(&line).await? {
                return Ok(());
            }
        }
        if asked {
            let mut typed = typed();
            while let Some(line) = self.ask(&mut typed).await? {
                if self.send_all(&line).await? {
                    return Ok(());
                }
            }
        }
        while self.upcall.listen {
            let message = self.upcalls.next().await;
            self.called(message)?;
        }
        Ok(())
    }

    /// Reads the next line, after a prompt on a terminal. Prints upcalls that arrive before it.
    async fn ask(
        &mut self,
        typed: &mut mpsc::Receiver<io::Result<String>>,
    ) -> Result<Option<String>, Failure> {
        let typing = io::stdin().is_terminal();
        loop {
            if typing {
                let _ = terminal::ask(&self.notes.words.prompt);
            }
            tokio::select! {
                line = typed.recv() => {
                    return line.transpose().map_err(|error| {
                        Failure::new(Exit::Usage, format!("cannot read MESSAGES: {error}"))
                    });
                }
                message = self.upcalls.next() => {
                    if typing {
                        print("");
                    }
                    self.called(message)?;
                }
            }
        }
    }

    /// Sends the messages of a line one after the other; returns whether one of them was `bye`.
    async fn send_all(&mut self, line: &str) -> Result<bool, Failure> {
        for item in items(line, &self.notes.words.bye) {
            match item {
                Item::Message(message) => self.send(&message).await?,
                Item::Bye => {
                    if !self.notes.json {
                        print(&printable(&self.notes.words.exiting));
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Sends a message, and waits until the server has accepted it and called back.
    async fn send(&mut self, message: &str) -> Result<(), Failure> {
        let timeout = self.upcall.connection.timeout();
        let deadline = Instant::now() + timeout;
        let identity = Uuid::now_v7();
        let desk = self.client.object(self.upcall.object.as_str()).deadline(timeout);
        // As a list, so that a message that looks like a number stays a string.
        let call = desk.request("send").identity(identity).params((message,)).send();
        tokio::pin!(call);
        self.notes.sent(message)?;
        let (mut taken, mut called_back) = (false, false);
        while !(taken && called_back) {
            tokio::select! {
                message = self.upcalls.next() => called_back |= self.called(message)? == Some(identity),
                answer = &mut call, if !taken => match outcome(answer) {
                    Ok(()) => taken = true,
                    Err(error) if is_timeout(&error) => return self.timed_out(),
                    Err(error) => return Err(self.upcall.connection.failed(&error)),
                },
                () = sleep_until(deadline) => return self.timed_out(),
            }
        }
        Ok(())
    }

    fn timed_out(&mut self) -> Result<(), Failure> {
        self.unanswered += 1;
        self.notes.timed_out()
    }

    /// Prints an upcall; returns the id of the message that it answers.
    fn called(&mut self, message: Option<Message>) -> Result<Option<Uuid>, Failure> {
        let Some(message) = message else {
            return Err(Failure::new(Exit::Unreachable, "the connection to the broker has ended"));
        };
        // A peer in another language may send plain text instead of JSON.
        let text = serde_json::from_slice::<String>(&message.payload);
        let text = text.unwrap_or_else(|_| String::from_utf8_lossy(&message.payload).into_owned());
        self.notes.received(&text)?;
        let correlation = message.properties.correlation.as_deref();
        Ok(correlation.and_then(|bytes| Uuid::from_slice(bytes).ok()))
    }
}

fn outcome(answer: Result<Response, CallError>) -> Result<(), CallError> {
    match answer?.outcome {
        Ok(Content::Value(_) | Content::Binary(_)) => Ok(()),
        Err(fault) => Err(CallError::Fault(fault)),
    }
}

/// Output and log of a conversation.
struct ConversationOutput {
    words: Words,
    log: Option<LogFile>,
    json: bool,
}

impl ConversationOutput {
    fn write_down(&mut self, text: &str) -> Result<(), Failure> {
        let Some(log) = &mut self.log else { return Ok(()) };
        log.append(&format!("{} {}", Local::now().format("%Y-%m-%d %H:%M:%S"), printable(text)))
    }

    fn show(&self, value: &Value, text: &str) {
        if self.json { print_json(value) } else { print(&printable(text)) }
    }

    fn sent(&mut self, message: &str) -> Result<(), Failure> {
        if self.json {
            print_json(&json!({"sent": message}));
        }
        self.write_down(&self.words.sent.replace(MESSAGE, message))
    }

    fn received(&mut self, text: &str) -> Result<(), Failure> {
        self.show(&json!({"received": text}), &self.words.upcall.replace(MESSAGE, text));
        self.write_down(&self.words.received.replace(MESSAGE, text))
    }

    fn timed_out(&mut self) -> Result<(), Failure> {
        self.show(&json!({"timeout": true}), &self.words.timeout);
        self.write_down(&self.words.timeout.clone())
    }
}

/// Reads the lines of stdin on a separate thread, as a read may block forever.
fn typed() -> mpsc::Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = BufReader::new(io::stdin());
        loop {
            let mut line = String::new();
            let read = match (&mut input).take(MAX_LINE_BYTES).read_line(&mut line) {
                Ok(0) => return,
                Ok(_) if line.len() as u64 == MAX_LINE_BYTES => Err(io::Error::other("a line is too long")),
                Ok(_) => Ok(line),
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_split_at_commas_up_to_bye() {
        let messages = |line: &str| {
            let text = |item| match item {
                Item::Message(text) => text,
                Item::Bye => "BYE".to_owned(),
            };
            items(line, "bye").into_iter().map(text).collect::<Vec<_>>()
        };
        for (line, expected) in [
            ("", &[][..]),
            (" , ,,\n", &[]),
            ("hello", &["hello"]),
            (" a ,b b,, c \r\n", &["a", "b b", "c"]),
            ("a, BYE , b", &["a", "BYE"]),
            ("Bye", &["BYE"]),
            ("goodbye, bye bye", &["goodbye", "bye bye"]),
            ("1984, null, 本", &["1984", "null", "本"]),
        ] {
            assert_eq!(messages(line), expected, "{line:?}");
        }
    }
}
