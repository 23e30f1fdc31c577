//! Storage of schedules on disk.

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use uuid::Uuid;

use rantai_client::shares::ShareLimits;

use super::holdings::{Amount, Kept, KeptLimits, Reservation, Room};
use super::{Store, Stored, Submitted, is_open, read, submit};
use crate::owner::{Owner, Submitter};
use crate::schedule::Schedule;
use crate::task::Task;
use rantai_commit::DiskError;

pub(super) const SCHEDULES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("schedules");

impl Store {
    /// Stores a schedule, or replaces the one of the same name; returns false if there are `most` already, or the
    /// caller is over its share.
    pub(crate) async fn schedule(
        &self,
        schedule: Schedule,
        caller: Option<String>,
        most: ShareLimits,
    ) -> Result<bool, DiskError> {
        let (holdings, reservation) = (self.holdings.clone(), Reservation::default());
        let reserved = reservation.clone();
        let job = move |transaction: &WriteTransaction| {
            reserved.clear();
            let mut schedules = transaction.open_table(SCHEDULES)?;
            let row = Schedule::row(schedule.user.as_deref(), &schedule.name);
            let known = schedules.get(&*row)?.and_then(|bytes| read_schedule(bytes.value()));
            let mut schedule = schedule.clone();
            schedule.owner = match (known, &caller) {
                (Some(known), _) => known.owner,
                (None, caller) => {
                    let amount = Amount { count: 1, bytes: write(&schedule).len() as u64 };
                    let limits = KeptLimits { count: most, bytes: ShareLimits::new(u64::MAX) };
                    let taken = schedules.len()?;
                    if holdings.room(Kept::Schedules, caller.as_deref(), &limits, taken, amount)
                        != Room::There
                    {
                        return Ok(false);
                    }
                    caller.as_ref().map(|caller| {
                        reserved.set(Some(holdings.reserve(Kept::Schedules, caller, amount)));
                        Owner { caller: caller.clone(), bytes: amount.bytes }
                    })
                }
            };
            schedules.insert(&*row, &*write(&schedule))?;
            Ok(true)
        };
        let after = move |result: &Result<bool, DiskError>| {
            if result.is_ok() {
                reservation.keep();
            }
        };
        self.committer.write_and(job, after).await
    }

    /// Removes the schedule of this row; returns whether there was one.
    pub(crate) async fn unschedule(&self, row: String) -> Result<bool, DiskError> {
        let holdings = self.holdings.clone();
        let job = move |transaction: &WriteTransaction| {
            let mut schedules = transaction.open_table(SCHEDULES)?;
            let removed = schedules.remove(&*row)?;
            Ok(removed.map(|bytes| read_schedule(bytes.value()).and_then(|schedule| schedule.owner)))
        };
        let after = move |result: &Result<Option<Option<Owner>>, DiskError>| {
            if let Ok(Some(Some(owner))) = result {
                holdings.release(Kept::Schedules, owner);
            }
        };
        Ok(self.committer.write_and(job, after).await?.is_some())
    }

    /// Handles that the schedule's time `due` has come: stores its task with `id` and its next time in one commit, so
    /// that neither exists without the other. Returns the task; `None` if the schedule creates none now, or was
    /// replaced in the meantime. `limits` are those of kept tasks.
    pub(crate) async fn pass(
        &self,
        row: String,
        due: u64,
        id: Uuid,
        now: u64,
        limits: KeptLimits,
    ) -> Result<Option<Task>, DiskError> {
        let (holdings, reservation) = (self.holdings.clone(), Reservation::default());
        let reserved = reservation.clone();
        let job = move |transaction: &WriteTransaction| {
            reserved.clear();
            let mut schedules = transaction.open_table(SCHEDULES)?;
            let known = schedules.get(&*row)?.and_then(|bytes| read_schedule(bytes.value()));
            let Some(mut schedule) = known.filter(|known| known.next_ms == Some(due)) else {
                return Ok(None);
            };
            let mut task = schedule.task(id, now).ok();
            if !schedule.timing.overlap && is_last_open(transaction, &schedule)? {
                task = None;
            }
            if let Some(made) = &task {
                // The task counts against the owner of the schedule, and takes turns as the owner's.
                let caller = schedule.owner.as_ref().map(|owner| owner.caller.clone());
                let by = Submitter { caller, is_admin: false };
                let made_alone = std::slice::from_ref(made);
                let (submitted, amount) = submit(transaction, made_alone, &by, &limits, &holdings)?;
                task = match submitted {
                    Submitted::Stored(mut stored) => stored.pop().map(Stored::into_task),
                    _ => None,
                };
                if task.is_none() {
                    tracing::warn!("schedule {row}: no task, as the ledger or its owner's share is full");
                }
                reserved.set(amount);
            }
            schedule.passed(task.as_ref(), now);
            schedules.insert(&*row, &*write(&schedule))?;
            Ok(task)
        };
        let after = move |result: &Result<Option<Task>, DiskError>| {
            if result.is_ok() {
                reservation.keep();
            }
        };
        self.committer.write_and(job, after).await
    }

    /// Returns the schedule of this row.
    pub(crate) fn scheduled(&self, row: &str) -> Result<Option<Schedule>, DiskError> {
        self.committer.read(|database| {
            let schedules = database.begin_read()?.open_table(SCHEDULES)?;
            Ok(schedules.get(row)?.and_then(|bytes| read_schedule(bytes.value())))
        })
    }

