//! Records of all users, with a cache of verified passwords.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use ring::hmac::{HMAC_SHA256, Key, Tag, sign, verify};
use ring::rand::SystemRandom;

use crate::record::{HashError, Record};

/// Records by user, and the cache of verified passwords.
#[derive(Debug)]
pub(crate) struct Records {
    users: HashMap<String, Arc<KnownRecord>>,
    /// The same records as a list, from which unknown users get one.
    decoys: Vec<Arc<KnownRecord>>,
    key: Arc<MemoryKey>,
}

/// Key of the cache of verified passwords: random, and only in the memory of this process.
#[derive(Debug)]
pub(crate) struct MemoryKey(Key);

/// Record of a user, and the keyed hash of the password once that was verified.
#[derive(Debug)]
pub(crate) struct KnownRecord {
    record: Record,
    remembered: Mutex<Option<Tag>>,
}

impl MemoryKey {
    pub(crate) fn random() -> Result<Self, HashError> {
        Key::generate(HMAC_SHA256, &SystemRandom::new()).map(Self).map_err(|_| HashError::Random)
    }
}

impl Records {
    pub(crate) fn new(records: HashMap<String, Record>, key: Arc<MemoryKey>) -> Self {
        Self::made_of(records, key, &HashMap::new())
    }

    /// Returns the table for other records; cached passwords are kept for records that have not changed.
    pub(crate) fn replaced_by(&self, records: HashMap<String, Record>) -> Self {
        Self::made_of(records, self.key.clone(), &self.users)
    }

    /// Returns the users that have another record in `later`, or none.
    pub(crate) fn changed_in(&self, later: &Self) -> HashSet<String> {
        let stays = |user: &str, known| later.users.get(user).is_some_and(|later| Arc::ptr_eq(later, known));
        self.users.iter().filter(|(user, known)| !stays(user, known)).map(|(user, _)| user.clone()).collect()
    }

    fn made_of(
        records: HashMap<String, Record>,
        key: Arc<MemoryKey>,
        earlier: &HashMap<String, Arc<KnownRecord>>,
    ) -> Self {
        let users: HashMap<String, Arc<KnownRecord>> = records
            .into_iter()
            .map(|(user, record)| {
                let same = earlier.get(&user).filter(|known| known.record == record).cloned();
                let known =
                    same.unwrap_or_else(|| Arc::new(KnownRecord { record, remembered: Mutex::default() }));
                (user, known)
            })
            .collect();
        let decoys = users.values().cloned().collect();
        Self { users, decoys, key }
    }

    /// Returns the record of a user.
    pub(crate) fn find(&self, user: &str) -> Option<Arc<KnownRecord>> {
        self.users.get(user).cloned()
    }

    /// Returns a record for an unknown user, the same one each time, so that the check takes as long as it could for an
    /// existing user. `None` if there are no users at all.
    pub(crate) fn decoy(&self, user: &str) -> Option<Arc<KnownRecord>> {
        let tag = sign(&self.key.0, user.as_bytes());
        let number = tag.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        let count = self.decoys.len() as u64;
        (count > 0).then(|| self.decoys[(number % count) as usize].clone())
    }

    pub(crate) fn key(&self) -> &Arc<MemoryKey> {
        &self.key
    }
}

impl KnownRecord {
    /// Returns whether this password was verified before.
    pub(crate) fn remembers(&self, password: &[u8], key: &MemoryKey) -> bool {
        // The hash is compared outside the lock, so that other threads do not wait for it.
        let remembered = *self.remembered.lock();
        remembered.is_some_and(|tag| verify(&key.0, password, tag.as_ref()).is_ok())
    }

    pub(crate) fn remember(&self, password: &[u8], key: &MemoryKey) {
        *self.remembered.lock() = Some(sign(&key.0, password));
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }
}
