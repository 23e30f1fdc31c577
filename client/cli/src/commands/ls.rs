//! `rantai ls`: registered objects, and whether they are served now.

use rantai_client::registry::View;
use rantai_client::wire::entry::Entry;
use rantai_client::wire::name::{BROKER, ObjectName};
use serde_json::{Value, json};

use crate::connection::{Connection, log, note, print_json, run};
use crate::exit::{EXIT_CODES, Failure};
use crate::table::Table;

const EXAMPLES: &str = "\
Examples:
  rantai ls                        every object, its node, and whether it is served now
  rantai ls example.               those whose names begin so
  rantai ls --all                  also what nodes that are gone have left, and the object of the broker itself
  rantai ls --json | jq '.[].name'
";

/// Maximum number of names in the note on what is left out.
const MAX_NAMED: usize = 5;

/// List the objects there are.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Ls {
    /// Only names that begin with this
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// Also list entries of nodes that are gone, which `rantai forget NODE` clears, and `broker`, the object of the broker itself
    #[arg(long)]
    all: bool,
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
        let state = |served, settled| match (served, settled) {
            (true, _) => "served",
            (false, false) => "claimed",
            (false, true) => "lost",
        };
        let found = view.all().filter(|(entry, _)| self.shows(&entry.object));
        let (entries, gone): (Vec<_>, Vec<_>) =
            found.partition(|(entry, served)| self.all || *served || !entry.settled);
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
            left_out(&view, &gone);
            return Ok(());
        }
        if entries.is_empty() && gone.is_empty() {
            note(&self.nothing());
        }
        let mut table = Table::new(["NAME", "NODE", "STATE", "METHODS"]);
        for (entry, served) in entries {
            let methods = entry.methods.join(" ");
            table.row([&entry.object, &entry.node, state(served, entry.settled), &methods]);
        }
        table.print();
        left_out(&view, &gone);
        Ok(())
    }

    fn shows(&self, object: &str) -> bool {
        let is_hidden = object == BROKER && self.prefix.is_empty() && !self.all;
        !is_hidden && object.starts_with(&self.prefix)
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

/// Notes on stderr how many entries of nodes that are gone are left out, and the objects that no other node serves.
fn left_out(view: &View, lost: &[(&Entry, bool)]) {
    if lost.is_empty() {
        return;
    }
    let is_served =
        |entry: &Entry| ObjectName::new(&entry.object).is_ok_and(|object| view.is_served(&object));
    let unserved = lost.iter().filter(|(entry, _)| !is_served(entry));
    let mut nobody: Vec<&str> = unserved.map(|(entry, _)| &*entry.object).collect();
    nobody.dedup();
    let what = if lost.len() == 1 {
        "1 entry of a node that is gone is"
    } else {
        &format!("{} entries of nodes that are gone are", lost.len())
    };
    let unserved =
        if nobody.is_empty() { String::new() } else { format!("; nobody serves {}", shortened(&nobody)) };
    note(&format!("{what} left out (--all lists them, `rantai forget NODE` clears them){unserved}"));
}

/// Lists the first few names, and the number of the others.
fn shortened(names: &[&str]) -> String {
    let (first, rest) = names.split_at(names.len().min(MAX_NAMED));
    let rest = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    format!("{}{rest}", first.join(", "))
}
