//! How much each object has to do, and whatever waits for a place.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::agenda::Entry;
use super::limits::Limits;
use super::task::Task;

/// How much each object has to do.
#[derive(Debug)]
pub(super) struct Loads {
    limits: Arc<Limits>,
    by_object: Mutex<HashMap<String, Load>>,
}

#[derive(Debug, Default)]
struct Load {
    running: usize,
    /// Tasks that are due, and wait for a place: the highest priority first, and of one the longest due.
    waiting: BTreeSet<(u8, u64, Entry)>,
}

impl Loads {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, by_object: Mutex::default() }
    }

    /// Whether the task's object has enough to do; the task waits then.
    pub(super) fn is_full_for(&self, task: &Task) -> bool {
        let (mut loads, most) = (self.by_object.lock(), self.limits.of(&task.object));
        let Some(load) = loads.get_mut(&task.object).filter(|load| load.running >= most) else {
            return false;
        };
        load.waiting.insert((9 - task.options.priority, task.due_ms, Entry::from(task)));
        true
    }

    pub(super) fn begun(&self, task: &Task) {
        self.by_object.lock().entry(task.object.clone()).or_default().running += 1;
    }

    /// Tasks that may be looked at again, as one of their object has ended.
    pub(super) fn ended(&self, task: &Task) -> Vec<Entry> {
        let (mut loads, most) = (self.by_object.lock(), self.limits.of(&task.object));
        let Some(load) = loads.get_mut(&task.object) else { return Vec::new() };
        load.running = load.running.saturating_sub(1);
        // Some of them may have been cancelled: when nothing runs any more, nobody would free a place for the rest.
        let places = if load.running == 0 { load.waiting.len() } else { most.saturating_sub(load.running) };
        let next = (0..places).map_while(|_| load.waiting.pop_first()).map(|(.., entry)| entry).collect();
        if load.running == 0 {
            loads.remove(&task.object);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::options::Options;
    use serde_json::json;
    use uuid::Uuid;

    fn task(object: &str, priority: u8) -> Task {
        let options = Options { priority, ..Options::default() };
        Task::new(Uuid::now_v7(), object, "add", json!([]), options, 0).expect("a task")
    }

    fn loads() -> Loads {
        let objects = BTreeMap::from([("slow".to_owned(), 1)]);
        Loads::new(Arc::new(Limits { per_object: 3, objects, ..Limits::default() }))
    }

    #[test]
    fn tasks_of_a_busy_object_wait_and_are_let_go_as_others_end() {
        let (loads, mut running) = (loads(), Vec::new());
        for _ in 0..3 {
            let task = task("pages", 5);
            assert!(!loads.is_full_for(&task));
            loads.begun(&task);
            running.push(task);
        }
        let waiting: Vec<Task> = (0..40).map(|_| task("pages", 5)).collect();
        assert!(waiting.iter().all(|task| loads.is_full_for(task)));
        assert_eq!(loads.ended(&running.pop().expect("one")), [Entry::from(&waiting[0])]);
        // Those that were let go have been cancelled: nothing of theirs will end.
        let mut let_go = 1;
        while let Some(task) = running.pop() {
            let_go += loads.ended(&task).len();
        }
        assert_eq!(let_go, 40);
        assert!(loads.by_object.lock().is_empty());
    }

    #[test]
    fn an_object_may_have_a_limit_of_its_own_and_the_highest_goes_first() {
        let loads = loads();
        let [first, low, high] = [task("slow", 5), task("slow", 1), task("slow", 9)];
        assert!(!loads.is_full_for(&first));
        loads.begun(&first);
        assert!(loads.is_full_for(&low) && loads.is_full_for(&high));
        assert!(!loads.is_full_for(&task("pages", 5)));
        loads.begun(&first);
        assert_eq!(loads.ended(&first), [], "one of two has ended, and one is all there may be");
        assert_eq!(loads.ended(&first), [Entry::from(&high), Entry::from(&low)], "nothing runs any more");
    }
}
