//! Agenda of tasks: when each is due, and which one is next.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::task::Task;
use super::turns::{CallerId, Turns};

/// Maximum number of tasks that one call moves from `later` to `due`.
const BATCH: usize = 1_000;

/// Agenda of tasks, in memory.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    plan: Mutex<AgendaState>,
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct AgendaState {
    later: BTreeSet<(u64, AgendaEntry)>,
    /// Due tasks: for each caller the highest priority first, and within a priority the longest due.
    due: Turns<(u8, u64, AgendaEntry)>,
}

/// Entry of a waiting task. Only this is kept in memory, because parameters of many tasks would need too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AgendaEntry {
    /// Inverted priority, so that the lowest value goes first.
    behind: u8,
    id: u128,
    /// Caller whose turn the task counts as.
    pub(super) caller: CallerId,
}

impl From<&Task> for AgendaEntry {
    fn from(task: &Task) -> Self {
        let id = task.uuid().as_u128();
        Self { behind: 9 - task.options.priority, id, caller: CallerId::from(task) }
    }
}

impl AgendaEntry {
    /// Returns the id of the task.
    pub(super) fn id(self) -> Uuid {
        Uuid::from_u128(self.id)
    }

    /// Creates an entry for a task that cannot be read at the moment.
    pub(super) fn unread(id: Uuid) -> Self {
        Self { behind: 9, id: id.as_u128(), caller: CallerId::default() }
    }
}

impl Agenda {
    pub(super) fn add(&self, task: &Task) {
        self.at(task.due_ms, task);
    }

    pub(super) fn at(&self, when: u64, entry: impl Into<AgendaEntry>) {
        self.plan.lock().later.insert((when, entry.into()));
        self.changed.notify_one();
    }

    /// Removes and returns the next due task of the caller whose turn it is. If none is due, the error is the time of the next.
    pub(super) fn next(&self, now: u64) -> Result<Uuid, Option<u64>> {
        let plan = &mut *self.plan.lock();
        for _ in 0..BATCH {
            let first = plan.later.first().copied().filter(|(when, _)| *when <= now);
            let Some((when, entry)) = first else { break };
            plan.later.pop_first();
            plan.due.queue(entry.caller, (entry.behind, when, entry));
        }
        match plan.due.pop() {
            Some((.., entry)) => Ok(Uuid::from_u128(entry.id)),
            None => Err(plan.later.first().map(|(when, ..)| *when)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::owner::Owner;
    use serde_json::json;

    #[test]
    fn due_task_with_the_highest_priority_is_next() {
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

    /// Regression: 100,000 tasks of one caller that were due at the same time were executed before those of all other
    /// callers.
    #[test]
    fn due_tasks_of_callers_take_turns() {
        let agenda = Agenda::default();
        let task = |caller: &str, priority| {
            let options = Options { priority, ..Options::default() };
            let mut task = Task::new(Uuid::now_v7(), "pages", "add", json!([]), options, 0).expect("a task");
            task.owner = Some(Owner { caller: caller.to_owned(), bytes: 1 });
            task
        };
        for _ in 0..5_000 {
            agenda.add(&task("greedy", 9));
        }
        let honest = task("honest", 0);
        agenda.at(1, &honest);
        let position = (0..5_000).position(|_| agenda.next(100) == Ok(honest.uuid())).expect("it is due");
        assert!(position < 10, "{position} others went before it");
    }
}
