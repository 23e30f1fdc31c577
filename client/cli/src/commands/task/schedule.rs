//! `rantai task schedule`: recurring tasks.

use chrono::{DateTime, Local, SecondsFormat};
use rantai_client::CallError;
use rantai_tasks::ledger::TasksProxy;
use rantai_tasks::schedule::{Schedule, Timing};
use serde_json::json;

use super::Carried;
use crate::arguments;
use crate::completing;
use crate::connection::{Connection, note, print_json};
use crate::exit::{Exit, Failure};
use crate::table::print_wrapped;

/// What a schedule is made of.
#[derive(clap::Args)]
pub(super) struct New {
    /// The name of the schedule; replaces an existing one
    #[arg(value_name = "NAME")]
    name: String,
    /// Minute, hour, day of the month, month and day of the week, as in '30 7 * * MON-FRI'; with a sixth field in
    /// front, seconds
    #[arg(value_name = "CRON")]
    cron: String,
    /// The object and its method, as in pages.add
    #[arg(value_name = "OBJECT.METHOD", add = completing::methods())]
    target: String,
    /// Parameters, as for `rantai call`
    #[arg(value_name = "ARGS", allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// The time zone of the expression, as in Asia/Jakarta
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: String,
    /// Make a task although the one before has not ended
    #[arg(long)]
    overlap: bool,
    #[command(flatten)]
    carried: Carried,
}

impl New {
    pub(super) async fn make(self, ledger: &TasksProxy, connection: &Connection) -> Result<(), Failure> {
        let usage = |error: String| Failure::new(Exit::Usage, error);
        let (object, method) = arguments::target(&self.target).map_err(usage)?;
        let params = arguments::params(&self.arguments).map_err(usage)?;
        let timing = Timing { cron: self.cron, zone: self.zone, overlap: self.overlap };
        let (object, method) = (object.to_owned(), method.to_owned());
        let options = Some(self.carried.options());
        let made = ledger.schedule(self.name, timing, object, method, params, options).await;
        let made = made.map_err(|error| connection.failed(&error))?;
        show(connection, &made);
        if let Some(reason) = &made.waits {
            note(&format!("its tasks will wait: {reason}"));
        }
        Ok(())
    }
}

/// Prints all schedules, sorted by name.
pub(super) async fn list(ledger: &TasksProxy, connection: &Connection) -> Result<(), Failure> {
    let failed = |error: CallError| connection.failed(&error);
    let (mut all, mut after): (Vec<Schedule>, Option<String>) = (Vec::new(), None);
    loop {
        let listed = ledger.schedules(after).await.map_err(failed)?;
        // Paged by full name: the list of an admin contains the schedules of all users, sorted by owner and name.
        after = listed.last().map(full_name);
        all.extend(listed);
        if after.is_none() {
            break;
        }
    }
    if connection.json {
        print_json(&json!(all));
    } else {
        // By the name that `unschedule` takes from owners and admins alike.
        let has_users = all.iter().any(|schedule| schedule.user.is_some());
        for schedule in &all {
            let name = if has_users { full_name(schedule) } else { schedule.name.clone() };
            show_as(&name, schedule);
        }
    }
    Ok(())
}

/// Returns the name by which owner and admins refer to a schedule: `USER/NAME`, or `/NAME` without an owner.
fn full_name(schedule: &Schedule) -> String {
    format!("{}/{}", schedule.user.as_deref().unwrap_or_default(), schedule.name)
}

fn show(connection: &Connection, schedule: &Schedule) {
    if connection.json {
        return print_json(&json!(schedule));
    }
    show_as(&schedule.name, schedule);
}

fn show_as(name: &str, schedule: &Schedule) {
    let Schedule { timing, object, method, made, skipped, .. } = schedule;
    let skipped = if *skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    print_wrapped(&format!(
        "{name}  {} {}  {object}.{method}  next {}, {made} made{skipped}",
        timing.cron,
        timing.zone,
        time(schedule.next_ms)
    ));
}

/// Formats a time in the local time zone.
fn time(ms: Option<u64>) -> String {
    let time = ms.and_then(|ms| DateTime::from_timestamp_millis(i64::try_from(ms).ok()?));
    time.map_or("never".to_owned(), |time| {
        time.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Secs, true)
    })
}
