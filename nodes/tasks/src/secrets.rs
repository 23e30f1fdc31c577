//! Secret results, such as generated passwords: kept in memory until they are returned once, and never on disk.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::task::Task;

/// Maximum size of all results, in bytes of JSON. Beyond it, the oldest result of the owner that holds the most is dropped.
const MAX_BYTES: usize = 16 << 20;
/// Minimum size that a result counts as, in bytes.
const MIN_SECRET_BYTES: usize = 64 << 10;
/// How long a result is kept if it is not requested.
const KEPT_TIME: Duration = Duration::from_hours(1);

/// Secret results that have not been returned.
#[derive(Default)]
pub(super) struct Secrets {
    kept: Mutex<KeptSecrets>,
}

#[derive(Default)]
struct KeptSecrets {
    /// Results by sequence number, in the order of their arrival.
    results: BTreeMap<u64, Secret>,
    next: u64,
}

struct Secret {
    task: u128,
    owner: Option<String>,
    /// Result as JSON text, which needs less memory than a parsed value.
    json: String,
    until: Instant,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.kept.lock().results.len())
    }
}

impl Secrets {
    /// Stores the result of a task until it is taken.
    pub(super) fn put(&self, task: &Task, value: &Value) {
        let kept = &mut *self.kept.lock();
        let now = Instant::now();
        let id = task.uuid().as_u128();
        kept.results.retain(|_, secret| secret.until > now && secret.task != id);
        let owner = task.owner.as_ref().map(|owner| owner.caller.clone());
        let secret = Secret { task: id, owner, json: value.to_string(), until: now + KEPT_TIME };
        while kept.bytes() + secret.bytes() > MAX_BYTES && !kept.results.is_empty() {
            kept.forget_one();
        }
        kept.next += 1;
        kept.results.insert(kept.next, secret);
    }

    /// Removes and returns the result of a task.
    pub(super) fn take(&self, task: &Task) -> Option<Value> {
        let kept = &mut *self.kept.lock();
        let id = task.uuid().as_u128();
        let number = *kept.results.iter().find(|(_, secret)| secret.task == id)?.0;
        let secret = kept.results.remove(&number)?;
        if secret.until <= Instant::now() {
            return None;
        }
        serde_json::from_str(&secret.json).ok()
    }
}

impl Secret {
    /// Returns the size that the result counts as, in bytes.
    fn bytes(&self) -> usize {
        self.json.len().max(MIN_SECRET_BYTES)
    }
}

impl KeptSecrets {
    fn bytes(&self) -> usize {
        self.results.values().map(Secret::bytes).sum()
    }

    /// Drops the oldest result of the owner that holds the most.
    fn forget_one(&mut self) {
        let mut held: HashMap<Option<&str>, usize> = HashMap::new();
        for secret in self.results.values() {
            *held.entry(secret.owner.as_deref()).or_default() += secret.bytes();
        }
        let most = held.values().copied().max().unwrap_or_default();
        let is_of_most = |secret: &Secret| held.get(&secret.owner.as_deref()) == Some(&most);
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
    async fn secret_is_returned_once_and_expires() {
        let secrets = Secrets::default();
        let [first, second] = [task("ada"), task("ada")];
        secrets.put(&first, &json!("s3cret"));
        secrets.put(&second, &json!("other"));
        assert!(!format!("{secrets:?}").contains("s3cret"));
        assert_eq!(secrets.take(&first), Some(json!("s3cret")));
        assert_eq!(secrets.take(&first), None);
        tokio::time::advance(KEPT_TIME).await;
        assert_eq!(secrets.take(&second), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_secrets_of_one_owner_do_not_push_out_those_of_others() {
        let (secrets, honest) = (Secrets::default(), task("honest"));
        secrets.put(&honest, &json!(1));
        let most = MAX_BYTES / MIN_SECRET_BYTES;
        for number in 0..2 * most {
            secrets.put(&task("greedy"), &json!(number));
        }
        assert_eq!(secrets.kept.lock().results.len(), most);
        assert_eq!(secrets.take(&honest), Some(json!(1)));
    }

    /// Regression: 256 results of up to 256 KiB were kept as parsed values, which needed up to a gigabyte.
    #[tokio::test(start_paused = true)]
    async fn large_secrets_are_bounded_in_bytes() {
        let (secrets, honest) = (Secrets::default(), task("honest"));
        secrets.put(&honest, &json!(1));
        for _ in 0..100 {
            secrets.put(&task("greedy"), &json!("x".repeat(250 << 10)));
        }
        assert!(secrets.kept.lock().bytes() <= MAX_BYTES);
        assert_eq!(secrets.take(&honest), Some(json!(1)));
    }
}
