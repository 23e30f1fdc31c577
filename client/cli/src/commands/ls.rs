//! `rantai ls`: what is registered, and whether it is served now.

use serde_json::{Value, json};

use crate::connection::{Connection, log, print, print_json, run};
use crate::exit::{EXIT_CODES, Failure};

const EXAMPLES: &str = "\
Examples:
  rantai ls                        every object, its node, and whether it is served now
  rantai ls example.               those whose names begin so
  rantai ls --json | jq '.[].name'
";

/// List the objects there are.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Ls {
    /// Only names that begin with this
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,
    #[command(flatten)]
    connection: Connection,
}

impl Ls {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.list())
    }

    async fn list(self) -> Result<(), Failure> {
        let client = self.connection.client().await?;
        let view = client.registry().list().await.map_err(|error| self.connection.failed(&error))?;
        client.close().await;
        let entries: Vec<_> =
            view.all().filter(|(entry, _)| entry.object.starts_with(&self.prefix)).collect();
        let state = |served, settled| match (served, settled) {
            (true, _) => "served",
            (false, false) => "claimed",
            (false, true) => "lost",
        };
        if self.connection.json {
            let entries: Vec<Value> = entries
                .iter()
                .map(|(entry, served)| {
                    json!({
                        "name": entry.object, "node": entry.node, "state": state(*served, entry.settled),
                        "mode": entry.mode, "version": entry.version, "summary": entry.summary,
                        "tags": entry.tags, "methods": entry.methods, "events": entry.events,
                    })
                })
                .collect();
            print_json(&Value::Array(entries));
            return Ok(());
        }
        let width = |of: &dyn Fn(&rantai_client::wire::entry::Entry) -> usize, title: &str| {
            entries.iter().map(|(entry, _)| of(entry)).max().unwrap_or(0).max(title.len())
        };
        let (name, node) = (width(&|e| e.object.len(), "NAME"), width(&|e| e.node.len(), "NODE"));
        if !entries.is_empty() {
            print(&format!("{:name$}  {:node$}  {:7}  METHODS", "NAME", "NODE", "STATE"));
        }
        for (entry, served) in entries {
            let state = state(served, entry.settled);
            let methods = entry.methods.join(" ");
            print(format!("{:name$}  {:node$}  {state:7}  {methods}", entry.object, entry.node).trim_end());
        }
        Ok(())
    }
}
