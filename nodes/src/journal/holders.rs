//! Counts the journal's calls of each caller, so that no caller fills the journal alone.
//!
//! The counts are kept in memory, and computed again when the file is opened.

use std::collections::HashMap;

use parking_lot::Mutex;
use rantai_client::shares::{CallerKey, ShareLimits, ShareLog};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

/// Identity to the name of its caller. Calls recorded by earlier versions have no row, and count against no caller.
pub(super) const CALLERS: TableDefinition<'static, &[u8], &str> = TableDefinition::new("callers");

/// Number of calls that each caller has in the journal.
#[derive(Debug)]
pub(super) struct Holders {
    limits: ShareLimits,
    held: Mutex<HashMap<String, u64>>,
    log: ShareLog,
}

/// Changes that a commit makes to the counts.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Option<String>,
    pub(super) removed: Vec<String>,
}

impl Holders {
    pub(super) fn new(limits: ShareLimits) -> Self {
        Self { limits, held: Mutex::default(), log: ShareLog::default() }
    }

    /// Counts all rows of a file, when it is opened.
    pub(super) fn count(
        &self,
        callers: &impl ReadableTable<&'static [u8], &'static str>,
    ) -> Result<(), redb::Error> {
        let mut held = self.held.lock();
        for row in callers.iter()? {
            *held.entry(row?.1.value().to_owned()).or_default() += 1;
        }
        Ok(())
    }

    /// Checks whether a caller may add another call to a journal that holds `taken` calls.
    pub(super) fn admits(&self, caller: &str, taken: u64) -> bool {
        let held = self.held.lock().get(caller).copied().unwrap_or_default();
        self.limits.admits(taken, held, 1)
    }

    /// Logs that a caller was refused.
    pub(super) fn refused(&self, caller: &CallerKey) {
        self.log.refused("the calls that the journal keeps", caller);
    }

    /// Applies the changes of a commit that is on disk.
    pub(super) fn committed(&self, changes: &Changes) {
        let mut held = self.held.lock();
        if let Some(caller) = &changes.added {
            *held.entry(caller.clone()).or_default() += 1;
        }
        for caller in &changes.removed {
            if let Some(count) = held.get_mut(caller) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    held.remove(caller);
                }
            }
        }
    }
}

/// Removes the row of a call that is removed from the journal.
pub(super) fn forget(
    transaction: &WriteTransaction,
    identity: &[u8],
    changes: &mut Changes,
) -> Result<(), redb::Error> {
    let mut callers = transaction.open_table(CALLERS)?;
    changes.removed.extend(callers.remove(identity)?.map(|caller| caller.value().to_owned()));
    Ok(())
}
