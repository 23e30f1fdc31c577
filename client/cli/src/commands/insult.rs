//! `rantai insult`: clients of the insult services.

use std::time::Duration;

use rantai_client::session::Filter;
use rantai_client::wire::name::{MethodName, ObjectName};
use rantai_client::wire::topic::EventTopic;
use rantai_client::{Client, printable};
use rantai_systems::insult::Texts;
use rantai_systems::insult::filter::InsultFilterServiceProxy;
use rantai_systems::insult::notifier::NotifierProxy;
use rantai_systems::insult::service::InsultServiceProxy;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, log, note, print, print_json, run};
use crate::exit::{EXIT_CODES, Exit, Failure};
use crate::signals::stop_signal;

const EXAMPLES: &str = "\
Examples:
  rantai up --config insult               serves what these call
  rantai insult add tonto bobo            registers insults
  rantai insult list
  rantai insult filter 'eres un tonto'    keeps it as: eres un CENSORED
  rantai insult texts
  rantai insult listen                    an insult every five seconds, until Ctrl-C
";

/// Register insults, take them out of texts, and be insulted.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Insult {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Register insults
    Add {
        /// Insults
        #[arg(value_name = "INSULT", required = true)]
        insults: Vec<String>,
        /// The service
        #[arg(long, value_name = "OBJECT", default_value = "InsultService")]
        object: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the insults
    List {
        /// The service
        #[arg(long, value_name = "OBJECT", default_value = "InsultService")]
        object: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Take the insults out of texts, and keep the texts
    Filter {
        /// Texts
        #[arg(value_name = "TEXT", required = true)]
        texts: Vec<String>,
        /// The service
        #[arg(long, value_name = "OBJECT", default_value = "InsultFilterService")]
        object: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the texts
    Texts {
        /// The service
        #[arg(long, value_name = "OBJECT", default_value = "InsultFilterService")]
        object: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Be called back with insults, until Ctrl-C
    Listen {
        /// End after this many
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// The notifier
        #[arg(long, value_name = "OBJECT", default_value = "Notifier")]
        object: ObjectName,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Insult {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        match self.action {
            Action::Add { insults, object, connection } => run(add(insults, object, connection)),
            Action::List { object, connection } => run(list(object, connection)),
            Action::Filter { texts, object, connection } => run(filter(texts, object, connection)),
            Action::Texts { object, connection } => run(texts(object, connection)),
            Action::Listen { count, object, connection } => run(listen(count, object, connection)),
        }
    }
}

/// Prints one line for each item, or all of them as JSON.
fn show<T: Serialize>(connection: &Connection, all: &[T], line: impl Fn(&T) -> String) {
    if connection.json {
        return print_json(&json!(all));
    }
    for one in all {
        print(&printable(&line(one)));
    }
}

async fn add(insults: Vec<String>, object: String, connection: Connection) -> Result<(), Failure> {
    let client = connection.client().await?;
    let service = InsultServiceProxy::from(client.object(&object).deadline(connection.timeout()));
    let told = service.add_insult(Texts::Many(insults)).await.map_err(|error| connection.failed(&error))?;
    client.close().await;
    show(&connection, &told, Clone::clone);
    Ok(())
}

async fn list(object: String, connection: Connection) -> Result<(), Failure> {
    let client = connection.client().await?;
    let service = InsultServiceProxy::from(client.object(&object).deadline(connection.timeout()));
    let pages = async {
        let mut all: Vec<String> = Vec::new();
        loop {
            let page = service.get_insults(Some(all.len() as u64)).await;
            let page = page.map_err(|error| connection.failed(&error))?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    };
    let all = connection.within(pages).await?;
    client.close().await;
    show(&connection, &all, Clone::clone);
    Ok(())
}

async fn filter(texts: Vec<String>, object: String, connection: Connection) -> Result<(), Failure> {
    let client = connection.client().await?;
    let service = InsultFilterServiceProxy::from(client.object(&object).deadline(connection.timeout()));
    let told = service.add_text(Texts::Many(texts)).await.map_err(|error| connection.failed(&error))?;
    client.close().await;
    show(&connection, &told, Clone::clone);
    Ok(())
}

async fn texts(object: String, connection: Connection) -> Result<(), Failure> {
    let client = connection.client().await?;
    let service = InsultFilterServiceProxy::from(client.object(&object).deadline(connection.timeout()));
    let pages = async {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = service.get_texts(after).await.map_err(|error| connection.failed(&error))?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.id);
            all.extend(page);
        }
    };
    let all = connection.within(pages).await?;
    client.close().await;
    show(&connection, &all, |kept| format!("{}  {}  {}", kept.id, kept.timestamp, kept.text));
    Ok(())
}

async fn listen(count: Option<u64>, object: ObjectName, connection: Connection) -> Result<(), Failure> {
    let stop = stop_signal().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
    tokio::pin!(stop);
    let client = connection.client().await?;
    let event = MethodName::new("insult").expect("an identifier");
    let topic = EventTopic { object: object.clone(), event, client: Some(client.id().clone()) };
    let filter = Filter::new(topic.format(client.root())).live();
    let mut insults = client.subscribe(vec![filter]).await.map_err(|error| connection.failed(&error))?;
    let notifier = NotifierProxy::from(client.object(object.as_str()).deadline(connection.timeout()));
    let mut renewal = Instant::now();
    let mut first = true;
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        tokio::select! {
            _ = &mut stop => break,
            () = sleep_until(renewal) => match subscribe(&notifier, &client).await {
                Ok(lease) => {
                    if std::mem::take(&mut first) {
                        note(&format!("subscribed to {object}"));
                    }
                    renewal = Instant::now() + lease / 3;
                }
                Err(error) if first => return Err(connection.failed(&error)),
                // The notifier may come back.
                Err(error) => {
                    connection.failed(&error).tell();
                    renewal = Instant::now() + Duration::from_secs(1);
                }
            },
            message = insults.next() => {
                let Some(message) = message else {
                    return Err(Failure::new(Exit::Unreachable, "the connection to the broker has ended"));
                };
                let insult = serde_json::from_slice::<Value>(&message.payload).unwrap_or_default();
                let text = insult.as_str().map_or_else(|| insult.to_string(), printable);
                if connection.json { print_json(&insult) } else { print(&text) }
                left -= 1;
            }
        }
    }
    // If the notifier does not answer, the subscription ends with its lease.
    let _ = NotifierProxy::from(client.object(object.as_str()).deadline(Duration::from_secs(1)))
        .unsubscribe(None)
        .await;
    client.close().await;
    Ok(())
}

/// Subscribes this client; returns the duration of the lease.
async fn subscribe(notifier: &NotifierProxy, client: &Client) -> Result<Duration, rantai_client::CallError> {
    let subscribed = notifier.subscribe(None).await?;
    tracing::debug!("{} is subscribed as {}", client.id(), subscribed.subscriber);
    Ok(Duration::from_millis(subscribed.lease_ms.unwrap_or(60_000).max(30)))
}
