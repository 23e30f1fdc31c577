//! Shared and exclusive locks by name. An operation locks what it uses; conflicting requests are refused, not queued.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Table of locked names.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks {
    held: Arc<Mutex<HashMap<String, Held>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Locked exclusively, by an operation that changes it.
    Alone,
    /// Locked by this number of operations that read it.
    Together(usize),
}

/// Lock that an operation needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) name: String,
    pub(super) alone: bool,
}

impl Need {
    pub(super) fn alone(name: String) -> Self {
        Self { name, alone: true }
    }

    pub(super) fn together(name: String) -> Self {
        Self { name, alone: false }
    }
}

/// Locks of an operation, released on drop.
#[derive(Debug)]
pub(super) struct Guard {
    locks: Locks,
    needs: Vec<Need>,
}

impl Locks {
    /// Locks all names, or returns the first name that is locked by another operation.
    pub(super) fn take(&self, needs: Vec<Need>) -> Result<Guard, String> {
        let mut held = self.held.lock();
        let free = |need: &Need| match held.get(&need.name) {
            None => true,
            Some(Held::Together(_)) => !need.alone,
            Some(Held::Alone) => false,
        };
        if let Some(taken) = needs.iter().find(|need| !free(need)) {
            return Err(taken.name.clone());
        }
        for need in &needs {
            let now = match held.get(&need.name) {
                _ if need.alone => Held::Alone,
                Some(Held::Together(count)) => Held::Together(count + 1),
                _ => Held::Together(1),
            };
            held.insert(need.name.clone(), now);
        }
        Ok(Guard { locks: self.clone(), needs })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut held = self.locks.held.lock();
        for need in &self.needs {
            match held.get_mut(&need.name) {
                Some(Held::Together(count)) if *count > 1 => *count -= 1,
                _ => {
                    held.remove(&need.name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_locks_coexist_and_exclusive_locks_do_not() {
        let locks = Locks::default();
        let alone = |name: &str| Need::alone(name.to_owned());
        let together = |name: &str| Need::together(name.to_owned());
        let first = locks.take(vec![alone("node a"), together("image x")]).expect("free");
        let second = locks.take(vec![alone("node b"), together("image x")]).expect("another node");
        assert_eq!(locks.take(vec![alone("node a")]).map(drop), Err("node a".to_owned()));
        assert_eq!(locks.take(vec![alone("node c"), alone("image x")]).map(drop), Err("image x".to_owned()));
        drop(first);
        assert!(locks.take(vec![alone("image x")]).is_err(), "the second still reads it");
        drop(second);
        let third = locks.take(vec![alone("image x"), alone("node c")]).expect("nobody is there");
        assert!(locks.take(vec![together("image x")]).is_err());
        drop(third);
        assert!(locks.held.lock().is_empty());
    }
}
