//! Tasks: calls that are stored before they are acknowledged, and carried out when their object is there.
//!
//! | Room | What |
//! |---|---|
//! | [`task`] | What a task is, and what its states are |
//! | `store` | All of them on disk, many writes in one commit |
//! | `runner` | Calls objects when tasks are due, and decides what follows from the answer |
//! | [`ledger`] | The object `tasks` |

pub mod ledger;
mod runner;
mod store;
pub mod task;

pub use ledger::{Ledger, LedgerError};
