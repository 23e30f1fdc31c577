//! `rantai admin reload`.

use rantai_client::session::{Publish, Unsent};
use rantai_client::wire::fault::Code;
use serde_json::json;

use super::{Administered, is_absent};
use crate::administration::Reload;
use crate::connection::print;
use crate::exit::{Exit, Failure};

/// Topic of the reload command, as defined by the broker.
const RELOAD: &str = "$CONTROL/rantai/reload";

impl Administered<'_> {
    /// Reloads by the object, or by the command to the broker: for users whom a rule allows that alone, and for a broker on
    /// whose root nothing serves the object.
    pub(super) async fn reload(&self) -> Result<(), Failure> {
        match self.proxy().reload().await {
            Ok(reload) => {
                self.tell_reload(&reload);
                Ok(())
            }
            Err(error)
                if is_absent(&error) || error.fault().is_some_and(|fault| fault.code == Code::DENIED) =>
            {
                self.command_reload().await
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn tell_reload(&self, reload: &Reload) {
        let mut json = json!(reload);
        json["reloaded"] = true.into();
        self.tell(&json, &reload.summary);
        if !self.connection.json {
            reload.changed.iter().for_each(|change| print(&change.text));
            reload
                .needs_restart
                .iter()
                .for_each(|change| print(&format!("needs a restart: {}", change.text)));
        }
    }

    async fn command_reload(&self) -> Result<(), Failure> {
        let command = Publish::new(RELOAD.to_owned(), Vec::new());
        let summary = match self.client.command(command).await {
            Ok(summary) => summary,
            Err(Unsent::Denied { why }) => {
                let text = format!("only users with the role admin may do this: {why}");
                return Err(Failure::new(Exit::Denied, text));
            }
            Err(error @ (Unsent::Lost | Unsent::Offline | Unsent::Ended)) => {
                return Err(Failure::from_error(Exit::Unreachable, &error));
            }
            Err(error) => return Err(Failure::from_error(Exit::Failed, &error)),
        };
        if summary.is_empty() {
            // Other brokers take the command for a message that nobody reads.
            let text = format!(
                "{} took the command and did not say that it has read anything again: a broker of another make is reloaded \
                 by its own means",
                self.connection.broker.shown()
            );
            return Err(Failure::new(Exit::Failed, text));
        }
        self.tell(&json!({"reloaded": true, "summary": summary}), &summary);
        Ok(())
    }
}
