//! Progress of running tasks. Uses the clock of tokio, which tests can pause.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::object::Progress;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::task::Task;

/// Minimum interval between two events about one run.
const EVENT_INTERVAL: Duration = Duration::from_millis(200);

/// Latest progress of each run, by the identity of its call.
#[derive(Debug, Default)]
pub(super) struct RunProgress {
    runs: Mutex<HashMap<u128, Reported>>,
}

#[derive(Debug)]
struct Reported {
    task: String,
    progress: Option<Progress>,
    /// Time of the latest event, or of the start of the run.
    event_at: Instant,
}

impl RunProgress {
    /// Starts to accept reports of the task's current run.
    pub(super) fn begin(&self, task: &Task) {
        let reported = Reported { task: task.id.clone(), progress: None, event_at: Instant::now() };
        self.runs.lock().insert(task.identity().as_u128(), reported);
    }

    /// Removes the task's current run.
    pub(super) fn end(&self, task: &Task) {
        self.runs.lock().remove(&task.identity().as_u128());
    }

    /// Returns the latest report of the task's current run.
    pub(super) fn of(&self, task: &Task) -> Option<Progress> {
        self.runs.lock().get(&task.identity().as_u128()).and_then(|reported| reported.progress.clone())
    }

    /// Stores a report. Returns the event to emit, at most five times per second for each run.
    pub(super) fn report(&self, identity: u128, progress: Progress) -> Option<Value> {
        let mut runs = self.runs.lock();
        let reported = runs.get_mut(&identity)?;
        let now = Instant::now();
        let event = (now.duration_since(reported.event_at) >= EVENT_INTERVAL).then(|| {
            reported.event_at = now;
            let Progress { done, total, text } = &progress;
            json!({"id": reported.task, "done": done, "total": total, "text": text})
        });
        reported.progress = Some(progress);
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use tokio::time::advance;
    use uuid::Uuid;

    #[tokio::test(start_paused = true)]
    async fn every_progress_report_is_kept_and_five_per_second_are_emitted() {
        let runs = RunProgress::default();
        let task =
            Task::new(Uuid::now_v7(), "pages", "add", json!([]), Options::default(), 0).expect("a task");
        let report = |done| {
            let progress = Progress { done, total: 100, text: String::new() };
            runs.report(task.identity().as_u128(), progress).is_some()
        };
        assert!(!report(1), "it has not begun");
        runs.begin(&task);
        let mut events = 0;
        for done in 0..100 {
            advance(Duration::from_millis(10)).await;
            events += usize::from(report(done));
        }
        assert_eq!((events, runs.of(&task).map(|progress| progress.done)), (5, Some(99)));
        runs.end(&task);
        assert!(runs.of(&task).is_none() && !report(100));
    }
}
