//! Timetable of schedules: when each makes its next task.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::store::Store;
use rantai_commit::DiskError;

/// Next time of each schedule, by its row in the store.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    due: Mutex<BTreeSet<(u64, String)>>,
    pub(super) changed: Notify,
}

impl Timetable {
    /// Updates a schedule that was added, changed or removed. Its time is read from the store under the lock: of two
    /// concurrent changes, the older one may be reported last.
    pub(super) fn set(&self, store: &Store, row: &str) -> Result<(), DiskError> {
        let mut due = self.due.lock();
        let next = store.scheduled(row)?.and_then(|schedule| schedule.next_ms);
        due.retain(|(_, other)| other != row);
        due.extend(next.map(|next| (next, row.to_owned())));
        self.changed.notify_one();
        Ok(())
    }

    /// Removes and returns the first due schedule. If none is due, the error is the time of the next.
    pub(super) fn next(&self, now: u64) -> Result<(u64, String), Option<u64>> {
        let mut due = self.due.lock();
        if due.first().is_some_and(|(when, _)| *when <= now) {
            return due.pop_first().ok_or(None);
        }
        Err(due.first().map(|(when, _)| *when))
    }

    /// Same as [`set`](Self::set); if the disk fails, the schedule is checked again as if it were due.
    pub(super) fn set_or_look_again(&self, store: &Store, row: &str, now: u64) {
        if let Err(error) = self.set(store, row) {
            tracing::error!("schedule {row}: {error}");
            self.again((now, row.to_owned()));
            self.changed.notify_one();
        }
    }

    /// Adds a schedule to be checked again at the time `due.0`.
    pub(super) fn again(&self, due: (u64, String)) {
        self.due.lock().insert(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::options::Options;
    use crate::schedule::{Schedule, Timing};
    use rantai_client::shares::ShareLimits;
    use serde_json::json;
    use uuid::Uuid;

    fn schedule(cron: &str) -> Schedule {
        let timing = Timing { cron: cron.to_owned(), zone: "UTC".to_owned(), overlap: false };
        let (name, object, method) = ("daily".to_owned(), "pages".to_owned(), "add".to_owned());
        Schedule::new(name, timing, object, method, json!([1, 2]), Options::default(), 0).expect("a schedule")
    }

    /// The change that was committed first may be reported last.
    #[tokio::test]
    async fn schedule_replaced_while_due_gets_the_new_time() {
        let (store, timetable) = (Store::open(None).expect("a store"), Timetable::default());
        assert!(store.schedule(schedule("* * * * *"), None, ShareLimits::new(9)).await.expect("stored"));
        assert!(
            store
                .pass("daily".to_owned(), 60_000, Uuid::now_v7(), 60_000, Limits::default().kept_tasks())
                .await
                .expect("stored")
                .is_some()
        );
        assert!(store.schedule(schedule("0 * * * *"), None, ShareLimits::new(9)).await.expect("stored"));
        // The replacement is reported first, then the older change.
        for _ in 0..2 {
            timetable.set(&store, "daily").expect("read");
        }
        assert_eq!(timetable.next(u64::MAX), Ok((3_600_000, "daily".to_owned())));
        assert_eq!(timetable.next(u64::MAX), Err(None));
        assert!(store.unschedule("daily".to_owned()).await.expect("stored"));
        timetable.set(&store, "daily").expect("read");
        assert_eq!(timetable.next(u64::MAX), Err(None));
    }
}
