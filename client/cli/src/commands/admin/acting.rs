//! Commands of `rantai admin` that change something.

use rantai_client::printable;
use serde_json::json;

use super::Administered;
use crate::connection::{print, print_json};
use crate::exit::Failure;

impl Administered<'_> {
    pub(super) async fn disconnect(&self, id: String) -> Result<(), Failure> {
        self.proxy().disconnect(id.clone()).await.map_err(|error| self.failed(&error))?;
        self.tell(&json!({"disconnected": id}), &format!("disconnected {}", printable(&id)));
        Ok(())
    }

    pub(super) async fn drop_session(&self, id: String) -> Result<(), Failure> {
        self.proxy().drop_session(id.clone()).await.map_err(|error| self.failed(&error))?;
        self.tell(&json!({"dropped": id}), &format!("dropped the session of {}", printable(&id)));
        Ok(())
    }

    /// Deletes until none is left, or until the time of the command is over.
    pub(super) async fn delete_retained(&self, filters: &[String], wide: bool) -> Result<(), Failure> {
        let (proxy, mut deleted) = (self.proxy(), 0);
        for filter in filters {
            loop {
                let done = proxy.delete_retained(filter.clone(), wide.then_some(true)).await;
                let done = done.map_err(|error| {
                    let failure = self.failed(&error);
                    let is_wide = error
                        .fault()
                        .is_some_and(|fault| fault.data.get("kind").is_some_and(|kind| kind == "too_wide"));
                    let way = if is_wide { "; on the command line that is --wide" } else { "" };
                    let so_far =
                        if deleted > 0 { format!("; {deleted} deleted before") } else { String::new() };
                    failure.and_then_say(way).and_then_say(&so_far)
                })?;
                deleted += done.deleted;
                if !done.more {
                    break;
                }
            }
        }
        let what = if deleted == 1 { "retained message" } else { "retained messages" };
        self.tell(&json!({"deleted": deleted}), &format!("deleted {deleted} {what}"));
        Ok(())
    }

    pub(super) async fn log_level(&self, levels: Option<String>) -> Result<(), Failure> {
        let levels = self.proxy().log_level(levels).await.map_err(|error| self.failed(&error))?;
        let at_start = match &levels {
            levels if levels.levels == levels.at_start => String::new(),
            levels => format!(" ({} at the start)", levels.at_start),
        };
        self.tell(&json!(levels), &format!("{}{at_start}", levels.levels));
        Ok(())
    }

    /// Prints a result for people, or as JSON.
    pub(super) fn tell(&self, json: &serde_json::Value, text: &str) {
        if self.connection.json { print_json(json) } else { print(text) }
    }
}
