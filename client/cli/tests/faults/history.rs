//! Record of all calls and their outcomes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use parking_lot::Mutex;

/// Outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    /// Answered with the right result.
    Answered,
    /// Refused, or not served: the method was not executed.
    Refused,
    /// Unknown, because the connection or the node was lost.
    Lost,
    TimedOut,
    /// Answered with a wrong result.
    Wrong,
    /// Not ended long after its deadline.
    Hung,
}

const ENDS: [Ended; 6] =
    [Ended::Answered, Ended::Refused, Ended::Lost, Ended::TimedOut, Ended::Wrong, Ended::Hung];

#[derive(Debug, Default)]
pub(crate) struct History {
    calls: Mutex<BTreeMap<&'static str, BTreeMap<Ended, u64>>>,
    /// Calls that record a number, by method and number.
    noted: Mutex<HashMap<(&'static str, u64), Ended>>,
    tasks: Mutex<HashMap<String, String>>,
}

type Executed = HashMap<(String, u64), u64>;

impl History {
    /// Records the outcome of a call that records this number.
    pub(crate) fn note(&self, method: &'static str, id: Option<u64>, ended: Ended) {
        *self.calls.lock().entry(method).or_default().entry(ended).or_default() += 1;
        if let Some(id) = id {
            self.noted.lock().insert((method, id), ended);
        }
    }

    /// Records the final state of a task.
    pub(crate) fn task(&self, id: &str, state: &str) {
        self.tasks.lock().insert(id.to_owned(), state.to_owned());
    }

    fn times(executed: &Executed, method: &str, id: u64) -> u64 {
        executed.get(&(method.to_owned(), id)).copied().unwrap_or(0)
    }

    /// Returns the violated promises, one per line.
    pub(crate) fn broken(&self, executed: &Executed, submitted: &[(String, u64)]) -> Vec<String> {
        let mut broken = Vec::new();
        for (method, ends) in &*self.calls.lock() {
            for end in [Ended::Wrong, Ended::Hung] {
                if let Some(count) = ends.get(&end) {
                    broken.push(format!("{count} calls of {method} ended as {end:?}"));
                }
            }
        }
        for ((method, id), ended) in &*self.noted.lock() {
            let times = Self::times(executed, method, *id);
            if times > 1 {
                broken.push(format!("{method}({id}) was carried out {times} times, and ended as {ended:?}"));
            }
            if *ended == Ended::Answered && times == 0 {
                broken.push(format!("{method}({id}) was answered and not carried out"));
            }
            if *ended == Ended::Refused && **method == *"note" && times > 0 {
                broken.push(format!("{method}({id}) was refused and carried out"));
            }
        }
        let tasks = self.tasks.lock();
        for (task, id) in submitted {
            let state = tasks.get(task).map_or("not looked for", |state| state);
            let times = Self::times(executed, "note", *id);
            if state != "succeeded" || times == 0 {
                broken.push(format!(
                    "task {task} was acknowledged, is {state} and was carried out {times} times"
                ));
            }
        }
        broken
    }

    /// Formats a table of all outcomes.
    pub(crate) fn table(
        &self,
        executed: &Executed,
        submitted: &[(String, u64)],
        faults: &[(String, String)],
        messages: &[(&'static str, usize)],
    ) -> String {
        let mut table = String::from("| Fault | |\n|---|---|\n");
        for (fault, count) in faults {
            let _ = writeln!(table, "| {fault} | {count} |");
        }
        table.push_str("\n| Calls | all | answered | refused | outcome unknown | timed out | wrong | hung |\n|---|---|---|---|---|---|---|---|\n");
        for (method, ends) in &*self.calls.lock() {
            let counts = ENDS.map(|end| ends.get(&end).copied().unwrap_or(0));
            let all: u64 = counts.iter().sum();
            let counts = counts.map(|count| count.to_string()).join(" | ");
            let _ = writeln!(table, "| `{method}` | {all} | {counts} |");
        }
        let twice = |wanted: &str| {
            let noted = self.noted.lock();
            let twice = noted
                .keys()
                .filter(|(method, id)| **method == *wanted && Self::times(executed, method, *id) > 1);
            twice.count()
        };
        let lost = submitted.iter().filter(|(_, id)| Self::times(executed, "note", *id) == 0).count();
        let again = submitted.iter().filter(|(_, id)| Self::times(executed, "note", *id) > 1).count();
        let _ = write!(
            table,
            "\n| Promise | |\n|---|---|\n| carried out twice unasked | {} |\n| `once` carried out twice | {} |\n\
             | tasks acknowledged | {} |\n| of them lost | {lost} |\n| of them carried out again, as is said | {again} |\n",
            twice("note"),
            twice("once"),
            submitted.len(),
        );
        for (what, count) in messages {
            let _ = writeln!(table, "| {what} | {count} |");
        }
        table
    }
}
