//! Tasks: calls that are stored before they are acknowledged, and carried out when their object is there.
//!
//! | Room | What |
//! |---|---|
//! | [`task`], [`options`] | What a task is, what its states are, and how it is to be carried out |
//! | [`after`] | Tasks that come after others, and what they are given of them |
//! | [`schedule`] | Calls that are made again and again |
//! | `store` | All of them on disk, many writes in one commit |
//! | `agenda`, `loads` | What is due, and how much each object has to do |
//! | `absent` | Whatever waits for a node |
//! | `timetable` | When schedules make their next tasks |
//! | `runner`, `run` | Calls objects when tasks are due, and decides what follows from the answer |
//! | `settings` | What stands of it in nodes.toml |
//! | [`limits`] | How much is kept, and done at the same time |
//! | [`ledger`] | The object `tasks` |

mod absent;
pub mod after;
mod agenda;
pub mod ledger;
pub mod limits;
mod loads;
pub mod options;
mod run;
mod runner;
pub mod schedule;
mod settings;
mod store;
pub mod task;
mod timetable;

pub use ledger::{Ledger, LedgerError, LedgerObject};
pub use limits::Limits;
pub use settings::TaskLedger;
