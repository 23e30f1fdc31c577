//! Whose a task is.

use serde::{Deserialize, Serialize};

/// Whose a task or schedule is. Stands on disk, and is told to nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) caller: String,
    /// Bytes that it counts as against its caller's share; 0 for what the ledger makes itself, for schedules: it is not
    /// counted.
    pub(crate) bytes: u64,
}
