//! When schedules make their next tasks, and whoever sees to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::ledger::{Shared, now};
use super::schedule::Schedule;
use crate::commit::DiskError;

/// The longest sleep: the clock may be set meanwhile.
const LONGEST: Duration = Duration::from_secs(30);
/// The wait after an error of the disk.
const AGAIN: Duration = Duration::from_secs(5);
/// Schedules read at a time.
const PAGE: usize = 1_000;

/// The next time of each schedule.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    due: Mutex<BTreeSet<(u64, String)>>,
    changed: Notify,
}

impl Timetable {
    /// A schedule that is new, or has another time now.
    pub(super) fn set(&self, schedule: &Schedule) {
        let mut due = self.due.lock();
        due.retain(|(_, name)| *name != schedule.name);
        due.extend(schedule.next_ms.map(|next| (next, schedule.name.clone())));
        self.changed.notify_one();
    }

    /// What is due, or when something will be.
    fn next(&self, now: u64) -> Result<(u64, String), Option<u64>> {
        let mut due = self.due.lock();
        if due.first().is_some_and(|(when, _)| *when <= now) {
            return due.pop_first().ok_or(None);
        }
        Err(due.first().map(|(when, _)| *when))
    }

    fn again(&self, due: (u64, String)) {
        self.due.lock().insert(due);
    }
}

/// Until it is dropped. Needs no connection: tasks are made while the broker is away.
pub(super) async fn run(shared: Arc<Shared>) {
    while let Err(error) = load(&shared) {
        tracing::error!("schedules cannot be read: {error}");
        sleep(AGAIN).await;
    }
    loop {
        match shared.timetable.next(now()) {
            Ok((due, name)) => match shared.store.pass(name.clone(), due, now(), shared.limits.tasks).await {
                Ok(None) => {}
                Ok(Some(passed)) => {
                    shared.timetable.set(&passed.schedule);
                    if let Some(task) = &passed.task {
                        shared.agenda.add(task);
                        shared.announce(task);
                    }
                }
                Err(error) => {
                    tracing::error!("schedule {name}: {error}");
                    shared.timetable.again((due, name));
                    sleep(AGAIN).await;
                }
            },
            Err(next) => {
                let soon = next.map_or(LONGEST, |when| Duration::from_millis(when.saturating_sub(now())));
                tokio::select! {
                    () = shared.timetable.changed.notified() => {}
                    () = sleep(soon.min(LONGEST)) => {}
                }
            }
        }
    }
}

fn load(shared: &Shared) -> Result<(), DiskError> {
    let mut after = String::new();
    loop {
        let schedules = shared.store.schedules(&after, PAGE)?;
        for schedule in &schedules {
            shared.timetable.set(schedule);
        }
        match schedules.last() {
            Some(last) if schedules.len() >= PAGE => after.clone_from(&last.name),
            _ => return Ok(()),
        }
    }
}
