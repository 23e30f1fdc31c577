//! `rantai task watch`: every change of state of a task.

use rantai_client::Client;
use rantai_client::session::Filter;
use rantai_client::wire::name::{MethodName, ObjectName};
use rantai_client::wire::topic::EventTopic;
use rantai_tasks::ledger::Summary;
use serde_json::{Value, json};

use super::line;
use crate::connection::{Connection, note, print, print_json};
use crate::exit::{Exit, Failure};
use crate::signals::interrupted;

/// Prints the changes until it is interrupted.
pub(super) async fn watch(client: &Client, connection: &Connection) -> Result<(), Failure> {
    let (object, event) = (ObjectName::reserved("tasks"), MethodName::new("state"));
    let object = object.ok_or_else(|| Failure::new(Exit::Failed, "no ledger"))?;
    let event = event.map_err(|error| Failure::from_error(Exit::Failed, &error))?;
    let filters = EventTopic::filters(client.root(), &object, Some(&event));
    let events = client.subscribe(filters.into_iter().map(Filter::new).collect()).await;
    let mut events = events.map_err(|error| connection.failed(&error))?;
    let interrupted = interrupted().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
    tokio::pin!(interrupted);
    if let Ok(view) = client.registry().list().await
        && !view.all().any(|(entry, _)| entry.object == "tasks")
    {
        note(&format!("no object \"tasks\" on {} yet", connection.broker.shown()));
    }
    note("watching tasks");
    loop {
        let message = tokio::select! {
            message = events.next() => message,
            () = &mut interrupted => return Ok(()),
        };
        let Some(message) = message else {
            return Err(Failure::new(Exit::Unreachable, "the connection to the broker has ended"));
        };
        match serde_json::from_slice::<Summary>(&message.payload) {
            Ok(task) if !connection.json => print(&line(&task)),
            Ok(task) => print_json(&json!(task)),
            Err(_) => print_json(&Value::from(String::from_utf8_lossy(&message.payload))),
        }
    }
}
