//! `rantai admin`: commands to a running broker.

use rantai_client::session::{Publish, Unsent};
use tokio::time::timeout;

use crate::connection::{Connection, log, print_json, run};
use crate::exit::{Exit, Failure};
use crate::terminal::print;

/// Topic of the reload command, as defined by the broker.
const RELOAD: &str = "$CONTROL/rantai/reload";

const EXAMPLES: &str = "\
Examples:
  rantai admin reload --broker mqtt://broker --user root --password-file ~/.root
  kill -HUP PID                  the same, on the broker's machine: PID is that of its process

Exit codes: 0 done, 1 a file is wrong and nothing has changed, 2 wrong command line, 3 no broker, 4 not an admin,
6 no answer in time.";

/// Commands to a running broker, for users with the role admin.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Admin {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Read users, roles, rules and certificates again from the broker's files, and print what has changed
    Reload,
}

impl Admin {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        match self.action {
            Action::Reload => run(reload(self.connection)),
        }
    }
}

async fn reload(connection: Connection) -> Result<(), Failure> {
    let client = connection.client().await?;
    let command = Publish::new(RELOAD.to_owned(), Vec::new());
    let done = timeout(connection.timeout(), client.command(command)).await.map_err(|_| {
        let text = format!("the broker did not answer within {:?}", connection.timeout());
        Failure::new(Exit::NoAnswer, text)
    })?;
    let changed = match done {
        Ok(changed) => changed,
        Err(Unsent::Denied { why }) => {
            let text = format!("only users with the role admin may do this: {why}");
            return Err(Failure::new(Exit::Denied, text));
        }
        Err(error @ (Unsent::Lost | Unsent::Offline | Unsent::Ended)) => {
            return Err(Failure::from_error(Exit::Unreachable, &error));
        }
        Err(error) => return Err(Failure::from_error(Exit::Failed, &error)),
    };
    client.close().await;
    if connection.json {
        print_json(&serde_json::json!({"reloaded": true, "changed": changed}));
    } else if changed.is_empty() {
        print("the broker has read users and rules again");
    } else {
        print(&changed);
    }
    Ok(())
}
