//! `rantai ls`: registered objects, and whether they are served now.

use serde_json::{Value, json};

use crate::connection::{Connection, log, note, print_json, run};
use crate::exit::{EXIT_CODES, Failure};
use crate::table::Table;

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
        let list = async {
            let view = client.registry().list().await.map_err(|error| self.connection.failed(&error))?;
            client.close().await;
            Ok(view)
        };
        let view = self.connection.within(list).await?;
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
        if entries.is_empty() {
            note(&self.nothing());
        }
        let mut table = Table::new(["NAME", "NODE", "STATE", "METHODS"]);
        for (entry, served) in entries {
            let methods = entry.methods.join(" ");
            table.row([&entry.object, &entry.node, state(served, entry.settled), &methods]);
        }
        table.print();
        Ok(())
    }

    /// Returns the message for an empty list.
    fn nothing(&self) -> String {
        let broker = self.connection.broker.shown();
        match &*self.prefix {
            "" => format!("no objects on {broker}; `rantai serve` serves some"),
            prefix => format!("no objects on {broker} whose names begin with {prefix:?}"),
        }
    }
}
