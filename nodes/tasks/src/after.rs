//! Dependencies between tasks, and results that are passed from one task to another.
//!
//! In the parameters of a task with dependencies, `{"$result": 0}` is replaced by the result of its first dependency, and
//! `{"$outcome": 0}` by an [`Outcome`]; `"all"` in place of the number stands for the list of all of them, in order.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json::levels;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::task::{MAX_DEPTH, MAX_PARAMS_BYTES, State, Task};

const RESULT: &str = "$result";
const OUTCOME: &str = "$outcome";
const ALL: &str = "all";

/// Condition on the dependencies of a task, under which it may begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// All dependencies have succeeded. If one has not, the task fails with the kind `dependency_failed`.
    #[default]
    Succeeded,
    /// All dependencies have ended, in any state.
    Ended,
}

/// Outcome of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Id of the task.
    pub id: String,
    /// Final state.
    pub state: State,
    /// Result, if the task has succeeded.
    pub result: Option<Value>,
    /// Error, if the task has failed.
    pub error: Option<Value>,
}

/// Placeholder for a result or an outcome; `None` stands for those of all dependencies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Placeholder {
    Result(Option<usize>),
    Outcome(Option<usize>),
}

impl Placeholder {
    /// Parses an object with a single member as a placeholder. `None` if it is not one, and an error if its value is not valid.
    fn of(members: &Map<String, Value>) -> Option<Result<Self, Fault>> {
        let (name, value) = members.iter().next().filter(|_| members.len() == 1)?;
        let place = match &**name {
            RESULT => Self::Result,
            OUTCOME => Self::Outcome,
            _ => return None,
        };
        let index = value.as_u64().and_then(|index| usize::try_from(index).ok());
        Some(match index {
            Some(index) => Ok(place(Some(index))),
            None if value == ALL => Ok(place(None)),
            None => Err(Fault::wrong_parameter("params", &format!("{name}: a number from 0, or {ALL:?}"))),
        })
    }

    fn index(self) -> Option<usize> {
        match self {
            Self::Result(index) | Self::Outcome(index) => index,
        }
    }
}

/// Checks that each placeholder in `params` refers to one of the `before` dependencies. If there are none, placeholders
/// are ordinary values.
pub(super) fn check(params: &Value, before: usize) -> Result<(), Fault> {
    if before == 0 {
        return Ok(());
    }
    match params {
        Value::Array(items) => items.iter().try_for_each(|item| check(item, before)),
        Value::Object(members) => match Placeholder::of(members) {
            Some(place) => match place?.index() {
                Some(index) if index >= before => {
                    let expected =
                        format!("a result of the {before} tasks in options.after, not number {index}");
                    Err(Fault::wrong_parameter("params", &expected))
                }
                _ => Ok(()),
            },
            None => members.values().try_for_each(|value| check(value, before)),
        },
        _ => Ok(()),
    }
}

/// Outcomes of the dependencies that the parameters refer to.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    known: BTreeMap<usize, Outcome>,
    /// Remaining size for results, in bytes of JSON.
    left: usize,
}

