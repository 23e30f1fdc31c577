//! Load of each object, and tasks that wait for a place.
//!
//! Objects share the places of the executor by the rule of [`rantai_client::shares`], so that slow objects leave places
//! for others. Callers take [turns](super::turns) at the places of an object.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_client::shares::ShareLimits;
use uuid::Uuid;

use super::agenda::AgendaEntry;
use super::limits::Limits;
use super::task::Task;
use super::turns::{CallerId, Turns};

/// Loads of all objects.
#[derive(Debug)]
pub(super) struct Loads {
    limits: Arc<Limits>,
    objects: Mutex<ObjectLoads>,
}

#[derive(Debug, Default)]
struct ObjectLoads {
    /// Number of running tasks of all objects.
    running: usize,
    by_object: HashMap<String, Load>,
    /// Released tasks, with their objects: they hold a place, and have neither begun nor been passed over yet.
    let_go: HashMap<u128, String>,
}

#[derive(Debug, Default)]
struct Load {
    running: usize,
    let_go: usize,
    /// Due tasks that wait for a place: for each caller the highest priority first, and within a priority the longest due.
    waiting: Turns<(u8, u64, AgendaEntry)>,
}

impl Load {
    /// Returns the number of the object's tasks that hold a place.
    fn held(&self) -> usize {
        self.running + self.let_go
    }

    fn is_idle(&self) -> bool {
        self.held() == 0 && self.waiting.is_empty()
    }
}

impl Loads {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, objects: Mutex::default() }
    }

    /// Returns whether the task's object has no place left for it. If so, the task is queued.
    pub(super) fn is_full_for(&self, task: &Task) -> bool {
        let mut loads = self.objects.lock();
        let loads = &mut *loads;
        let held = loads.by_object.get(&task.object).map_or(0, Load::held);
        // A released task already holds a place.
        let own = usize::from(loads.let_go.contains_key(&task.uuid().as_u128()));
        if self.has_room(&task.object, held.saturating_sub(own), loads.held() - own) {
            return false;
        }
        loads.take_back(task.uuid());
        let load = loads.by_object.entry(task.object.clone()).or_default();
        load.waiting
            .queue(CallerId::from(task), (9 - task.options.priority, task.due_ms, AgendaEntry::from(task)));
        true
    }

    pub(super) fn begun(&self, task: &Task) {
        let mut loads = self.objects.lock();
        loads.take_back(task.uuid());
        loads.running += 1;
        let load = loads.by_object.entry(task.object.clone()).or_default();
        load.running += 1;
        load.waiting.begun(CallerId::from(task));
    }

    /// Ends a task, and returns the tasks to check again, those of objects with the lowest load first.
    pub(super) fn ended(&self, task: &Task) -> Vec<AgendaEntry> {
        let mut loads = self.objects.lock();
        let loads = &mut *loads;
        loads.running = loads.running.saturating_sub(1);
        if let Some(load) = loads.by_object.get_mut(&task.object) {
            load.running = load.running.saturating_sub(1);
            load.waiting.ended(CallerId::from(task));
        }
        self.let_go(loads)
    }

    /// Frees the place of a released task that does not begin, and returns the tasks to check instead.
    pub(super) fn passed_over(&self, id: Uuid) -> Vec<AgendaEntry> {
        let mut loads = self.objects.lock();
        let loads = &mut *loads;
        if loads.take_back(id) { self.let_go(loads) } else { Vec::new() }
    }

    /// Releases as many waiting tasks as there are places. So each place causes one check of a task, however many tasks wait.
    fn let_go(&self, loads: &mut ObjectLoads) -> Vec<AgendaEntry> {
        let mut waiting: Vec<_> = loads
            .by_object
            .iter()
            .filter(|(_, load)| !load.waiting.is_empty())
            .map(|(object, load)| (load.held(), object.clone()))
            .collect();
        waiting.sort_unstable();
        let mut next = Vec::new();
        for (_, object) in waiting {
            loop {
                let all = loads.held();
                let Some(load) = loads.by_object.get_mut(&object) else { break };
                if !self.has_room(&object, load.held(), all) {
                    break;
                }
                let Some((.., entry)) = load.waiting.pop() else { break };
                load.let_go += 1;
                loads.let_go.insert(entry.id().as_u128(), object.clone());
                next.push(entry);
            }
        }
        loads.by_object.retain(|_, load| !load.is_idle());
        next
    }

    /// Returns whether another task of an object may run, if `held` of its tasks and `all` tasks in total hold a place.
    fn has_room(&self, object: &str, held: usize, all: usize) -> bool {
        let shares = ShareLimits::new(self.limits.at_once as u64);
        held < self.limits.of(object) && shares.admits(all as u64, held as u64, 1)
    }
}

