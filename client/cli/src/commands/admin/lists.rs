//! Lists of `rantai admin`: tables for people, and JSON.

use std::num::NonZeroUsize;

use chrono::{DateTime, Local, SecondsFormat};
use rantai_client::{CallError, printable};
use serde::Serialize;
use serde_json::json;

use super::Administered;
use crate::administration::{Listing, Session};
use crate::connection::{note, print_json};
use crate::exit::Failure;
use crate::table::Table;

/// Maximum number of items that the broker is asked for at once.
const PAGE_ITEMS: usize = 1_000;
/// Items that are listed, unless an option says otherwise.
const DEFAULT_LIMIT: &str = "1000";

/// How much of a list is shown.
#[derive(clap::Args)]
pub(super) struct ListOptions {
    /// Maximum number of items
    #[arg(long, value_name = "N", default_value = DEFAULT_LIMIT)]
    limit: NonZeroUsize,
}

impl Administered<'_> {
    pub(super) async fn clients(&self, list: &ListOptions) -> Result<(), Failure> {
        let proxy = self.proxy();
        let clients = self.items(list, async |after, most| proxy.clients(after, most).await).await?;
        if self.is_json(&clients) {
            return Ok(());
        }
        let mut table = Table::new(["CLIENT", "USER", "ADDRESS", "MQTT", "FILTERS", "QUEUED", "CONNECTED"]);
        for client in &clients {
            let Some(connection) = &client.connection else { continue };
            table.row([
                &cell(&client.client_id),
                &user(client),
                &cell(&connection.address),
                &cell(&connection.protocol),
                &client.subscriptions.to_string(),
                &client.queued.to_string(),
                &time(connection.since_ms),
            ]);
        }
        table.print();
        Ok(())
    }

    pub(super) async fn sessions(&self, list: &ListOptions) -> Result<(), Failure> {
        let proxy = self.proxy();
        let sessions = self.items(list, async |after, most| proxy.sessions(after, most).await).await?;
        if self.is_json(&sessions) {
            return Ok(());
        }
        let mut table = Table::new(["CLIENT", "USER", "KEPT", "FILTERS", "QUEUED", "EXPIRES", "CONNECTION"]);
        for session in &sessions {
            table.row([
                &cell(&session.client_id),
                &user(session),
                kept(session),
                &session.subscriptions.to_string(),
                &session.queued.to_string(),
                &expiry(session),
                &state(session),
            ]);
        }
        table.print();
        Ok(())
    }

    pub(super) async fn client(&self, id: String) -> Result<(), Failure> {
        let session = self.proxy().client(id).await.map_err(|error| self.failed(&error))?;
        if self.is_json(&session) {
            return Ok(());
        }
        let queued = format!("{} messages, {} bytes", session.queued, session.queued_bytes);
        let mut table = Table::new(["client", &cell(&session.client_id)]);
        for (name, value) in [
            ("user", user(&session)),
            ("connection", state(&session)),
            ("MQTT", session.connection.as_ref().map_or("-".to_owned(), |of| cell(&of.protocol))),
            ("kept", kept(&session).to_owned()),
            ("expires", expiry(&session)),
            ("subscriptions", session.subscriptions.to_string()),
            ("queued", queued),
            ("in flight", session.in_flight.to_string()),
            ("will", session.will.as_deref().map_or("-".to_owned(), cell)),
        ] {
            table.row([name, &value]);
        }
        table.print();
        Ok(())
    }

    pub(super) async fn subscriptions(&self, filter: &str, list: &ListOptions) -> Result<(), Failure> {
        let (proxy, filter) = (self.proxy(), Some(filter.to_owned()));
        let ask = async |after, most| proxy.subscriptions(filter.clone(), after, most).await;
        let subscriptions = self.items(list, ask).await?;
        if self.is_json(&subscriptions) {
            return Ok(());
        }
        let mut table = Table::new(["CLIENT", "QOS", "FILTER"]);
        for subscription in &subscriptions {
            let qos = subscription.qos.to_string();
            table.row([&cell(&subscription.client_id), &qos, &cell(&subscription.filter)]);
        }
        table.print();
        Ok(())
    }

    pub(super) async fn retained(&self, filter: &str, list: &ListOptions) -> Result<(), Failure> {
        let (proxy, filter) = (self.proxy(), Some(filter.to_owned()));
        let ask = async |after, most| proxy.retained(filter.clone(), after, most).await;
        let retained = self.items(list, ask).await?;
        if self.is_json(&retained) {
            return Ok(());
        }
        let mut table = Table::new(["BYTES", "QOS", "EXPIRES", "TOPIC"]);
        for message in &retained {
            let expires = message.expires_ms.map_or("never".to_owned(), time);
            let (bytes, qos) = (message.bytes.to_string(), message.qos.to_string());
            table.row([&bytes, &qos, &expires, &cell(&message.topic)]);
        }
        table.print();
        Ok(())
    }

    pub(super) async fn limits(&self) -> Result<(), Failure> {
        let limits = self.proxy().limits().await.map_err(|error| self.failed(&error))?;
        if self.is_json(&limits) {
            return Ok(());
        }
        let mut table = Table::new(["LIMIT", "VALUE", "USED", "CHANGED BY"]);
        for limit in &limits {
            let used = limit.used.map_or("-".to_owned(), |used| used.to_string());
            let by = if limit.live { "reload" } else { "restart" };
            table.row([&cell(&limit.key), &cell(&limit.value), &used, by]);
        }
        table.print();
        Ok(())
    }

    /// Reads a list page by page, up to the limit, and notes if there is more.
    async fn items<T>(
        &self,
        list: &ListOptions,
        ask: impl AsyncFn(Option<String>, Option<u32>) -> Result<Listing<T>, CallError>,
    ) -> Result<Vec<T>, Failure> {
        let (limit, mut items, mut after) = (list.limit.get(), Vec::new(), None);
        loop {
            let most = u32::try_from((limit - items.len()).min(PAGE_ITEMS)).unwrap_or(u32::MAX);
            let page = ask(after.take(), Some(most)).await.map_err(|error| self.failed(&error))?;
            items.extend(page.items);
            match page.next {
                None => return Ok(items),
                Some(_) if items.len() >= limit => {
                    note(&format!("the first {limit}; --limit N shows more"));
                    return Ok(items);
                }
                next => after = next,
            }
        }
    }

    /// Prints a value as JSON, if the command line says so.
    fn is_json(&self, value: &impl Serialize) -> bool {
        if self.connection.json {
            print_json(&json!(value));
        }
        self.connection.json
    }
}

/// Formats a text of a client for a table: whatever it contains, a row is a row.
fn cell(text: &str) -> String {
    printable(text)
}

fn user(session: &Session) -> String {
    match &session.user {
        Some(user) => cell(user),
        None if session.own => "(the broker's process)".to_owned(),
        None => "-".to_owned(),
    }
}

fn kept(session: &Session) -> &'static str {
    if session.on_disk { "on disk" } else { "in memory" }
}

fn expiry(session: &Session) -> String {
    session.expiry_s.map_or("never".to_owned(), |seconds| format!("after {seconds} s"))
}

fn state(session: &Session) -> String {
    match (&session.connection, session.away_since_ms) {
        (Some(connection), _) => format!("{} since {}", cell(&connection.address), time(connection.since_ms)),
        (None, Some(since)) => format!("away since {}", time(since)),
        (None, None) => "away".to_owned(),
    }
}

/// Formats a time in the local time zone.
fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis);
    time.map_or("-".to_owned(), |time| time.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Secs, true))
}
