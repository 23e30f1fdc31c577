//! Results that are secret, such as a password that was drawn: in memory until they are told once, and never on disk.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::task::Task;

/// The most results kept. Beyond it the oldest of the owner who has most is forgotten.
const MOST: usize = 256;
/// How long a result is kept that nobody asks for.
const KEPT: Duration = Duration::from_hours(1);

/// Secret results that have not been told.
#[derive(Default)]
pub(super) struct Secrets {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By the number in which they came.
    results: BTreeMap<u64, Secret>,
    next: u64,
}

struct Secret {
    task: u128,
    owner: Option<String>,
    value: Value,
    until: Instant,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.kept.lock().results.len())
    }
}

impl Secrets {
    /// Keeps the result of a task until it is taken.
    pub(super) fn put(&self, task: &Task, value: Value) {
        let kept = &mut *self.kept.lock();
        let now = Instant::now();
        let id = task.uuid().as_u128();
        kept.results.retain(|_, secret| secret.until > now && secret.task != id);
        if kept.results.len() >= MOST {
            kept.forget_one();
        }
        kept.next += 1;
        let owner = task.owner.as_ref().map(|owner| owner.caller.clone());
        kept.results.insert(kept.next, Secret { task: id, owner, value, until: now + KEPT });
    }

    /// The result of a task, once.
    pub(super) fn take(&self, task: &Task) -> Option<Value> {
        let kept = &mut *self.kept.lock();
        let id = task.uuid().as_u128();
        let number = *kept.results.iter().find(|(_, secret)| secret.task == id)?.0;
        let secret = kept.results.remove(&number)?;
        (secret.until > Instant::now()).then_some(secret.value)
    }
}

impl Kept {
    /// Forgets the oldest of the owner who has most.
    fn forget_one(&mut self) {
        let mut counts: HashMap<Option<&str>, usize> = HashMap::new();
        for secret in self.results.values() {
            *counts.entry(secret.owner.as_deref()).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        let is_of_most = |secret: &Secret| counts.get(&secret.owner.as_deref()) == Some(&most);
        let oldest = self.results.iter().find(|(_, secret)| is_of_most(secret)).map(|(number, _)| *number);
        if let Some(number) = oldest {
            self.results.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::options::Options;
    use crate::owner::Owner;

    fn task(owner: &str) -> Task {
        let task =
            Task::new(Uuid::now_v7(), "pages", "add", json!([]), Options::default(), 0).expect("a task");
        Task { owner: Some(Owner { caller: owner.to_owned(), bytes: 1 }), ..task }
    }

    #[tokio::test(start_paused = true)]
    async fn secret_is_told_once_and_not_for_ever() {
        let secrets = Secrets::default();
        let [first, second] = [task("ada"), task("ada")];
        secrets.put(&first, json!("s3cret"));
        secrets.put(&second, json!("other"));
        assert!(!format!("{secrets:?}").contains("s3cret"));
        assert_eq!(secrets.take(&first), Some(json!("s3cret")));
        assert_eq!(secrets.take(&first), None);
        tokio::time::advance(KEPT).await;
        assert_eq!(secrets.take(&second), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_secrets_of_one_owner_do_not_push_out_those_of_others() {
        let (secrets, honest) = (Secrets::default(), task("honest"));
        secrets.put(&honest, json!(1));
        for number in 0..2 * MOST {
            secrets.put(&task("greedy"), json!(number));
        }
        assert_eq!(secrets.kept.lock().results.len(), MOST);
        assert_eq!(secrets.take(&honest), Some(json!(1)));
    }
}