impl Outcomes {
    /// Reads the outcomes that `params` refer to. `read` returns the dependency with an index below `count`.
    ///
    /// # Errors
    ///
    /// The results are larger than a task's parameters may be, or `read` fails.
    pub(super) fn gather<E: From<Fault>>(
        params: &Value,
        count: usize,
        mut read: impl FnMut(usize) -> Result<Task, E>,
    ) -> Result<Self, E> {
        let mut wanted = Vec::new();
        places(params, &mut wanted);
        let all = wanted.iter().any(|place| place.index().is_none());
        let mut outcomes = Self { known: BTreeMap::new(), left: MAX_PARAMS_BYTES };
        let single: Vec<usize> = wanted.iter().filter_map(|place| place.index()).collect();
        for index in (0..count).filter(|index| all || single.contains(index)) {
            let Task { id, state, result, error, .. } = read(index)?;
            let outcome = Outcome { id, state, result, error };
            outcomes.take(size(&json!(outcome.result)))?;
            outcomes.known.insert(index, outcome);
        }
        outcomes.left = MAX_PARAMS_BYTES;
        Ok(outcomes)
    }

    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| Fault {
            message: "the results it is given are too large".to_owned(),
            ..Fault::too_large(MAX_PARAMS_BYTES)
        })?;
        Ok(())
    }

    /// Replaces the placeholders in `params`.
    ///
    /// # Errors
    ///
    /// The parameters become larger or deeper than a task's parameters may be.
    pub(super) fn fill(&mut self, params: Value) -> Result<Value, Fault> {
        let whole = matches!(&params, Value::Object(members) if Placeholder::of(members).is_some());
        let mut filled = self.put(params)?;
        if whole && filled.is_null() {
            // A bare null would stand for no parameters.
            filled = json!([null]);
        }
        if levels(&filled) > MAX_DEPTH {
            let text =
                format!("with the results it is given, its parameters have more than {MAX_DEPTH} levels");
            return Err(Fault::new(Code::NOT_A_REQUEST, text));
        }
        Ok(filled)
    }

    fn put(&mut self, params: Value) -> Result<Value, Fault> {
        Ok(match params {
            Value::Array(items) => {
                Value::Array(items.into_iter().map(|item| self.put(item)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => match Placeholder::of(&members) {
                Some(place) => self.at(place?)?,
                None => Value::Object(
                    members
                        .into_iter()
                        .map(|(name, value)| Ok((name, self.put(value)?)))
                        .collect::<Result<_, Fault>>()?,
                ),
            },
            other => {
                self.take(size(&other))?;
                other
            }
        })
    }

    fn at(&mut self, place: Placeholder) -> Result<Value, Fault> {
        let one = |outcome: &Outcome| match place {
            Placeholder::Result(_) => json!(outcome.result),
            Placeholder::Outcome(_) => json!(outcome),
        };
        let value = match place.index() {
            Some(index) => self.known.get(&index).map(one).unwrap_or_default(),
            None => Value::Array(self.known.values().map(one).collect()),
        };
        self.take(size(&value))?;
        Ok(value)
    }
}

/// Returns whether the parameters contain placeholders.
pub(super) fn refers(params: &Value) -> bool {
    let mut found = Vec::new();
    places(params, &mut found);
    !found.is_empty()
}

fn places(params: &Value, found: &mut Vec<Placeholder>) {
    match params {
        Value::Array(items) => items.iter().for_each(|item| places(item, found)),
        Value::Object(members) => match Placeholder::of(members) {
            Some(place) => found.extend(place.ok()),
            None => members.values().for_each(|value| places(value, found)),
        },
        _ => {}
    }
}

fn size(value: &Value) -> usize {
    value.to_string().len()
}

/// Tasks that wait for others, by the task that each waits for at the moment. Kept in memory only: the executor checks
/// the dependencies again after a restart.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_task: Mutex<HashMap<u128, Vec<(Uuid, usize)>>>,
}

impl Waiting {
    /// Adds `task` as waiting for `before`, its dependency with this index.
    pub(super) fn add(&self, before: Uuid, task: Uuid, index: usize) {
        self.by_task.lock().entry(before.as_u128()).or_default().push((task, index));
    }

    /// Removes `task` from those that wait for `before`; returns false if it was removed before.
    pub(super) fn take_back(&self, before: Uuid, task: Uuid) -> bool {
        let mut by_task = self.by_task.lock();
        let Some(waiting) = by_task.get_mut(&before.as_u128()) else { return false };
        let place = waiting.iter().position(|(other, _)| *other == task);
        if let Some(place) = place {
            waiting.swap_remove(place);
        }
        if waiting.is_empty() {
            by_task.remove(&before.as_u128());
        }
        place.is_some()
    }

    /// Removes and returns the tasks that wait for `before`, each with its index among their dependencies.
    pub(super) fn take(&self, before: Uuid) -> Vec<(Uuid, usize)> {
        self.by_task.lock().remove(&before.as_u128()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use rantai_client::wire;

    use super::super::options::Options;
    use super::*;

    fn ended(result: Value) -> Task {
        let mut task =
            Task::new(Uuid::now_v7(), "pages", "add", json!([]), Options::default(), 0).expect("a task");
        task.result = Some(result);
        task.end(State::Succeeded, 1);
        task
    }

    fn filled(params: &Value, results: &[Value]) -> Result<Value, Fault> {
        check(params, results.len())?;
        let mut outcomes =
            Outcomes::gather(params, results.len(), |index| Ok::<_, Fault>(ended(results[index].clone())))?;
        outcomes.fill(params.clone())
    }

    #[test]
    fn placeholders_are_replaced_by_results() {
        let results = [json!(7), json!("x"), json!([1]), json!(null)];
        for (params, expected) in [
            (json!([{"$result": 0}, 2]), json!([7, 2])),
            (json!({"x": {"y": [{"$result": 1}]}}), json!({"x": {"y": ["x"]}})),
            (json!({"$result": 2}), json!([1])),
            (json!([{"$result": "all"}]), json!([[7, "x", [1], null]])),
            (json!([{"$result": 0}, {"$result": 0}]), json!([7, 7])),
            (json!({"$result": 3}), json!([null])),
            (json!([{"$result": 3}, {"x": {"$result": 3}}]), json!([null, {"x": null}])),
            (json!([{"$result": 0, "b": 1}, "$result"]), json!([{"$result": 0, "b": 1}, "$result"])),
        ] {
            assert_eq!(filled(&params, &results), Ok(expected), "{params}");
        }
        let outcome = filled(&json!([{"$outcome": 1}]), &results).expect("filled");
        assert_eq!((&outcome[0]["state"], &outcome[0]["result"]), (&json!("succeeded"), &json!("x")));
        assert!(filled(&json!([{"$outcome": "all"}]), &results).expect("filled")[0][2]["id"].is_string());
    }

    #[test]
    fn placeholders_for_missing_dependencies_are_refused() {
        for params in [
            json!([{"$result": 1}]),
            json!([{"$result": -1}]),
            json!([{"$result": "first"}]),
            json!({"x": [{"$outcome": null}]}),
        ] {
            assert!(check(&params, 1).is_err(), "{params}");
            assert_eq!(
                check(&params, 0),
                Ok(()),
                "it comes after nothing, so this is what it says: {params}"
            );
        }
    }

    #[test]
    fn waiting_tasks_are_released_once() {
        let (waiting, before, [a, b]) =
            (Waiting::default(), Uuid::new_v4(), [Uuid::new_v4(), Uuid::new_v4()]);
        waiting.add(before, a, 0);
        waiting.add(before, b, 3);
        assert!(waiting.take_back(before, a), "and the other still waits");
        assert!(!waiting.take_back(before, a));
        assert_eq!(waiting.take(before), [(b, 3)]);
        assert!(!waiting.take_back(before, b));
        assert!(waiting.by_task.lock().is_empty());
    }

    #[test]
    fn filled_parameters_have_limited_depth() {
        let nested = |levels: usize, inner: Value| (0..levels).fold(inner, |value, _| json!([value]));
        let given = |levels| filled(&nested(levels, json!({"$outcome": "all"})), &[nested(40, json!(1))]);
        // The list and the outcome each count as a level of nesting.
        let mut task =
            Task::new(Uuid::now_v7(), "pages", "add", json!([]), Options::default(), 0).expect("a task");
        task.params = given(21).expect("63 levels, and the task around them");
        assert!(wire::json::read(task_as_json(&task).as_bytes()).is_ok());
        assert_eq!(given(22).expect_err("64 levels").code, Code::NOT_A_REQUEST);
        assert!(given(62).is_err());
    }

    fn task_as_json(task: &Task) -> String {
        serde_json::to_string(task).expect("JSON")
    }

    #[test]
    fn filled_parameters_have_a_limited_size() {
        let large = json!("x".repeat(MAX_PARAMS_BYTES / 2));
        assert!(filled(&json!([{"$result": 0}]), std::slice::from_ref(&large)).is_ok());
        let places: Vec<Value> = (0..3).map(|_| json!({"$result": 0})).collect();
        assert!(filled(&json!(places), std::slice::from_ref(&large)).is_err());
        assert!(filled(&json!([{"$result": "all"}]), &[large.clone(), large.clone(), large]).is_err());
    }
}
