//! Tasks: calls that are stored before they are acknowledged, and carried out when their object is there.
//!
//! | Room | What |
//! |---|---|
//! | [`task`], [`options`] | What a task is, what its states are, and how it is to be carried out |
//! | [`after`] | Tasks that come after others, and what they are given of them |
//! | [`schedule`] | Calls that are made again and again |
//! | `store` | All of them on disk, many writes in one commit |
//! | `agenda`, `loads`, `turns` | What is due, how much each object has to do, and whose turn it is |
//! | `absent` | Whatever waits for a node |
//! | `timetable`, `scheduler` | When schedules make their next tasks, and making them |
//! | `progress` | How far runs are |
//! | `runner`, `executor`, `run` | Connects; begins tasks when they are due; calls them, and decides what follows |
//! | `objects` | The objects that are called: on the bus, or in a simulation |
//! | `owner`, `secrets` | Whose tasks are, and results that are told once |
//! | `settings` | What stands of it in nodes.toml |
//! | [`limits`] | How much is kept, and done at the same time |
//! | [`ledger`], `interface`, `methods`, `shared` | The object `tasks`: opening and serving it, its interface, its methods, its state |

mod absent;
pub mod after;
mod agenda;
mod executor;
mod interface;
pub mod ledger;
pub mod limits;
mod loads;
mod methods;
mod objects;
pub mod options;
mod owner;
mod progress;
mod run;
mod runner;
pub mod schedule;
mod scheduler;
mod secrets;
mod settings;
mod shared;
#[cfg(test)]
mod simulation;
mod store;
pub mod task;
mod timetable;
mod turns;

pub use ledger::{Ledger, LedgerError, LedgerObject};
pub use limits::Limits;
pub use settings::TaskLedger;
