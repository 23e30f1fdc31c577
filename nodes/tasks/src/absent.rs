//! Tasks that wait for a node: any node that serves their object, or the one that may already have executed them.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::agenda::AgendaEntry;
use super::task::Task;

#[derive(Debug, Default)]
pub(super) struct Absent {
    /// Waiting tasks, by object.
    waiting: Mutex<BTreeMap<String, Vec<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    entry: AgendaEntry,
    /// Node that the task waits for; `None` if any node will do.
    node: Option<String>,
}

impl Absent {
    /// Adds a task that waits for `node` to serve its object, or for any node if that is `None`.
    pub(super) fn add(&self, task: &Task, node: Option<String>) {
        self.waiting
            .lock()
            .entry(task.object.clone())
            .or_default()
            .push(Waiting { entry: AgendaEntry::from(task), node });
    }

    /// Removes and returns the tasks whose node is there. `nodes` returns the nodes that serve an object now.
    pub(super) fn take(&self, nodes: impl Fn(&str) -> Vec<String>) -> Vec<AgendaEntry> {
        let mut taken = Vec::new();
        self.waiting.lock().retain(|object, waiting| {
            let there = nodes(object);
            waiting.retain(|Waiting { entry, node }| {
                let has_come = node.as_ref().map_or(!there.is_empty(), |node| there.contains(node));
                if has_come {
                    taken.push(*entry);
                }
                !has_come
            });
            !waiting.is_empty()
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use serde_json::json;
    use uuid::Uuid;

    #[test]
    fn waiting_tasks_are_released_for_their_own_node_only() {
        let absent = Absent::default();
        let task =
            || Task::new(Uuid::now_v7(), "pages", "add", json!([]), Options::default(), 0).expect("a task");
        let [any, one] = [task(), task()];
        absent.add(&any, None);
        absent.add(&one, Some("one".to_owned()));
        assert_eq!(absent.take(|_| Vec::new()), []);
        assert_eq!(absent.take(|_| vec!["two".to_owned()]), [AgendaEntry::from(&any)]);
        assert_eq!(absent.take(|_| vec!["two".to_owned(), "one".to_owned()]), [AgendaEntry::from(&one)]);
        assert!(absent.waiting.lock().is_empty());
    }
}
