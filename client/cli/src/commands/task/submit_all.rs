//! `rantai task submit-all`: stores the calls of a file.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use rantai_client::wire::json::{quote_large_integers, read};
use rantai_tasks::ledger::{Submission, TasksProxy};
use rantai_tasks::task::Task;
use serde_json::json;

use crate::connection::{Connection, note, print, print_json};
use crate::exit::{Exit, Failure};

/// Maximum number of objects of which it is said that nobody serves them.
const OBJECTS_LOOKED_AT: usize = 16;

/// Stores the calls of a file, all of them or none, and prints their ids.
pub(super) async fn submit_all(
    ledger: &TasksProxy,
    connection: &Connection,
    file: &Path,
) -> Result<(), Failure> {
    let text =
        if file == Path::new("-") { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(file) };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("cannot read {}: {error}", file.display()))
    };
    let text = text.map_err(|error| wrong(&error))?;
    // By the rules of the bus, which a reader of JSON alone does not know.
    read(text.as_bytes()).map_err(|error| wrong(&error))?;
    // Integers beyond ±(2^53 − 1) become strings, as they could be rounded.
    let quoted = quote_large_integers(text.as_bytes());
    let calls: Vec<Submission> = serde_json::from_slice(quoted.as_deref().unwrap_or(text.as_bytes()))
        .map_err(|error| wrong(&error))?;
    let objects: Vec<String> = calls.iter().map(|call| call.object.clone()).collect();
    let ids = ledger.submit_all(calls).await.map_err(|error| connection.failed(&error))?;
    let mut looked_at = HashSet::new();
    let of_each_object = objects.iter().zip(&ids).filter(|(object, _)| looked_at.insert(*object));
    for (_, id) in of_each_object.take(OBJECTS_LOOKED_AT) {
        // Whoever may submit need not be allowed to read tasks.
        if let Ok(Task { waits: Some(reason), .. }) = ledger.get(id.clone()).await {
            note(&format!("tasks wait: {reason}"));
        }
    }
    if connection.json {
        print_json(&json!(ids));
    } else {
        for id in &ids {
            print(id);
        }
    }
    Ok(())
}
