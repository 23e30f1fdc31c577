//! Amounts that each caller holds of the ledger, so that none fills it alone.
//!
//! The owner of a task or schedule is stored in its row. The sums are kept in memory, and computed again when the file
//! is opened.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_client::shares::ShareLimits;
use redb::{Key, ReadableTable};
use serde::Deserialize;

use crate::owner::Owner;

/// Kind of what is kept: tasks, or schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kept {
    Tasks,
    Schedules,
}

/// Limits of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptLimits {
    pub(crate) count: ShareLimits,
    /// Size as submitted, in bytes.
    pub(crate) bytes: ShareLimits,
}

/// Result of checking for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    There,
    /// The caller is over its share.
    OverShare,
    Full,
}

/// Number of items, and their size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, more: Self) {
        self.count = self.count.saturating_add(more.count);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    fn sub(&mut self, less: Self) {
        self.count = self.count.saturating_sub(less.count);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
}

/// Amounts that all callers hold.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    kinds: Mutex<HashMap<Kept, ByCaller>>,
}

#[derive(Debug, Default)]
struct ByCaller {
    all: Amount,
    callers: HashMap<String, Amount>,
}

/// Amount that a write in progress adds; released on drop, unless it is [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct Reserved {
    holdings: Arc<Holdings>,
    kept: Kept,
    caller: String,
    amount: Amount,
}

/// Slot for the reservation of a write. A write that is run again replaces the reservation of its earlier run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservation(Arc<Mutex<Option<Reserved>>>);

impl Reservation {
    /// Releases the reservation of an earlier run, when the write is run again.
    pub(crate) fn clear(&self) {
        drop(self.0.lock().take());
    }

    pub(crate) fn set(&self, reserved: Option<Reserved>) {
        *self.0.lock() = reserved;
    }

    /// Keeps the reservation, because the write is on disk.
    pub(crate) fn keep(&self) {
        if let Some(reserved) = self.0.lock().take() {
            reserved.keep();
        }
    }
}

impl Holdings {
    /// Checks for room for `more` items, if `taken` are kept. Tasks that the ledger creates by itself have no caller
    /// and no share.
    pub(crate) fn room(
        &self,
        kept: Kept,
        caller: Option<&str>,
        limits: &KeptLimits,
        taken: u64,
        more: Amount,
    ) -> Room {
        let kinds = self.kinds.lock();
        let known = kinds.get(&kept);
        let all_bytes = known.map_or(0, |known| known.all.bytes);
        let is_full = taken.saturating_add(more.count) > limits.count.limit
            || all_bytes.saturating_add(more.bytes) > limits.bytes.limit;
        if is_full {
            return Room::Full;
        }
        let Some(caller) = caller else { return Room::There };
        let held = known.and_then(|known| known.callers.get(caller)).copied().unwrap_or_default();
        let admitted = limits.count.admits(taken, held.count, more.count)
            && limits.bytes.admits(all_bytes, held.bytes, more.bytes);
        if admitted { Room::There } else { Room::OverShare }
    }

    /// Checks for room for `more` bytes of an item that is kept already.
    pub(crate) fn room_for_bytes(&self, kept: Kept, caller: &str, limits: &ShareLimits, more: u64) -> Room {
        let kinds = self.kinds.lock();
        let known = kinds.get(&kept);
        let all = known.map_or(0, |known| known.all.bytes);
        let held = known.and_then(|known| known.callers.get(caller)).map_or(0, |held| held.bytes);
        match all.saturating_add(more) {
            bytes if bytes > limits.limit => Room::Full,
            _ if more > 0 && !limits.admits(all, held, more) => Room::OverShare,
            _ => Room::There,
        }
    }

    /// Counts an amount against a caller, until it is known whether the write that adds it is on disk.
    pub(crate) fn reserve(self: &Arc<Self>, kept: Kept, caller: &str, amount: Amount) -> Reserved {
        self.add(kept, caller, amount);
        Reserved { holdings: self.clone(), kept, caller: caller.to_owned(), amount }
    }

    /// Releases the amount of an item that is no longer kept.
    pub(crate) fn release(&self, kept: Kept, owner: &Owner) {
        if let Some(amount) = owner.amount() {
            self.sub(kept, &owner.caller, amount);
        }
    }

    /// Counts all rows of a table.
    pub(crate) fn count<K: Key + 'static>(
        &self,
        kept: Kept,
        table: &impl ReadableTable<K, &'static [u8]>,
    ) -> Result<(), redb::Error> {
        for row in table.iter()? {
            let (_, bytes) = row?;
            let owned = serde_json::from_slice(bytes.value()).unwrap_or(Owned { owner: None });
            if let Some(owner) = owned.owner
                && let Some(amount) = owner.amount()
            {
                self.add(kept, &owner.caller, amount);
            }
        }
        Ok(())
    }

    /// Returns the amounts that each caller holds of a kind.
    pub(crate) fn held(&self, kept: Kept) -> Vec<(String, Amount)> {
        let kinds = self.kinds.lock();
        let callers = kinds.get(&kept).into_iter().flat_map(|known| &known.callers);
        callers.map(|(caller, amount)| (caller.clone(), *amount)).collect()
    }

    fn add(&self, kept: Kept, caller: &str, amount: Amount) {
        let mut kinds = self.kinds.lock();
        let known = kinds.entry(kept).or_default();
        known.all.add(amount);
        match known.callers.get_mut(caller) {
            Some(held) => held.add(amount),
            None => {
                known.callers.insert(caller.to_owned(), amount);
            }
        }
    }

    fn sub(&self, kept: Kept, caller: &str, amount: Amount) {
        let mut kinds = self.kinds.lock();
        let Some(known) = kinds.get_mut(&kept) else { return };
        known.all.sub(amount);
        if let Some(held) = known.callers.get_mut(caller) {
            held.sub(amount);
            if held.count == 0 {
                known.callers.remove(caller);
            }
        }
    }
}

impl Reserved {
    /// Keeps the amount, because the write is on disk.
    fn keep(mut self) {
        self.amount = Amount::default();
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.amount != Amount::default() {
            self.holdings.sub(self.kept, &self.caller, self.amount);
        }
    }
}

/// Part of a row that names its owner.
#[derive(Deserialize)]
struct Owned {
    owner: Option<Owner>,
}

impl Owner {
    /// Returns the amount that the item counts as.
    pub(crate) fn amount(&self) -> Option<Amount> {
        (self.bytes > 0).then_some(Amount { count: 1, bytes: self.bytes })
    }
}
