//! What each caller holds of the ledger: so that none fills it alone.

use rantai_client::shares::ShareLimits;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

/// A kept task or schedule, with its caller and its size in bytes.
pub(super) const HELD: TableDefinition<'static, (&str, &str), (&str, u64)> = TableDefinition::new("held");
/// How many a caller holds of a kind, and their bytes.
pub(super) const HOLDINGS: TableDefinition<'static, (&str, &str), (u64, u64)> =
    TableDefinition::new("holdings");
/// The row with what all callers hold together; no caller is called so.
const ALL: &str = "";

/// What is kept: tasks, or schedules.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    Tasks,
    Schedules,
}

/// How much is kept of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptLimits {
    pub(crate) count: ShareLimits,
    /// Bytes as they were submitted.
    pub(crate) bytes: ShareLimits,
}

/// Whether the caller may keep more, and whether there is room for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    There,
    /// The caller is over its share.
    OverShare,
    Full,
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Schedules => "schedules",
        }
    }

    /// Looks for room for `more` of `bytes` together, where `taken` are kept. What the ledger makes itself has no caller,
    /// and no share.
    pub(super) fn room(
        self,
        transaction: &WriteTransaction,
        caller: Option<&str>,
        limits: &KeptLimits,
        taken: u64,
        (more, bytes): (u64, u64),
    ) -> Result<Room, redb::Error> {
        let holdings = transaction.open_table(HOLDINGS)?;
        let of = |caller: &str| -> Result<(u64, u64), redb::Error> {
            Ok(holdings.get((self.name(), caller))?.map(|row| row.value()).unwrap_or_default())
        };
        let (_, all_bytes) = of(ALL)?;
        let is_full = taken.saturating_add(more) > limits.count.limit
            || all_bytes.saturating_add(bytes) > limits.bytes.limit;
        if is_full {
            return Ok(Room::Full);
        }
        let Some(caller) = caller else { return Ok(Room::There) };
        let (held, held_bytes) = of(caller)?;
        let admitted =
            limits.count.admits(taken, held, more) && limits.bytes.admits(all_bytes, held_bytes, bytes);
        Ok(if admitted { Room::There } else { Room::OverShare })
    }

    /// Counts items against a caller: each by its name and its bytes.
    pub(super) fn hold<'a>(
        self,
        transaction: &WriteTransaction,
        caller: Option<&str>,
        items: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<(), redb::Error> {
        let Some(caller) = caller else { return Ok(()) };
        let (mut held, mut holdings) = (transaction.open_table(HELD)?, transaction.open_table(HOLDINGS)?);
        let (mut count, mut bytes) = (0_u64, 0_u64);
        for (item, size) in items {
            held.insert((self.name(), item), (caller, size))?;
            (count, bytes) = (count + 1, bytes.saturating_add(size));
        }
        for caller in [caller, ALL] {
            let key = (self.name(), caller);
            let known = holdings.get(key)?.map(|row| row.value()).unwrap_or_default();
            holdings.insert(key, (known.0 + count, known.1.saturating_add(bytes)))?;
        }
        Ok(())
    }

    /// Gives back what an item took; nothing where it was counted against nobody.
    pub(super) fn release(self, transaction: &WriteTransaction, item: &str) -> Result<(), redb::Error> {
        let (mut held, mut holdings) = (transaction.open_table(HELD)?, transaction.open_table(HOLDINGS)?);
        let Some((caller, size)) = held.remove((self.name(), item))?.map(|row| {
            let (caller, size) = row.value();
            (caller.to_owned(), size)
        }) else {
            return Ok(());
        };
        for caller in [&*caller, ALL] {
            let key = (self.name(), caller);
            let (count, bytes) = holdings.get(key)?.map(|row| row.value()).unwrap_or_default();
            if count <= 1 {
                holdings.remove(key)?;
            } else {
                holdings.insert(key, (count - 1, bytes.saturating_sub(size)))?;
            }
        }
        Ok(())
    }
}