    /// Returns the schedules for which `wanted` returns true, after the row `after`, in the order of their rows.
    pub(crate) fn schedules(
        &self,
        after: &str,
        most: usize,
        wanted: impl Fn(&Schedule) -> bool,
    ) -> Result<Vec<Schedule>, DiskError> {
        self.committer.read(|database| {
            let schedules = database.begin_read()?.open_table(SCHEDULES)?;
            let mut found = Vec::new();
            for entry in schedules.range(after..)? {
                let (row, bytes) = entry?;
                if row.value() != after {
                    found.extend(read_schedule(bytes.value()).filter(&wanted));
                }
                if found.len() >= most {
                    break;
                }
            }
            Ok(found)
        })
    }
}

/// Returns whether the latest task of the schedule has not ended.
fn is_last_open(transaction: &WriteTransaction, schedule: &Schedule) -> Result<bool, redb::Error> {
    let Some(last) = schedule.last.as_deref().and_then(|id| uuid::Uuid::try_parse(id).ok()) else {
        return Ok(false);
    };
    let tasks = transaction.open_table(super::TASKS)?;
    let last = tasks.get(last.as_bytes())?.and_then(|bytes| read(bytes.value()));
    Ok(last.is_some_and(|task| is_open(&task)))
}

fn write(schedule: &Schedule) -> Vec<u8> {
    serde_json::to_vec(schedule).expect("a schedule is JSON")
}

fn read_schedule(bytes: &[u8]) -> Option<Schedule> {
    let read = serde_json::from_slice::<Schedule>(bytes);
    read.inspect_err(|error| tracing::error!("a schedule that cannot be read is passed over: {error}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::schedule::Timing;
    use crate::task::State;
    use serde_json::json;

    fn most(tasks: u64) -> KeptLimits {
        KeptLimits { count: ShareLimits::new(tasks), bytes: ShareLimits::new(u64::MAX) }
    }

    fn minutely(overlap: bool) -> Schedule {
        let timing = Timing { cron: "* * * * *".to_owned(), zone: "UTC".to_owned(), overlap };
        let (name, object, method) = ("daily".to_owned(), "pages".to_owned(), "add".to_owned());
        Schedule::new(name, timing, object, method, json!([1, 2]), Options::default(), 0).expect("a schedule")
    }

    #[tokio::test]
    async fn due_schedule_creates_one_task() {
        let store = Store::open(None).expect("a store");
        assert!(store.schedule(minutely(false), None, ShareLimits::new(1)).await.expect("stored"));
        let pass = async |due, now| {
            store.pass("daily".to_owned(), due, Uuid::now_v7(), now, most(2)).await.expect("stored")
        };
        let counted = || {
            let schedule = store.scheduled("daily").expect("read").expect("known");
            (schedule.made, schedule.skipped)
        };
        let made = pass(60_000, 60_010).await.expect("a task");
        assert_eq!(store.get(made.uuid()).expect("read").expect("kept").schedule.as_deref(), Some("daily"));
        assert!(pass(60_000, 60_020).await.is_none() && counted() == (1, 0), "that time has passed");
        assert!(pass(120_000, 120_000).await.is_none());
        assert_eq!(counted(), (1, 1), "the one before has not ended");
        let end = |mut task: Task| {
            task.end(State::Succeeded, 130_000);
            Some(task)
        };
        store.change(made.uuid(), end).await.expect("stored");
        assert!(pass(180_000, 180_000).await.is_some());
        assert!(
            store.schedule(minutely(true), None, ShareLimits::new(1)).await.expect("stored"),
            "instead of the one before"
        );
        assert!(pass(60_000, 60_000).await.is_none());
        assert_eq!(counted(), (0, 1), "two tasks are all there is room for");
    }

    #[tokio::test]
    async fn schedules_have_names_and_a_limit() {
        let store = Store::open(None).expect("a store");
        let named = |name: &str| Schedule { name: name.to_owned(), ..minutely(false) };
        for name in ["a", "b", "c"] {
            assert!(store.schedule(named(name), None, ShareLimits::new(3)).await.expect("stored"));
        }
        assert!(!store.schedule(named("d"), None, ShareLimits::new(3)).await.expect("refused"));
        let listed = |after, most| -> Vec<String> {
            let listed = store.schedules(after, most, |_| true).expect("read");
            listed.into_iter().map(|schedule| schedule.name).collect()
        };
        assert_eq!(listed("", 2), ["a", "b"]);
        assert_eq!(listed("b", 2), ["c"]);
        assert!(store.unschedule("b".to_owned()).await.expect("stored"));
        assert!(!store.unschedule("b".to_owned()).await.expect("stored"));
        assert_eq!(listed("", 9), ["a", "c"]);
        assert!(
            store
                .pass("b".to_owned(), 60_000, Uuid::now_v7(), 60_000, most(9))
                .await
                .expect("stored")
                .is_none()
        );
    }

    #[tokio::test]
    async fn one_caller_does_not_keep_all_schedules() {
        let store = Store::open(None).expect("a store");
        let schedule = async |caller: &str, name: &str| {
            let schedule = Schedule { name: name.to_owned(), ..minutely(false) };
            let caller = Some(caller.to_owned());
            store.schedule(schedule, caller, ShareLimits::new(6)).await.expect("an answer")
        };
        for name in ["a", "b", "c", "d"] {
            assert!(schedule("greedy", name).await);
        }
        assert!(schedule("greedy", "a").await, "instead of its own");
        assert!(!schedule("greedy", "e").await);
        assert!(schedule("honest", "e").await);
        assert!(store.unschedule("a".to_owned()).await.expect("stored"));
        assert!(schedule("greedy", "f").await, "one of its own is gone");
    }
}
