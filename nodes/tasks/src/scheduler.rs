//! Creation of the tasks of schedules when they are due.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::schedule::Schedule;
use super::shared::LedgerState;
use rantai_commit::DiskError;

/// Maximum sleep, because the system clock may be changed in the meantime.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// Delay after a disk error.
const DISK_RETRY: Duration = Duration::from_secs(5);
/// Number of schedules per read.
const PAGE_SCHEDULES: usize = 1_000;

/// Runs until the future is dropped. Does not need a connection: tasks are created even while the broker is away.
pub(super) async fn run(shared: Arc<LedgerState>) {
    while let Err(error) = load(&shared) {
        tracing::error!("schedules cannot be read: {error}");
        sleep(DISK_RETRY).await;
    }
    loop {
        match shared.timetable.next(shared.now()) {
            Ok((due, name)) => {
                if let Err(error) = pass(&shared, due, &name).await {
                    tracing::error!("schedule {name}: {error}");
                    shared.timetable.again((due, name));
                    sleep(DISK_RETRY).await;
                }
            }
            Err(next) => {
                let soon =
                    next.map_or(MAX_SLEEP, |when| Duration::from_millis(when.saturating_sub(shared.now())));
                tokio::select! {
                    biased;
                    () = shared.timetable.changed.notified() => {}
                    () = sleep(soon.min(MAX_SLEEP)) => {}
                }
            }
        }
    }
}

/// Creates the task of a schedule whose time `due` has come.
pub(super) async fn pass(shared: &LedgerState, due: u64, name: &str) -> Result<(), DiskError> {
    let made = shared
        .store
        .pass(name.to_owned(), due, shared.environment.ordered_id(), shared.now(), shared.limits.kept_tasks())
        .await?;
    if let Some(task) = made {
        shared.agenda.add(&task);
        shared.announce(&task);
    }
    shared.timetable.set(&shared.store, name)
}

/// Adds all schedules to the timetable.
pub(super) fn load(shared: &LedgerState) -> Result<(), DiskError> {
    let mut after = String::new();
    loop {
        let schedules = shared.store.schedules(&after, PAGE_SCHEDULES, |_| true)?;
        let row = |schedule: &Schedule| Schedule::row(schedule.user.as_deref(), &schedule.name);
        for schedule in &schedules {
            shared.timetable.set(&shared.store, &row(schedule))?;
        }
        match schedules.last() {
            Some(last) if schedules.len() >= PAGE_SCHEDULES => after = row(last),
            _ => return Ok(()),
        }
    }
}