impl ObjectLoads {
    /// Returns the number of tasks of all objects that hold a place.
    fn held(&self) -> usize {
        self.running + self.let_go.len()
    }

    /// Frees the place of a released task; returns whether it was released.
    fn take_back(&mut self, id: Uuid) -> bool {
        let Some(object) = self.let_go.remove(&id.as_u128()) else { return false };
        if let Some(load) = self.by_object.get_mut(&object) {
            load.let_go = load.let_go.saturating_sub(1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::options::Options;
    use crate::owner::Owner;
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
    fn tasks_of_a_busy_object_are_released_as_others_end() {
        let (loads, mut running) = (loads(), Vec::new());
        for _ in 0..3 {
            let task = task("pages", 5);
            assert!(!loads.is_full_for(&task));
            loads.begun(&task);
            running.push(task);
        }
        let waiting: Vec<Task> = (0..40).map(|_| task("pages", 5)).collect();
        assert!(waiting.iter().all(|task| loads.is_full_for(task)));
        let mut let_go = loads.ended(&running.pop().expect("one"));
        assert_eq!(let_go, [AgendaEntry::from(&waiting[0])]);
        while let Some(task) = running.pop() {
            let_go.extend(loads.ended(&task));
        }
        assert_eq!(let_go.len(), 3, "one for each place");
        // All of these tasks were cancelled, so none of them will end.
        let mut looked_at = 0;
        while let Some(entry) = let_go.pop() {
            looked_at += 1;
            let_go.extend(loads.passed_over(entry.id()));
        }
        assert_eq!(looked_at, 40);
        assert!(loads.objects.lock().by_object.is_empty());
        assert!(loads.objects.lock().let_go.is_empty());
    }

    #[test]
    fn object_limit_applies_and_the_highest_priority_is_released_first() {
        let loads = loads();
        let [first, low, high] = [task("slow", 5), task("slow", 1), task("slow", 9)];
        assert!(!loads.is_full_for(&first));
        loads.begun(&first);
        assert!(loads.is_full_for(&low) && loads.is_full_for(&high));
        assert!(!loads.is_full_for(&task("pages", 5)));
        loads.begun(&first);
        assert_eq!(loads.ended(&first), [], "one of two has ended, and one is all there may be");
        assert_eq!(loads.ended(&first), [AgendaEntry::from(&high)], "nothing runs any more");
        assert!(!loads.is_full_for(&high));
        loads.begun(&high);
        assert_eq!(loads.ended(&high), [AgendaEntry::from(&low)]);
    }

    /// Regression: two slow objects took all 64 places, and a task of a third object waited for them.
    #[test]
    fn slow_objects_leave_places_to_others() {
        let loads = Loads::new(Arc::new(Limits::default()));
        let mut running = Vec::new();
        for object in ["slow", "slower"] {
            for _ in 0..40 {
                let task = task(object, 5);
                if !loads.is_full_for(&task) {
                    loads.begun(&task);
                    running.push(task);
                }
            }
        }
        assert_eq!(running.len(), 54);
        let third = task("third", 5);
        assert!(!loads.is_full_for(&third), "it does not wait");
        loads.begun(&third);
        // A place that becomes free goes to the object with the lower load.
        for _ in 0..4 {
            let at = running.iter().position(|task| task.object == "slow").expect("one of them runs");
            loads.ended(&running.remove(at));
        }
        let waits = |object: &str| {
            let mut loads = loads.objects.lock();
            let waiting = &mut loads.by_object.get_mut(object).expect("it has some").waiting;
            std::iter::from_fn(|| waiting.pop()).count()
        };
        assert_eq!(waits("slow"), 8, "it holds more than are free");
        assert!(waits("slower") < 18, "and the other one goes on");
    }

    /// Regression: the places of an object went to the caller that had submitted first, however many tasks that were.
    #[test]
    fn callers_take_turns_at_the_places_of_an_object() {
        let owned = |caller: &str, priority| {
            let owner = Some(Owner { caller: caller.to_owned(), bytes: 1 });
            Task { owner, ..task("pages", priority) }
        };
        let (loads, mut running) = (loads(), Vec::new());
        for _ in 0..3 {
            let task = owned("greedy", 9);
            assert!(!loads.is_full_for(&task), "all places, as nobody else wants one");
            loads.begun(&task);
            running.push(task);
        }
        let greedy: Vec<Task> = (0..1_000).map(|_| owned("greedy", 9)).collect();
        assert!(greedy.iter().all(|task| loads.is_full_for(task)));
        let honest = [owned("honest", 0), owned("honest", 5)];
        assert!(honest.iter().all(|task| loads.is_full_for(task)));
        assert_eq!(
            loads.ended(&running.pop().expect("one")),
            [AgendaEntry::from(&honest[1])],
            "the next place"
        );
        assert!(!loads.is_full_for(&honest[1]));
        loads.begun(&honest[1]);
        // Two tasks of one caller and one of the other run; then one of each.
        assert_eq!(loads.ended(&running.pop().expect("one")), [AgendaEntry::from(&greedy[0])]);
        assert!(!loads.is_full_for(&greedy[0]));
        loads.begun(&greedy[0]);
        assert_eq!(loads.ended(&honest[1]), [AgendaEntry::from(&honest[0])]);
    }

    #[test]
    fn no_task_waits_while_none_runs() {
        let loads = Loads::new(Arc::new(Limits { at_once: 4, ..Limits::default() }));
        let [first, second] = [task("one", 5), task("two", 5)];
        for running in [&first, &first, &first, &second] {
            loads.begun(running);
        }
        let waiting = [task("one", 5), task("two", 5)];
        assert!(waiting.iter().all(|task| loads.is_full_for(task)));
        let mut let_go = loads.ended(&second);
        (0..3).for_each(|_| let_go.extend(loads.ended(&first)));
        let_go.sort_unstable();
        let mut expected = waiting.each_ref().map(AgendaEntry::from);
        expected.sort_unstable();
        assert_eq!(let_go, expected);
        for entry in let_go {
            assert_eq!(loads.passed_over(entry.id()), []);
        }
        loads.ended(&first);
        assert!(loads.objects.lock().by_object.is_empty());
    }

    /// Regression: each task that ended released a thousand others of an object without running tasks, and all but one
    /// of them were queued again, so that 20,000 tasks were checked ten million times.
    #[test]
    fn each_free_place_causes_one_check() {
        let loads = Loads::new(Arc::new(Limits { at_once: 1, ..Limits::default() }));
        let first = task("slow", 5);
        assert!(!loads.is_full_for(&first));
        loads.begun(&first);
        let tasks: Vec<Task> = (0..20_000).map(|_| task("pages", 5)).collect();
        assert!(tasks.iter().all(|task| loads.is_full_for(task)));
        let by_entry: HashMap<Uuid, &Task> = tasks.iter().map(|task| (task.uuid(), task)).collect();
        let (mut let_go, mut looked_at) = (loads.ended(&first), 0);
        while let Some(entry) = let_go.pop() {
            looked_at += 1;
            let task = by_entry[&entry.id()];
            if loads.is_full_for(task) {
                continue;
            }
            loads.begun(task);
            let_go.extend(loads.ended(task));
        }
        assert_eq!(looked_at, 20_000);
    }
}
