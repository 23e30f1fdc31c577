//! Password records of all users, and their verification.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rantai_credentials::{Busy, Verifier, VerifierLimits};

use crate::addresses::network;
use crate::config::{Limits, User};
use crate::counters::Counters;
use crate::guesses::Attempt;

/// Password records of all users, and the threads that verify passwords. No thread is started before there are users.
#[derive(Debug)]
pub(crate) struct Logins {
    limits: VerifierLimits,
    verifier: RwLock<Option<Verifier>>,
    /// Number of times that the records were replaced.
    generation: AtomicU64,
}

impl Logins {
    pub(crate) fn new(limits: &Limits) -> Self {
        let default = VerifierLimits::default();
        let threads = if limits.password_threads == 0 { default.threads } else { limits.password_threads };
        let limits = VerifierLimits { threads, waiting: limits.password_queue };
        Self { limits, verifier: RwLock::default(), generation: AtomicU64::new(0) }
    }

    /// Sets the records of all users, at the start and whenever they change; starts the threads with the first users.
    /// The cache keeps verified passwords whose records have not changed. Returns the users whose earlier passwords
    /// are no longer valid.
    ///
    /// # Errors
    ///
    /// The system provides no thread or no random bytes; nothing was changed.
    pub(crate) fn replace_records(&self, users: &[User]) -> io::Result<HashSet<String>> {
        let records = users.iter().filter_map(|user| Some((user.name.clone(), user.password.clone()?)));
        let records: HashMap<_, _> = records.collect();
        let mut verifier = self.verifier.write();
        let changed = match &*verifier {
            Some(verifier) => verifier.replace_records(records),
            None if records.is_empty() => HashSet::new(),
            None => {
                *verifier = Some(Verifier::start(records, self.limits)?);
                HashSet::new()
            }
        };
        self.generation.fetch_add(1, Ordering::Relaxed);
        Ok(changed)
    }

    /// Returns a number that changes with the records.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Verifies a password against the user's current record; false if there are no records.
    pub(crate) async fn verify(
        &self,
        attempt: Attempt<'_>,
        password: &[u8],
        counters: &Counters,
    ) -> Result<bool, Busy> {
        loop {
            let generation = self.generation();
            let result = self.verify_once(attempt, password, counters).await;
            // A password may wait for minutes, and is checked against the record at the time of its request.
            if generation == self.generation() {
                return result;
            }
        }
    }

    async fn verify_once(
        &self,
        attempt: Attempt<'_>,
        password: &[u8],
        counters: &Counters,
    ) -> Result<bool, Busy> {
        let Some(verifier) = self.verifier.read().clone() else { return Ok(false) };
        let result = verifier.verify(attempt.user, password, network(attempt.address)).await;
        let counts = verifier.counts();
        // Another task may already have stored a higher count.
        counters.hashed_passwords.fetch_max(counts.hashed, Ordering::Relaxed);
        counters.remembered_passwords.fetch_max(counts.remembered, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use rantai_credentials::{Cost, Record};

    use super::*;

    fn user(password: &str) -> User {
        User::new("ada", Some(Record::new(password.as_bytes(), Cost::LOWEST).expect("hashed")))
    }

    fn attempt() -> Attempt<'static> {
        let address = [127, 0, 0, 1].into();
        Attempt { user: "ada", address, client_id: "x", is_user: true, has_session: false }
    }

    #[tokio::test]
    async fn replaced_records_apply_to_the_next_login() {
        let (logins, counters) = (Logins::new(&Limits::default()), Counters::default());
        let is_right = async |password: &str| logins.verify(attempt(), password.as_bytes(), &counters).await;
        assert_eq!(is_right("old").await, Ok(false), "without users");
        for (users, old, new) in [
            (vec![user("old")], true, false),
            (vec![user("new")], false, true),
            (vec![User::new("ada", None)], false, false),
            (vec![], false, false),
        ] {
            let before = logins.generation();
            logins.replace_records(&users).expect("threads");
            assert_ne!(logins.generation(), before);
            assert_eq!((is_right("old").await, is_right("new").await), (Ok(old), Ok(new)), "{users:?}");
        }
    }

    #[tokio::test]
    async fn a_password_that_waits_while_its_record_is_replaced_is_checked_by_the_new_one() {
        let (logins, counters) = (Logins::new(&Limits::default()), Counters::default());
        let slow = |password: &str| {
            User::new("ada", Some(Record::new(password.as_bytes(), Cost::default()).expect("hashed")))
        };
        logins.replace_records(&[slow("old")]).expect("threads");
        let (checked, replaced) = tokio::join!(
            biased;
            logins.verify(attempt(), b"old", &counters),
            async { logins.replace_records(&[user("new")]) },
        );
        assert_eq!((checked, replaced.is_ok()), (Ok(false), true));
    }
}
