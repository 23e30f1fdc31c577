//! Tasks: calls that are stored before they are acknowledged, and executed once their object is available.
//!
//! | Module | Contents |
//! |---|---|
//! | [`task`], [`options`] | Tasks, their states, and their options |
//! | [`after`] | Dependencies between tasks, and results that are passed on |
//! | [`schedule`] | Calls that are repeated by a cron expression |
//! | `store` | Storage on disk, with many writes per commit |
//! | `agenda`, `loads`, `turns` | Due tasks, load of each object, and fairness among callers |
//! | `absent` | Tasks that wait for a node |
//! | `timetable`, `scheduler` | Times of schedules, and creation of their tasks |
//! | `progress` | Progress of runs |
//! | `runner`, `executor`, `run` | Connection; start of due tasks; the call and its outcome |
//! | `objects` | Objects that are called, on the bus or in a simulation |
//! | `owner`, `secrets` | Owners of tasks, and results that are returned only once |
//! | `settings` | Configuration in nodes.toml |
//! | [`limits`] | Limits of storage and concurrency |
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
pub use store::LAYOUT as LEDGER_LAYOUT;
