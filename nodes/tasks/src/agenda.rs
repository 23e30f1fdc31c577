//! What is to be done, and when.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::task::Task;

/// What is to be done, and when.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: Mutex<BTreeSet<(u64, Entry)>>,
    pub(super) changed: Notify,
}

/// What is kept in memory of a task that waits; with its parameters there would be no room for many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// The priority the wrong way round: the lowest goes first.
    behind: u8,
    id: u128,
}

impl From<&Task> for Entry {
    fn from(task: &Task) -> Self {
        Self { behind: 9 - task.options.priority, id: task.uuid().as_u128() }
    }
}

impl Entry {
    /// Of a task that cannot be read now.
    pub(super) fn unread(id: Uuid) -> Self {
        Self { behind: 9, id: id.as_u128() }
    }
}

impl Agenda {
    pub(super) fn add(&self, task: &Task) {
        self.at(task.due_ms, task);
    }

    pub(super) fn at(&self, when: u64, entry: impl Into<Entry>) {
        self.due.lock().insert((when, entry.into()));
        self.changed.notify_one();
    }

    /// Of what is due, what has the highest priority; or when something will be.
    pub(super) fn next(&self, now: u64) -> Result<Uuid, Option<u64>> {
        let mut due = self.due.lock();
        // Those that are due stand in front; a thousand of them are enough to choose from.
        let chosen = due.iter().take_while(|(when, ..)| *when <= now).take(1_000);
        let chosen = chosen.min_by_key(|(when, entry)| (entry.behind, *when)).copied();
        match chosen {
            Some(chosen) => {
                due.remove(&chosen);
                Ok(Uuid::from_u128(chosen.1.id))
            }
            None => Err(due.first().map(|(when, ..)| *when)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use serde_json::json;

    #[test]
    fn of_what_is_due_the_highest_goes_first() {
        let agenda = Agenda::default();
        let task = |priority, delay_ms| {
            let options = Options { delay_ms, priority, ..Options::default() };
            Task::new(Uuid::now_v7(), "pages", "add", json!([]), options, 0).expect("a task")
        };
        let tasks = [task(5, 10), task(9, 20), task(1, 0), task(9, 5_000)];
        for task in &tasks {
            agenda.add(task);
        }
        let order: Vec<Uuid> = (0..3).map(|_| agenda.next(100).expect("due")).collect();
        assert_eq!(order, [tasks[1].uuid(), tasks[0].uuid(), tasks[2].uuid()]);
        assert_eq!(agenda.next(100), Err(Some(5_000)));
        assert_eq!(agenda.next(5_000), Ok(tasks[3].uuid()));
        assert_eq!(agenda.next(u64::MAX), Err(None));
    }
}
